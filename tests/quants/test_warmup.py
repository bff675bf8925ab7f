"""Compiling ahead: what is pending, what a second process finds, and a cache that cannot be written."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
from click.testing import CliRunner

import qxmix
from qxmix.cli.main import main
from qxmix.execute import kernels as execute_kernels
from qxmix.quants.kernels import stamp
from qxmix.quants.kernels.kernel import Kernel, every_kernel
from qxmix.quants.kernels.stamp import checks_bounds, imported_modules

ROOT = Path(__file__).parents[2]
PACKAGE = Path(qxmix.__file__).parent / "quants"
KERNELS = sorted(PACKAGE.rglob("*.py"))

SHOW = """
import sys
from qxmix.quants.kernels.kernel import Kernel
from qxmix.quants.kernels.warmup import compile_kernel, pending
k = Kernel("Q8_0", "decode")
print(len(pending([k, k])))
compile_kernel(k)
print("numba" in sys.modules, len(pending([k])))
"""


def run(code: str, **environment: str) -> list[str]:
    env = {**os.environ, **environment}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    return done.stdout.split()


def test_a_second_process_finds_what_the_first_compiled(tmp_path: Path) -> None:
    assert run(SHOW, NUMBA_CACHE_DIR=str(tmp_path)) == ["1", "True", "0"]
    assert run(SHOW, NUMBA_CACHE_DIR=str(tmp_path)) == ["0", "False", "0"]


def test_another_cpu_compiles_anew(tmp_path: Path) -> None:
    run(SHOW, NUMBA_CACHE_DIR=str(tmp_path))
    assert run(SHOW, NUMBA_CACHE_DIR=str(tmp_path), NUMBA_CPU_NAME="generic", NUMBA_CPU_FEATURES="")[0] == "1"


def test_a_kernel_outside_of_the_package_is_compiled_anew_where_what_it_is_made_of_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As those of tests, which would else be of older sources."""
    file = tmp_path / "outside.py"
    file.write_text("from qxmix.quants.common import numerics\n")
    monkeypatch.setitem(sys.modules, "outside", SimpleNamespace(__file__=str(file)))
    assert {path.name for path in stamp._sources("outside")} >= {"outside.py", "numerics.py", "reinterpret.py"}
    file.unlink()
    assert not stamp._sources("outside")
    assert not stamp._sources("no.such.module")


def test_an_emulated_process_is_not_told_this_processor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Processes of two families, of one start of one machine, may share a home: a container that is emulated."""
    monkeypatch.setattr(stamp, "cache_dir", lambda: tmp_path)
    monkeypatch.setattr(stamp, "_asked_of_llvm", lambda _told: os.uname().machine)
    native = os.uname()
    machines = (native.machine, "other", native.machine)
    for machine in machines:
        stamp._processor.cache_clear()
        monkeypatch.setattr(os, "uname", lambda machine=machine: SimpleNamespace(machine=machine))
        assert stamp._processor() == machine
    stamp._processor.cache_clear()


@pytest.mark.parametrize(
    "statement",
    [
        "from qxmix.quants.common.lanes import LANES",
        "from qxmix.quants.common import lanes",
        "from qxmix.quants.common import (\n    codebook,  # with a remark\n    lanes,\n)",
        "from qxmix.quants.common import codebook, \\\n    lanes as side_by_side",
        "import numpy, qxmix.quants.common.lanes as lanes",
        "import qxmix.quants.common.lanes; x = 1",
        "from .lanes import LANES",
        "from . import lanes",
        "from ..common import lanes",
        "def f():\n    from ..common.lanes import LANES",
    ],
)
def test_the_stamp_sees_every_form_of_import(statement: str) -> None:
    assert "common.lanes" in imported_modules(f'"""From\nfrom all that is."""\n{statement}\n'.encode(), "common.search")


@pytest.mark.parametrize("path", KERNELS, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_the_stamp_sees_the_imports_that_python_does(path: Path) -> None:
    """A whole parse finds no module that the stamp of a kernel would miss."""
    module = ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0
            found |= {node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    ours = {name.removeprefix("qxmix.quants.") for name in found if name.startswith("qxmix.quants.")}
    assert imported_modules(path.read_bytes(), module) == ours


@pytest.mark.parametrize(
    ("name", "value", "why"),
    [
        ("NUMBA_DISABLE_JIT", "1", "qxmix's kernels exist only as compiled code"),
        # Known to numba or not: those that are would find kernels of older sources.
        ("NUMBA_CACHE_LOCATOR_CLASSES", "Mine", "numba would keep kernels where an update does not replace them"),
        ("NUMBA_CACHE_LOCATOR_CLASSES", "UserWideCacheLocator", "numba would keep kernels where an update does not"),
    ],
)
def test_settings_with_which_kernels_cannot_be_right_are_refused(name: str, value: str, why: str) -> None:
    command = [sys.executable, "-m", "qxmix", "warmup", "Q8_0"]
    done = subprocess.run(command, env={**os.environ, name: value}, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"Error: {why}")
    assert done.stderr.endswith(f": unset {name}\n")


def test_bounds_are_asked_for_while_another_thread_imports_numba(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NUMBA_BOUNDSCHECK", raising=False)
    monkeypatch.setitem(sys.modules, "numba.core.config", ModuleType("numba.core.config"))
    assert not checks_bounds()
    monkeypatch.setenv("NUMBA_BOUNDSCHECK", "1")
    assert checks_bounds()


def test_scipy_is_not_imported_and_can_be() -> None:
    pytest.importorskip("scipy")
    code = (
        "import sys, qxmix.quants.compiling.compiler; print('scipy' in sys.modules); "
        "import scipy; print(scipy.__name__)"
    )
    assert run(code) == ["False", "scipy"]


def test_numba_is_left_as_it_is_for_others(tmp_path: Path) -> None:
    """Functions of its own target, compiled after a kernel, know all that numba does."""
    code = (
        SHOW
        + """
import numba, numpy as np

@numba.njit
def fibonacci(n):
    return n if n < 2 else fibonacci(n - 1) + fibonacci(n - 2)

@numba.njit
def every(n):
    found = {str(i): np.sort(np.arange(i)[::-1]).sum() for i in range(n)}
    return found["4"] + fibonacci(10)

print("numba.np.linalg" in sys.modules, every(5), "numba.np.linalg" in sys.modules)
"""
    )
    found = run(code, NUMBA_CACHE_DIR=str(tmp_path))
    assert found[1:] == ["True", "0", "False", "61", "True"]


@pytest.mark.slow
def test_kernels_made_by_a_factory_are_found_again(tmp_path: Path) -> None:
    code = """
import sys
import numpy as np
from qxmix.quants.block32 import q4_0, q5_0
for codec, n in ((q4_0.CODECS["Q4_0"], 18), (q5_0.CODECS["Q5_0"], 22)):
    codec.encode(np.ones((1, 32), np.float32), np.empty(0, np.float32), np.zeros((1, n), np.uint8), 0)
print("numba" in sys.modules)
"""
    assert run(code, NUMBA_CACHE_DIR=str(tmp_path)) == ["True"]
    assert run(code, NUMBA_CACHE_DIR=str(tmp_path)) == ["False"]


@pytest.mark.slow
def test_a_factory_kernel_is_compiled_anew_when_a_function_it_was_made_of_changes(tmp_path: Path) -> None:
    """``pack`` of ``legacy`` is compiled into a kernel of ``block32.rounding``, which does not import ``legacy``."""
    shutil.copytree(Path(qxmix.__file__).parent, tmp_path / "qxmix", ignore=shutil.ignore_patterns("__pycache__"))
    code = """
import os, sys
sys.path.insert(0, os.environ["COPY"])
import numpy as np
from qxmix.quants.block32 import q4_0
out = np.zeros((1, 18), np.uint8)
q4_0.CODECS["Q4_0"].encode(np.arange(32, dtype=np.float32)[None], np.empty(0, np.float32), out, 0)
print(*out[0, 2:4])
"""
    env = {"NUMBA_CACHE_DIR": str(tmp_path / "kernels"), "COPY": str(tmp_path)}
    before = run(code, **env)
    file = tmp_path / "qxmix" / "quants" / "block32" / "legacy.py"
    text = file.read_text()
    assert text.count("at + 2, low, high)") == 1
    file.write_text(text.replace("at + 2, low, high)", "at + 2, high, low)"))
    assert run(code, **env) != before


@pytest.mark.slow
def test_kernels_of_one_factory_compiled_in_two_processes_work_in_a_third(tmp_path: Path) -> None:
    factory = tmp_path / "factory.py"
    text = """
import sys
import numpy as np
from qxmix.quants.jit import kernel

def make(n):
    @kernel
    def inner(x):  # long enough that it is not put in the place of its call
        out = np.empty(len(x))
        for i in range(len(x)):
            out[i] = np.sin(x[i]) + n
            MUCH
        return out[0]

    @kernel
    def outer(x):
        return inner(x)

    return outer

print(*[make(int(n))(np.zeros(1)) for n in sys.argv[1:]])
"""
    much = "; ".join(f"out[i] += np.exp(x[i]) * np.sin({n} * x[i])" for n in range(40))
    factory.write_text(text.replace("MUCH", much))
    code = f"import runpy, sys; sys.argv[1:] = '%s'.split(); runpy.run_path({str(factory)!r}, run_name='factory')"
    for n, expected in (("1", ["1.0"]), ("2", ["2.0"]), ("1 2", ["1.0", "2.0"])):
        assert run(code % n, NUMBA_CACHE_DIR=str(tmp_path / "kernels")) == expected


def test_a_cache_that_cannot_be_written_gives_way_to_one_that_can(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    code = "from qxmix.quants.kernels.stamp import cache_dir; print(cache_dir())"
    found = run(code, NUMBA_CACHE_DIR=str(blocked / "x"), XDG_CACHE_HOME=str(tmp_path / "home"))
    assert found == [str(tmp_path / "home" / "qxmix" / "kernels")]
    homes = {"XDG_CACHE_HOME": str(blocked), "HOME": str(blocked)}
    (folder,) = run(code, NUMBA_CACHE_DIR=str(blocked / "x"), TMPDIR=str(tmp_path), **homes)
    assert folder == str(tmp_path / f"qxmix-{os.getuid()}" / "kernels")


@pytest.mark.parametrize(
    ("home", "xdg", "expected"),
    [
        (None, None, "temporary"),  # and no entry in the list of users
        ("", None, "temporary"),
        ("relative", None, "temporary"),
        ("~", "", "temporary"),
        ("/HOME", "relative", "home"),
        ("/HOME", "", "home"),
        ("/HOME", "/XDG", "xdg"),
        ("relative", "/XDG", "xdg"),
        ("/FILE", None, "temporary"),  # where nothing can be made
        ("/HOME", "/FILE", "home"),
    ],
)
def test_kernels_are_kept_in_one_place_whatever_the_home_is(
    tmp_path: Path, home: str | None, xdg: str | None, expected: str
) -> None:
    """And nothing appears in the working folder, least of all a folder that is called ``~``."""
    working, temporary = tmp_path / "working", tmp_path / "temporary"
    for folder in (working, temporary, tmp_path / "HOME"):
        folder.mkdir()
    (tmp_path / "FILE").write_text("")
    code = (
        "import os, pwd; pwd.getpwuid = {}.__getitem__; "
        "from qxmix.quants.kernels.stamp import cache_dir; print(cache_dir())"
    )
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "TMPDIR": str(temporary)}
    for name, value in (("HOME", home), ("XDG_CACHE_HOME", xdg)):
        if value is not None:
            environment[name] = f"{tmp_path}{value}" if value.startswith("/") else value
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, cwd=working, capture_output=True, text=True, check=True
    )
    kept = {"temporary": temporary / f"qxmix-{os.getuid()}", "home": tmp_path / "HOME" / ".cache" / "qxmix"}
    assert done.stdout.strip() == str(kept.get(expected, tmp_path / "XDG" / "qxmix") / "kernels")
    assert not list(working.iterdir())


def test_kernels_that_another_user_could_have_written_are_not_run(tmp_path: Path) -> None:
    if os.getuid() != 0:
        pytest.skip("only root can give a folder away")
    foreign = tmp_path / f"qxmix-{os.getuid()}" / "kernels"
    foreign.mkdir(parents=True)
    os.chown(foreign, 12345, 12345)
    code = "from qxmix.quants.kernels.stamp import cache_dir; cache_dir()"
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path), "HOME": ""}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert "no folder can keep the compiled kernels: set NUMBA_CACHE_DIR" in done.stderr


@pytest.mark.parametrize("kept", [0, 1000])
def test_a_damaged_cache_is_compiled_anew(tmp_path: Path, kept: int) -> None:
    run(SHOW, NUMBA_CACHE_DIR=str(tmp_path))
    (damaged,) = tmp_path.rglob("*.code")
    os.truncate(damaged, kept)
    assert run(SHOW, NUMBA_CACHE_DIR=str(tmp_path)) == ["0", "True", "0"]
    assert run(SHOW, NUMBA_CACHE_DIR=str(tmp_path)) == ["0", "False", "0"]


@pytest.mark.parametrize(("ending", "kept"), [(".nbi", 0), (".nbi", 20), (".nbc", 0), (".nbc", 1000)])
def test_a_damaged_cache_of_numbas_is_compiled_anew(tmp_path: Path, ending: str, kept: int) -> None:
    """Where a setting changes code, numba keeps it."""
    environment = {"NUMBA_CACHE_DIR": str(tmp_path), "NUMBA_OPT": "3"}
    run(SHOW, **environment)
    (damaged,) = tmp_path.rglob(f"*{ending}")
    os.truncate(damaged, kept)
    assert run(SHOW, **environment) == ["0", "True", "0"]
    assert damaged.stat().st_size > kept


def test_a_kernel_that_cannot_be_kept_is_used_all_the_same(tmp_path: Path) -> None:
    limited = "import resource, signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
    limited += "resource.setrlimit(resource.RLIMIT_FSIZE, (4000, 4000))\n"
    assert run(limited + SHOW, NUMBA_CACHE_DIR=str(tmp_path))[:2] == ["1", "True"]
    assert not list(tmp_path.rglob("*.code"))
    assert run(SHOW, NUMBA_CACHE_DIR=str(tmp_path))[1:] == ["True", "0"]


def test_warmup_command(tmp_path: Path) -> None:
    env = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)}
    command = [sys.executable, "-m", "qxmix", "warmup", "f32", "F16"]
    first = subprocess.run(command, env=env, capture_output=True, text=True, check=True).stdout
    assert first.startswith(f"Compiling 4 of 4 kernels into {tmp_path}\n")
    assert first.count(" s  F") == 4
    second = subprocess.run(command, env=env, capture_output=True, text=True, check=True).stdout
    assert second == f"All 4 kernels are compiled already, in {tmp_path}\n"
    assert re.findall(r"^ +(\d) of 4 ", first, re.MULTILINE) == ["1", "2", "3", "4"]
    bad = subprocess.run([*command, "Q4K"], env=env, capture_output=True, text=True, check=False)
    assert bad.returncode == 2
    assert "unknown type 'Q4K'; did you mean 'Q4_K'?" in bad.stderr


def test_all_kernels_are_those_of_feedback_and_of_the_exhaustive_search_too() -> None:
    kernels = set(every_kernel())
    assert {Kernel("Q4_0", way) for way in ("encode", "decode", "feedback", "exhaustive")} <= kernels
    assert {k.direction for k in kernels if k.type == "TQ1_0"} == {"encode", "decode"}
    refused = CliRunner().invoke(main, ["warmup", "--all", "q4_0"])
    assert refused.exit_code == 2
    assert "leave out the TYPEs, or --all" in refused.output


@pytest.mark.parametrize(("setting", "way"), [("search: exhaustive", "exhaustive"), ("search: heuristic", "encode")])
def test_a_plan_compiles_the_search_that_it_names(demo_model: Path, tmp_path: Path, setting: str, way: str) -> None:
    recipe = tmp_path / "r.yaml"
    recipe.write_text(f"qxmix: 1\nname: r\ntarget: any\ndefault: q4_0\nfallback: error\n{setting}\n")
    plan = qxmix.make_plan(qxmix.load_recipe(recipe), qxmix.read_header(demo_model))
    encoded = [t for t in plan.tensors if t.action == "encode"]
    assert {k.direction for k in execute_kernels._kernels(encoded) if k.type == "Q4_0"} == {way}
