"""What a figure depends on beside the code: facts of the machine that stand in every file of figures."""

from __future__ import annotations

import json
import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import llvmlite.binding as llvm

if TYPE_CHECKING:
    from collections.abc import Sequence

PACKAGES = ("numpy", "numba", "llvmlite", "ik-llama-cpp-python", "xllamacpp")
WIDTHS = {"avx512f": 512, "avx2": 256}
"""Bits of the widest registers that compiled kernels use, by the processor's flag."""


CPUINFO = Path("/proc/cpuinfo")


def _model_name() -> str:
    """The processor's name as Linux tells it; that of its family where it does not, as on ARM64."""
    lines = CPUINFO.read_text().splitlines() if CPUINFO.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def facts() -> dict[str, object]:
    """Processor, what kernels are compiled for, and versions."""
    features = sorted(name for name, has in llvm.get_host_cpu_features().items() if has)
    return {
        "processor": _model_name(),
        "compiled_for": llvm.get_host_cpu_name(),
        "features": features,
        "vector_bits": max([128, *(bits for flag, bits in WIDTHS.items() if flag in features)]),
        "n_processors": os.cpu_count(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in PACKAGES},
    }


def write_run(path: Path, bench: str, settings: dict[str, Any], results: Sequence[dict[str, Any]], key: str) -> None:
    """Write the figures of a bench, beside what they depend on.

    Figures of other subjects, told apart by ``key``, stay in the file if they are of the same bench, machine and
    settings: a few types can be measured anew.
    """
    run = {"bench": bench, "machine": facts(), "settings": settings}
    old = json.loads(path.read_text()) if path.exists() else {}
    done = {result[key] for result in results}
    same = all(old.get(name) == value for name, value in json.loads(json.dumps(run)).items())
    kept = [result for result in old.get("results", ()) if result[key] not in done] if same else []
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({**run, "results": [*kept, *results]}, indent=1) + "\n")
