"""Kernels from a wheel: used where they fit, and numba wherever anything about them is not as it should be."""

from __future__ import annotations

import base64
import hashlib
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from llvmlite import binding

from qxmix.cli.main import main
from qxmix.errors import RunError
from qxmix.quants import codec_of
from qxmix.quants.compiling import compiler
from qxmix.quants.kernels import machine_code, object_file, processor_levels, shipped, shipping, supply
from qxmix.quants.kernels.kernel import Kernel
from qxmix.quants.kernels.processor_levels import LEVELS, machine, supported
from qxmix.quants.kernels.warmup import pending, shipped_level

pytestmark = pytest.mark.skipif(sys.platform != "linux" or not supported(), reason="kernels are shipped for Linux")

ROOT = Path(__file__).parents[2]
KERNEL = Kernel("Q8_0", "decode")
LEVEL = supported()[0] if supported() else LEVELS[0]

USE = """
import sys
import numpy as np
from qxmix.quants import codec_of
from qxmix.quants.kernels.kernel import Kernel
from qxmix.quants.kernels.warmup import compile_kernel, pending
kernel = Kernel("Q8_0", "decode")
waiting = len(pending([kernel]))
out = np.zeros((1, 32), np.float32)
codec_of("Q8_0").decode(np.array([[0, 60, *range(32)]], np.uint8), out)
compile_kernel(kernel)
print(waiting, "numba" in sys.modules, out.tolist() == [list(range(32))])
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel of Q8_0's kernels for all usual levels, whether or not this machine has them."""
    folder = tmp_path_factory.mktemp("wheel")
    env = {**os.environ, "NUMBA_CACHE_DIR": str(folder / "kernels"), "NUMBA_OPT": "1"}
    command = [sys.executable, "-m", "qxmix", "warmup", "q8_0", "--wheel", str(folder / "made")]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    (path,) = (folder / "made").iterdir()
    usual = [level for level in LEVELS if level.usual and level.machine == machine()]
    order = [level.name for level in sorted(usual, key=lambda level: level not in supported())]
    starts = [f"Compiling 2 of 2 kernels for {name} into {folder}/kernels/shipped" for name in order]
    assert [line for line in done.stdout.splitlines() if line.startswith("Compiling")] == starts
    assert done.stdout.splitlines()[-1].startswith(str(path))
    return path


def test_a_wheel_for_another_family(tmp_path: Path) -> None:
    """Code of its own for each kernel that this machine has, in a wheel of its own."""
    other = next(level for level in LEVELS if level.machine != machine() and level.usual)
    env = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path / "kernels")}
    command = [sys.executable, "-m", "qxmix", "warmup", "q8_0", "--wheel", str(tmp_path)]
    command += ["--level", other.name, "--level", LEVEL.name]
    subprocess.run(command, env=env, capture_output=True, text=True, check=True, cwd=ROOT)
    found = {path.stem.split("manylinux2014_")[1]: contents_of(path) for path in tmp_path.glob("*.whl")}
    assert {*found} == {other.machine, machine()}
    names = [{name.replace(x.name, "") for name in found[x.machine]} for x in (LEVEL, other)]
    assert names[0] == names[1]
    for level in (LEVEL, other):
        for name, data in found[level.machine].items():
            path = tmp_path / Path(name).parent.name / Path(name).name
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(data)
            kept = machine_code.read(path)
            assert kept is not None
            machines = {file.machine for file in map(object_file.read, kept) if file is not None}
            assert machines == {{"x86_64": 62, "aarch64": 183}[level.machine]}, name


def contents_of(wheel: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist() if name.endswith(".code")}


@pytest.fixture
def site(wheel: Path, tmp_path: Path) -> Path:
    """A folder of packages with it."""
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
    return tmp_path / "site"


@pytest.fixture
def installed(site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The package, as this process finds it, which has no compiled kernel of its own."""
    monkeypatch.setattr(shipped, "package", lambda: site / shipped.PACKAGE)
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "own"))
    monkeypatch.setattr(machine_code, "kernel_dir", lambda module: tmp_path / "own" / module)
    monkeypatch.setattr("qxmix.quants.kernels.warmup.kernel_dir", lambda module: tmp_path / "own" / module)
    monkeypatch.setattr(compiler, "compiled", lambda *_: None)
    return site / shipped.PACKAGE


def use(site: Path, cache: Path, **environment: str) -> str:
    path = os.pathsep.join([str(site), *filter(None, sys.path)])
    env = {**os.environ, "NUMBA_CACHE_DIR": str(cache), "PYTHONPATH": path, **environment}
    done = subprocess.run([sys.executable, "-c", USE], env=env, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def function() -> Any:
    """What would run Q8_0's decoder; "numba" stands for numba."""
    decode: Any = codec_of("Q8_0").decode

    class Asked:
        py_func, made, alone = staticmethod(decode.py_func), None, "numba"

    return supply.this_machine(Asked(), ("u1 2 w", "f4 2 w"), ())


def code_of(package: Path) -> Path:
    """The file of the decoder for this machine."""
    (record,) = package.glob(f"*-{LEVEL.name}/Q8_0-decode.ready")
    line, end = record.read_text().splitlines()
    assert end == "end"
    return package / line


def test_they_are_used_without_numba_and_nothing_is_written(site: Path, tmp_path: Path) -> None:
    for path in (site, *site.rglob("*")):
        path.chmod(path.stat().st_mode & ~0o222)
    assert use(site, tmp_path / "cache") == "0 False True"
    assert not list((tmp_path / "cache").rglob("*.*"))


def test_a_damaged_one_is_compiled(site: Path, tmp_path: Path) -> None:
    for path in site.rglob("*.code"):
        os.truncate(path, path.stat().st_size - 1)
    assert use(site, tmp_path / "cache") == "1 True True"
    assert use(site, tmp_path / "cache") == "0 False True"


@pytest.mark.usefixtures("installed")
def test_all_as_it_should_be() -> None:
    """What the tests below take away from."""
    assert function() != "numba"
    assert shipped_level(KERNEL) == LEVEL
    assert not pending([KERNEL])
    out = np.zeros((1, 32), np.float32)
    function()(np.array([[0, 60, *range(32)]], np.uint8), out)
    assert out.tolist() == [list(range(32))]


def shorter(package: Path) -> None:
    os.truncate(code_of(package), 1000)


def gone(package: Path) -> None:
    code_of(package).unlink()


def changed(package: Path) -> None:
    path = code_of(package)
    data = path.read_bytes()
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))


def of_another_kernel(package: Path) -> None:
    path = code_of(package)
    other = next(p for p in path.parent.glob("*.code") if p != path)
    path.write_bytes(other.read_bytes())


def of_another_level(package: Path) -> None:
    """Code that this processor may not have the instructions for."""
    others = [level for level in LEVELS if level.machine == machine() and level.usual and level != LEVEL]
    if not others:
        pytest.skip("this family has one level")
    folder = code_of(package).parent
    for file in folder.glob("*.code"):
        file.write_bytes((folder.with_name(folder.name.replace(LEVEL.name, others[0].name)) / file.name).read_bytes())


def with_a_shorter_record(package: Path) -> None:
    """The code itself is whole, but nobody knows whether it is all."""
    for record in package.rglob("Q8_0-decode.ready"):
        record.write_text(record.read_text().removesuffix("end\n"))


def of_other_sources(package: Path) -> None:
    for folder in package.glob("block32.q8_0-*"):
        module, _, level = folder.name.removeprefix("block32.q8_0-").partition("-")
        folder.rename(package / f"block32.q8_0-{module[::-1]}-{level}")


@pytest.mark.parametrize(
    "spoil", [shorter, gone, changed, of_another_kernel, of_another_level, of_other_sources, with_a_shorter_record]
)
def test_one_that_is_not_as_it_should_be_is_not_loaded(installed: Path, spoil: Callable[[Path], None]) -> None:
    for level in supported()[1:]:
        for folder in installed.glob(f"*-{level.name}"):
            shutil.rmtree(folder)
    spoil(installed)
    assert (function() == "numba") == (spoil is not with_a_shorter_record)
    assert shipped_level(KERNEL) is None
    assert pending([KERNEL]) == (KERNEL,)


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize("setting", ["NUMBA_OPT", "NUMBA_BOUNDSCHECK", "NUMBA_CPU_NAME"])
def test_with_a_setting_of_numba_that_changes_code_they_are_not_used(
    monkeypatch: pytest.MonkeyPatch, setting: str
) -> None:
    monkeypatch.setenv(setting, "1")
    monkeypatch.setattr("numba.core.config.BOUNDSCHECK", int(setting == "NUMBA_BOUNDSCHECK"), raising=False)
    assert function() == "numba"
    assert shipped_level(KERNEL) is None


def test_every_arm64_has_what_the_least_has_whatever_llvm_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Linux tells it in /proc/cpuinfo, which a container may mask and an emulator shows as its own machine's."""
    monkeypatch.setattr(processor_levels, "machine", lambda: "aarch64")
    for has in ({}, {"sve": False}):
        monkeypatch.setattr(binding, "get_host_cpu_features", lambda has=has: has)
        supported.cache_clear()
        assert [level.name for level in supported()] == ["armv8"]
    monkeypatch.setattr(processor_levels, "machine", lambda: "arm64")  # as macOS calls it, with another convention
    supported.cache_clear()
    assert not supported()
    monkeypatch.undo()
    supported.cache_clear()


@pytest.mark.parametrize("level", [x for x in LEVELS if x.machine == machine() and x.asked], ids=lambda x: x.name)
def test_a_processor_that_lacks_any_feature_of_a_level_gets_none_of_its_code(
    level: processor_levels.ProcessorLevel, monkeypatch: pytest.MonkeyPatch
) -> None:
    for lacks in ("", *level.features):
        has = binding.get_host_cpu_features()
        has.update({feature: feature != lacks for feature in level.features})
        monkeypatch.setattr(binding, "get_host_cpu_features", lambda has=has: has)
        supported.cache_clear()
        assert (level in supported()) == (not lacks), lacks
        monkeypatch.undo()
    supported.cache_clear()


@pytest.mark.usefixtures("installed")
def test_without_the_level_the_next_is_used_and_in_the_end_numba(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shipped, "supported", lambda: ())
    assert (function(), shipped_level(KERNEL)) == ("numba", None)
    usual = [x for x in LEVELS if x.machine == machine() and x.usual]
    for first in usual:
        monkeypatch.setattr(shipped, "supported", lambda first=first: usual[usual.index(first) :])
        assert shipped_level(KERNEL) == first


def test_levels_grow() -> None:
    family = [set(level.features) for level in LEVELS if level.machine == "x86_64"]
    assert family == sorted(family, key=len, reverse=True)
    assert all(more > less for more, less in pairwise(family))


def test_the_wheel_is_as_the_format_wants_it(wheel: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        contents = {name: archive.read(name) for name in archive.namelist()}
    (info,) = {name.split("/")[0] for name in contents if ".dist-info/" in name}
    rows = [line.split(",") for line in contents[f"{info}/RECORD"].decode().splitlines()]
    assert [row[0] for row in rows] == list(contents)
    for name, digest, size in rows[:-1]:
        found = base64.urlsafe_b64encode(hashlib.sha256(contents[name]).digest()).decode().rstrip("=")
        assert (digest, int(size)) == (f"sha256={found}", len(contents[name]))
    assert f"Tag: {'-'.join(wheel.stem.split('-')[2:])}\n".encode() in contents[f"{info}/WHEEL"]
    pytest.importorskip("pip")
    command = [sys.executable, "-m", "pip", "install", "--no-deps", "--no-index", "--target", str(tmp_path), str(wheel)]
    subprocess.run(command, check=True, capture_output=True)
    assert (tmp_path / shipped.PACKAGE / "__init__.py").exists()
    assert use(tmp_path, tmp_path / "cache") == "0 False True"


def test_code_for_exactly_this_processor_is_compiled_if_it_is_asked_for(site: Path, tmp_path: Path) -> None:
    path = os.pathsep.join([str(site), *filter(None, sys.path)])
    env = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path / "cache"), "PYTHONPATH": path}
    command = [sys.executable, "-m", "qxmix", "warmup", "q8_0", "--native"]
    for second_line in ("Compiling 2 of 2 kernels", "All 2 kernels are compiled already"):
        done = subprocess.run(command, env=env, capture_output=True, text=True, check=True)
        assert done.stdout.splitlines()[1].startswith(second_line)
    assert len(list((tmp_path / "cache").rglob("*.code"))) == 2
    shutil.rmtree(site)
    assert use(site, tmp_path / "cache") == "0 False True"


def test_what_warmup_tells_of_them(site: Path, tmp_path: Path) -> None:
    def warmup() -> str:
        path = os.pathsep.join([str(site), *filter(None, sys.path)])
        env = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path / "cache"), "PYTHONPATH": path}
        command = [sys.executable, "-m", "qxmix", "warmup", "q8_0"]
        return subprocess.run(command, env=env, capture_output=True, text=True, check=True).stdout

    first, second = warmup().splitlines()
    assert first == f"qxmix-kernels has 2 of 2 kernels, for {LEVEL.name}"
    assert second.startswith("All 2 kernels are compiled already")
    for record in site.rglob("*.ready"):
        record.unlink()
    (tmp_path / "cache" / "shipped").parent.mkdir(exist_ok=True)
    first, second, *_ = warmup().splitlines()
    assert first == "qxmix-kernels has 0 of 2 kernels: it is for other processors or another qxmix"
    assert second.startswith("Compiling 2 of 2 kernels")


def test_what_cannot_be_shipped_is_refused(tmp_path: Path) -> None:
    def refused(*arguments: str) -> tuple[int, str]:
        found = CliRunner().invoke(main, ["warmup", "q8_0", *arguments])
        return found.exit_code, found.output

    assert refused("--level", LEVEL.name)[0] == 2
    other = next(level for level in LEVELS if level.machine != machine())
    code, text = refused("--level", other.name, "--wheel", str(tmp_path))
    assert (code, f"this machine does not run {other.name}, and what kernels a type has" in text) == (1, True)
    assert f"give --level {LEVEL.name}, too" in text
    found = binding.Target.from_triple

    def from_triple(triple: str) -> object:
        if triple.startswith(other.machine):
            raise RuntimeError(f"No available targets are compatible with triple {triple}")
        return found(triple)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(binding.Target, "from_triple", from_triple)
        code, text = refused("--level", other.name, "--level", LEVEL.name, "--wheel", str(tmp_path))
    assert (code, f"{other.name}: the LLVM of this llvmlite makes no code for {other.machine}" in text) == (1, True)
    (tmp_path / "file").write_text("")
    assert refused("--wheel", str(tmp_path / "file"))[0] == 2
    code, text = refused("--wheel", str(tmp_path / "file" / "below"))
    assert (code, "no wheel can be written into it: Not a directory; give another --wheel" in text) == (1, True)
    assert "Compiling" not in text
    assert not list(tmp_path.glob("*.whl"))


def test_what_needs_numba_is_not_shipped() -> None:
    with pytest.raises(RunError, match="a kernel is given ndarray, tuple, and one of these needs numba"):
        shipping._no_others((np.zeros(1), (1, 2)))
