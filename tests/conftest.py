"""Fixtures that several folders of tests share: the demo models and their importance matrices."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

from qxmix.demo import make_demo_imatrix, make_demo_model
from qxmix.quants.kernels import machine_code

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from qxmix.quants.compiling.compiler import Compiled

TESTS = Path(__file__).parent

# The same examples in every run: a check that fails must fail again when it is looked at.  No deadline, since the first
# example of a kernel compiles it.
settings.register_profile("qxmix", derandomize=True, deadline=None)
settings.load_profile("qxmix")


LONG = (
    "quants/test_contract.py", "quants/test_bounds.py", "quants/test_warmup.py", "cli/test_measure.py",
    "execute/test_executors.py", "engines/test_smollm2.py", "test_fuzz.py", "execute/test_resume.py",
    "quants/test_versions.py", "engines/test_written_files.py",
)  # fmt: skip
"""Files that take minutes, in the order in which processes get them: first, so that all end together.

``test_contract`` and ``test_written_files`` compile the same kernels; side by side both compiled each of them.
"""

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # As behind `&` in a script: processes that tests start and interrupt would be deaf to it, too.
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Fast tests first; where processes share the files out, those that take long before all."""

    def key(item: pytest.Item) -> tuple[int, bool]:
        name = item.path.relative_to(TESTS).as_posix()
        long = "PYTEST_XDIST_WORKER" in os.environ and name in LONG
        return LONG.index(name) if long else len(LONG), item.get_closest_marker("slow") is not None

    items.sort(key=key)


@pytest.fixture(scope="session", autouse=True)
def every_kernel_is_kept() -> Iterator[None]:
    """Fail where a kernel of the package calls what its file cannot refer to: every process would compile it anew."""
    keep = machine_code.keep

    def checked(path: Path, kinds: tuple[str, ...], compiled: Compiled) -> Callable[..., None] | None:
        made = keep(path, kinds, compiled)
        assert made is not None or not compiled.symbol.startswith("_ZN5qxmix"), f"{compiled.symbol} is not kept"
        return made

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(machine_code, "keep", checked)
        yield


@pytest.fixture(scope="session")
def demo_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The dense demo model, F16, 4 MB: rows of 256 and of 448 weights.  Read it, never write to it."""
    path = tmp_path_factory.mktemp("demo") / "demo-f16.gguf"
    make_demo_model(path)
    return path


@pytest.fixture(scope="session")
def demo_imatrix(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Importances for every block matrix of ``demo_model``, legacy format."""
    path = tmp_path_factory.mktemp("demo") / "demo.imatrix.dat"
    make_demo_imatrix(path)
    return path


@pytest.fixture(scope="session")
def demo_moe_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo model with experts, F16, 3 MB: rows of 256 and of 192 weights, four matrices stacked."""
    path = tmp_path_factory.mktemp("demo") / "demo-moe-f16.gguf"
    make_demo_model(path, moe=True)
    return path


@pytest.fixture(scope="session")
def demo_moe_imatrix(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Importances for every block matrix of ``demo_moe_model``, legacy format."""
    path = tmp_path_factory.mktemp("demo") / "demo-moe.imatrix.dat"
    make_demo_imatrix(path, moe=True)
    return path


@pytest.fixture(scope="session")
def demo_text() -> bytes:
    """About 1,400 tokens of the demo models' vocabulary."""
    words = [b"the", b"world", b"of", b"a", b"game", b"was", b"made", b"by", b"two", b"people", b"in", b"the", b"city"]
    return b" ".join(words[i * i * i % 97 % len(words)] for i in range(1200)) + b".\n"
