"""Kernels as machine code of their own: the same bytes without numba, and numba wherever that is not certain."""

from __future__ import annotations

import ctypes
import os
import platform
import subprocess
import sys
from typing import TYPE_CHECKING

import numpy as np
import pytest
from llvmlite import binding
from numba.core.runtime import nrtdynmod

from qxmix import system
from qxmix.quants.kernels import entry, runtime, stamp
from qxmix.quants.kernels.linker import link
from qxmix.quants.kernels.machine_code import kinds, path_of
from qxmix.quants.kernels.object_file import needs

if TYPE_CHECKING:
    from pathlib import Path

KERNELS = """
import math
import sys
from concurrent.futures import ThreadPoolExecutor
import numpy as np
from qxmix.quants.kernels import machine_code
from qxmix.quants.jit import kernel

if "by_llvm" in sys.argv:
    machine_code.link = lambda *_: None

@kernel
def scratch(x, n, factor, out):
    room = np.empty((2, 3, n), np.float32)  # memory, and a new shape of it
    for i in range(n):
        room[1, 2, i] = x[i] * factor
    flat = room.reshape(6, -1)
    for i in range(n):
        out[i] = flat[5, i] + np.float32(flat.shape[1])

@kernel
def returns(x, n, factor, out):
    return n

@kernel
def sine(x, n, factor, out):
    out[0] = np.sin(x[0])

@kernel
def exponent(x, n, factor, out):
    out[0] = np.float32(math.floor(np.float32(math.log2(np.float64(x[3])))))

@kernel
def shifts(x, n, factor, out):
    out[:] = x
    out[1:] = out[:-1]  # by way of memory that is no array's

@kernel
def every_kind(cube, frozen, whole, half, single, out):
    out[0, 0] = cube[1, 2, 3] + frozen[1] + np.int64(cube.shape[0] * 100 + cube.shape[1] * 10 + cube.shape[2])
    out[0, 1] = np.float64(whole) + half
    out[1, 0] = single
    out[1, 1] = cube.size + frozen.size

def kinds_at_once():
    # One kernel in eight threads, each with arrays and numbers of its own.
    def run(i):
        frozen = np.full(2, i, np.uint16)
        frozen.flags.writeable = False
        for _ in range(200):
            out = np.zeros((2, 2))
            cube = np.full((2, 3, 4), i, np.int8)
            assert every_kind(cube, frozen, np.int64(-i), np.float64(0.5), np.float32(0.1), out) is None
            assert out.tolist() == [[2 * i + 234, 0.5 - i], [np.float32(0.1), 26]], out
            assert (sys.getrefcount(cube), sys.getrefcount(out)) == (2, 2)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(run, range(8)))
    print("numba" in sys.modules)

if sys.argv[1] == "every_kind":
    kinds_at_once()
    sys.exit()
out = np.zeros(4, np.float32)
found = globals()[sys.argv[1]](np.arange(4, dtype=np.float32), int(sys.argv[2]), np.float32(2), out)
print(found, out.tolist(), "numba" in sys.modules, *["llvmlite.binding" in sys.modules][: len(sys.argv) - 3])
"""


def call(tmp_path: Path, name: str, n: int, *told: str, **environment: str) -> str:
    script = tmp_path / "kernels_of_test.py"
    script.write_text(KERNELS)
    env = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path / "kernels"), **environment}
    command = [sys.executable, str(script), name, str(n), *told]
    done = subprocess.run(command, env=env, cwd=tmp_path, capture_output=True, text=True, check=False)
    return done.stdout.strip() or done.stderr.strip().splitlines()[-1]


def test_a_kernel_with_scratch_needs_no_numba_the_second_time(tmp_path: Path) -> None:
    assert call(tmp_path, "scratch", 4) == "None [4.0, 6.0, 8.0, 10.0] True"
    assert call(tmp_path, "scratch", 4) == "None [4.0, 6.0, 8.0, 10.0] False"
    assert call(tmp_path, "scratch", 0) == "None [0.0, 0.0, 0.0, 0.0] False"
    assert call(tmp_path, "scratch", 1 << 55).startswith("MemoryError: ")


def test_functions_of_the_c_library_need_no_numba(tmp_path: Path) -> None:
    """A logarithm and its floor, as MXFP4's scale is found by."""
    assert [call(tmp_path, "exponent", 0) for _ in range(2)] == [
        f"None [1.0, 0.0, 0.0, 0.0] {w}" for w in (True, False)
    ]


def test_code_is_linked_without_llvm_and_by_it_where_that_cannot_be(tmp_path: Path) -> None:
    call(tmp_path, "scratch", 4)
    linked = sys.platform == "linux" and platform.machine() == "x86_64"
    assert call(tmp_path, "scratch", 4, "told") == f"None [4.0, 6.0, 8.0, 10.0] False {not linked}"
    assert call(tmp_path, "scratch", 4, "by_llvm") == "None [4.0, 6.0, 8.0, 10.0] False True"
    assert call(tmp_path, "every_kind", 0, "by_llvm") == "True"
    assert call(tmp_path, "every_kind", 0, "by_llvm") == "False"


def test_threads_call_one_kernel_with_arguments_of_every_kind(tmp_path: Path) -> None:
    assert [call(tmp_path, "every_kind", 0) for _ in range(2)] == ["True", "False"]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("returns", "4 [0.0, 0.0, 0.0, 0.0]"),
        ("sine", "None [0.0, 0.0, 0.0, 0.0]"),
        ("shifts", "None [0.0, 0.0, 1.0, 2.0]"),
    ],
)
def test_what_needs_more_stays_with_numba(tmp_path: Path, name: str, expected: str) -> None:
    for _ in range(2):
        assert call(tmp_path, name, 4) == f"{expected} True"
    assert not list(tmp_path.rglob("*.code"))


def test_with_a_setting_of_numba_that_changes_code_numba_is_used(tmp_path: Path) -> None:
    call(tmp_path, "scratch", 4)
    for name, value in (("NUMBA_OPT", "1"), ("NUMBA_BOUNDSCHECK", "1"), ("NUMBA_CPU_NAME", "generic")):
        assert call(tmp_path, "scratch", 4, **{name: value}) == "None [4.0, 6.0, 8.0, 10.0] True"
    (tmp_path / ".numba_config.yaml").write_text("opt: 1\n")
    assert call(tmp_path, "scratch", 4).endswith("True")


def test_where_object_files_are_others_numba_alone_compiles(monkeypatch: pytest.MonkeyPatch) -> None:
    """On macOS no code could be kept as it is on Linux: each process would compile each kernel, and throw it away."""
    assert path_of(call, ("f4 1 w",)) is not None
    monkeypatch.setattr(system, "LINUX", False)
    assert path_of(call, ("f4 1 w",)) is None


def test_a_file_of_another_kernel_is_not_run(tmp_path: Path) -> None:
    """A changed byte anywhere, or another layout, and numba is asked; its answer is kept."""
    call(tmp_path, "scratch", 4)
    (path,) = tmp_path.rglob("*.code")
    whole = path.read_bytes()
    layout = whole.index(b"3\n")
    for at in (layout, 20, 60, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        assert call(tmp_path, "scratch", 4) == "None [4.0, 6.0, 8.0, 10.0] True"
        assert path.read_bytes() == whole
    call(tmp_path, "every_kind", 0)
    (other,) = set(tmp_path.rglob("*.code")) - {path}
    path.write_bytes(other.read_bytes())
    assert call(tmp_path, "scratch", 4) == "None [4.0, 6.0, 8.0, 10.0] True"
    assert path.read_bytes() == whole


def test_where_arrays_lie_otherwise_numba_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    assert path_of(call, ("f4 1 w",)) is not None
    monkeypatch.setattr(entry, "OBJECT", entry.OBJECT + 8)
    entry.arrays_are_as_drawn.cache_clear()
    assert path_of(call, ("f4 1 w",)) is None
    monkeypatch.undo()
    entry.arrays_are_as_drawn.cache_clear()


def test_arguments_of_other_kinds() -> None:
    x = np.zeros((2, 3), np.float32)
    frozen = x[:1]
    frozen.flags.writeable = False
    odd = np.zeros(9, np.uint8)[1:].view(np.float32)
    assert kinds((x, x[0], frozen, 1, 1.0, np.float32(1), np.float64(1), np.int64(1))) == (
        *("f4 2 w", "f4 1 w", "f4 2 r", "int", "float", "float32", "float", "int"),
    )
    for other in (x[:, 1], x.T, odd, x.astype(">f4"), x[0, 0:1].reshape(()), True, 1 << 63, np.uint8(1), None, "x"):
        assert kinds((x, other)) is None


def test_the_header_of_memory_is_numbas() -> None:
    assert str(nrtdynmod._meminfo_struct_type) == runtime.MEMINFO


def test_other_object_files_are_not_read() -> None:
    assert needs(b"\xcf\xfa\xed\xfe" + bytes(100)) is None
    assert link([b"\xcf\xfa\xed\xfe" + bytes(100)], "entry", ()) is None


SQUARE = """
declare double @fma(double, double, double)
@offset = {kind} double 3.0
define double @squared(double %x) {{
  %y = load double, ptr @offset
  %z = call double @fma(double %x, double %x, double %y)
  ret double %z
}}
"""


def compiled(text: str, **options: object) -> bytes:
    binding.initialize_native_target()
    binding.initialize_native_asmprinter()
    machine = binding.Target.from_default_triple().create_target_machine(**options)
    return bytes(machine.emit_object(binding.parse_assembly(text)))


@pytest.mark.skipif(sys.platform != "linux" or platform.machine() != "x86_64", reason="what the linker is for")
def test_the_linker_does_what_it_knows_and_nothing_else() -> None:
    code = compiled(SQUARE.format(kind="constant"), jit=True)
    linked = link([code], "squared", {"fma"})
    assert linked is not None
    assert ctypes.CFUNCTYPE(ctypes.c_double, ctypes.c_double)(linked.address)(5.0) == 28.0
    assert link([code], "squared", ()) is None
    assert link([code], "cubed", {"fma"}) is None
    assert link([code[:0x12] + b"\xb7" + code[0x13:]], "squared", {"fma"}) is None
    assert link([compiled(SQUARE.format(kind="global"), jit=True)], "squared", {"fma"}) is None
    assert link([compiled(SQUARE.format(kind="constant"), codemodel="small")], "squared", {"fma"}) is None


def test_the_processor_is_asked_for_once_until_the_machine_starts_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stamp, "cache_dir", lambda: tmp_path)
    cpus = iter(("cpu1", "cpu2", "cpu3", "cpu4", "cpu5"))
    monkeypatch.setattr(stamp, "_asked_of_llvm", lambda _told: next(cpus))
    told, boots = stamp._processor.__wrapped__, iter("aabbb")
    monkeypatch.setattr(stamp, "_boot", lambda: next(boots, None))
    assert [told() for _ in range(3)] == ["cpu1", "cpu1", "cpu2"]
    (tmp_path / "processor").write_bytes(b"\xff\x00")
    assert [told() for _ in range(2)] == ["cpu3", "cpu3"]
    assert [told() for _ in range(2)] == ["cpu4", "cpu5"], "a system that does not tell its start"
    monkeypatch.undo()
    assert stamp._processor() == stamp._asked_of_llvm([None, None])
