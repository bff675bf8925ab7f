"""What the first kernel imports of numba and of others, and that those who come after find everything."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ENCODE = """
import gc, sys
import numpy as np, qxmix
qxmix.quantize(np.ones((8, 256), np.float32), "Q8_KV")
"""
NEEDLESS = (
    "cffi", "html", "importlib.metadata", "numba.cpython.listobj", "numba.np.npyfuncs", "numba.np.npyimpl", "numpy.ma",
    "uuid", "yaml",
)  # fmt: skip


def run(code: str, folder: Path, **environment: str) -> str:
    """What a new process without compiled kernels prints."""
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(folder / "kernels"), **environment}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.stderr == ""
    return done.stdout.strip()


def test_the_first_kernel_imports_no_more_than_it_needs(tmp_path: Path) -> None:
    assert run(f"{ENCODE}print([name for name in {NEEDLESS} if name in sys.modules], gc.isenabled())", tmp_path) == (
        "[] True"
    )


@pytest.mark.parametrize("before", ["", "import importlib.metadata, uuid, yaml\nthere = yaml, uuid\n"])
def test_what_stood_aside_for_numba_is_imported_by_others(before: str, tmp_path: Path) -> None:
    after = """
import html, importlib.metadata, uuid, yaml
assert globals().get("there", (yaml, uuid)) == (yaml, uuid)
import numba.core.config, numba.core.dispatcher, numba.core.codegen
real = yaml.safe_load("a: 1")["a"], html.escape("<"), importlib.metadata.version("numba") == numba.__version__
late = [numba.core.config.yaml.safe_load("b: 2")["b"], numba.core.dispatcher.uuid.uuid4().version]
print(*real, *late, type(yaml).__name__, numba.core.config.yaml.nodes is yaml.nodes)
"""
    assert run(before + ENCODE + after, tmp_path) == "1 &lt; True 2 4 module True"


def test_numbas_file_of_settings_is_heeded(tmp_path: Path) -> None:
    (tmp_path / ".numba_config.yaml").write_text('opt: "2"\n')
    assert run(ENCODE + "import numba; print(int(numba.config.OPT))", tmp_path) == "2"


def test_frozen_objects_stay_frozen(tmp_path: Path) -> None:
    code = f"import gc; gc.freeze(); n = gc.get_freeze_count()\n{ENCODE}print(0 < gc.get_freeze_count() <= n)"
    assert run(code, tmp_path) == "True"


def test_extensions_of_numba_are_left_to_numba(tmp_path: Path) -> None:
    """An extension is initialized when numba compiles something itself, and not by a kernel."""
    info = tmp_path / "ext-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: ext\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[numba_extensions]\ninit = ext:init\n")
    (tmp_path / "ext.py").write_text("def init():\n    print('initialized')\n")
    code = f"{ENCODE}print('kernel')\nimport numba; print(numba.njit(lambda: 3)())"
    path = os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])
    assert run(code, tmp_path, PYTHONPATH=path).split() == ["kernel", "initialized", "3"]
