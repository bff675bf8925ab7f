"""What is counted in the text of a machine's instructions."""

from __future__ import annotations

from numba.core.codegen import CPUCodegen

from qxmix.quants.kernels.processor_levels import machine
from tests.bench import instructions

X86 = """
.LBB0_1:
\tvmovups\t(%rdi), %ymm0
.LBB0_2:
\t.p2align\t4
\tvgatherdps\t%ymm2, (%rdi,%ymm1,4), %ymm0
\tvaddss\t%xmm0, %xmm1, %xmm1
\tvpinsrb\t$1, %eax, %xmm0, %xmm0
\tvmovups\t%ymm0, 32(%rsp)
\taddq\t$64, %rcx
\tjne\t.LBB0_2
\tjmp\t.LBB0_1
""".splitlines()
ARM = """
.LBB0_4:
\tld1\t{ v0.s }[1], [x9]
\tfadd\ts0, s1, s2
\tstr\tq0, [sp, #16]
\tadd\tx8, x8, #32
\tcbnz\tx10, .LBB0_4
""".splitlines()


def test_the_inner_loop_alone_is_counted() -> None:
    (loop,) = instructions.innermost(X86)
    assert loop.label == ".LBB0_2"
    assert instructions.counts(loop, "x86") == {
        "instructions": 6, "vector": 4, "scalar": 1, "spills": 1, "gathers": 1, "lanes": 1,
    }  # fmt: skip
    assert instructions.steps(loop) == [64]


def test_a_gather_in_pieces_is_told_on_arm() -> None:
    (loop,) = instructions.innermost(ARM)
    assert instructions.counts(loop, "aarch64") == {
        "instructions": 5, "vector": 2, "scalar": 1, "spills": 1, "gathers": 0, "lanes": 1,
    }  # fmt: skip
    assert instructions.steps(loop) == [32]


def test_a_symbol_gives_the_name() -> None:
    assert instructions.named("_ZN5qxmix6quants6common6search11scan_linearB2v5B42c8tJ") == "scan_linear"
    assert [name for name, _ in instructions.functions("_ZN5qxmix6quants4stepB2v1:\n\tret\n.Lfunc_end0:")] == ["step"]


def test_kernels_are_told_of_the_family_that_is_asked_for() -> None:
    """Not of an instruction that the other family lacks: LLVM would end the process."""
    codegen = CPUCodegen.magic_tuple
    other, this = ("aarch64", "x86_64") if machine() == "x86_64" else ("x86_64", "aarch64")
    with instructions.told(f"{other}-linux-gnu"):
        assert CPUCodegen.magic_tuple(None) == (f"{other}-linux-gnu", "generic", "")
    with instructions.told(f"{this}-linux-gnu"):
        assert CPUCodegen.magic_tuple is codegen
    assert CPUCodegen.magic_tuple is codegen
