"""The steps that make a kernel of a function: those of numba that something is left to do for.

Numba's own pipeline looks for closures, ``with`` blocks, generators, literals that are to be unrolled, expressions of
whole arrays, and what overloads splice in; kernels have none of these.  After each step it finds anew how long each
variable lives, which is needed once, before instructions are built.  Both together
were about 0.7 of the 6.7 s that the first use of IQ3_K took.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np
from numba.core import ir, ir_utils, rewrites, ssa, typed_passes, untyped_passes
from numba.core.compiler import CompilerBase
from numba.core.compiler_machinery import FunctionPass, PassManager, register_pass

from qxmix.quants.compiling.lowering import Lower


class _Moved(ir.Block):  # type: ignore[misc]
    """Instructions of a function that is spliced into another: made for it alone, so that numba need not copy them."""

    def __deepcopy__(self, memo: object) -> _Moved:
        return self


@register_pass(mutates_CFG=False, analysis_only=False)
class _HandOver(FunctionPass):  # type: ignore[misc]
    """Let the instructions be moved."""

    _name = "qxmix_hand_over"

    def __init__(self) -> None:
        super().__init__()

    def run_pass(self, state: Any) -> bool:
        for block in state.func_ir.blocks.values():
            block.__class__ = _Moved
        return False


@register_pass(mutates_CFG=True, analysis_only=False)
class _Splice(untyped_passes.InlineInlinables):  # type: ignore[misc]
    """Put ``spliced`` functions in the place of their calls."""

    _name = "qxmix_splice"

    def run_pass(self, state: Any) -> bool:
        # Numba's own step imports lists and more before it looks; in Q8_KV's encoder nothing is spliced.
        return any(map(_spliced_in, state.func_ir.blocks.values())) and bool(super().run_pass(state))

    def _do_work(self, state: Any, work_list: Any, block: Any, i: int, expr: Any, worker: Any) -> bool:
        worker._compiler_pipeline = _spliced  # noqa: SLF001
        return bool(super()._do_work(state, work_list, block, i, expr, worker))


@register_pass(mutates_CFG=True, analysis_only=False)
class _SingleAssignments(untyped_passes.ReconstructSSA):  # type: ignore[misc]
    """Give each assignment to a variable a name of its own."""

    _name = "qxmix_single_assignments"

    def run_pass(self, state: Any) -> bool:
        state.func_ir = ssa.reconstruct_ssa(state.func_ir)
        state.func_ir._definitions = ir_utils.build_definitions(state.func_ir.blocks)  # noqa: SLF001
        return True


@register_pass(mutates_CFG=True, analysis_only=False)
class _OneName(typed_passes.PreLowerStripPhis):  # type: ignore[misc]
    """Let what meets where branches meet have one name again."""

    _name = "qxmix_one_name"

    def run_pass(self, state: Any) -> bool:
        state.func_ir = self._strip_phi_nodes(state.func_ir)
        return True


@register_pass(mutates_CFG=True, analysis_only=False)
class _Rewrites(FunctionPass):  # type: ignore[misc]
    """Rewrite what is known before types are: numba's own rewrites."""

    _name = "qxmix_rewrites"

    def __init__(self) -> None:
        super().__init__()

    def run_pass(self, state: Any) -> bool:
        blocks = state.func_ir.blocks
        for kind in rewrites.rewrite_registry.rewrites["before-inference"]:
            rewrite, left = kind(state), list(blocks.items())
            while left:
                label, block = left.pop()
                if rewrite.match(state.func_ir, block, None, None):
                    blocks[label] = rewrite.apply()
                    left.append((label, blocks[label]))
        return True


@register_pass(mutates_CFG=True, analysis_only=False)
class _Lowering(typed_passes.NativeLowering):  # type: ignore[misc]
    """Build LLVM's instructions."""

    _name = "qxmix_lowering"

    @property
    def lowering_class(self) -> type[Lower]:
        """What builds them."""
        return Lower


_READ = (
    untyped_passes.TranslateByteCode,
    untyped_passes.FixupArgs,
    untyped_passes.RewriteSemanticConstants,
    untyped_passes.DeadBranchPrune,
    _Rewrites,
    _Splice,
    untyped_passes.DeadBranchPrune,
)
_BUILD = (
    _SingleAssignments,
    untyped_passes.DeadBranchPrune,
    typed_passes.NopythonTypeInference,
    _OneName,
    typed_passes.IRLegalization,
    _Lowering,
    typed_passes.NoPythonBackend,
)


def _passes(name: str, passes: tuple[type, ...]) -> Any:
    manager = PassManager(name)
    for each in passes:
        manager.add_pass(each, each.__name__)
    manager.finalize()
    return manager


def _spliced_in(block: Any) -> bool:
    """Whether a block names a function to be spliced, or a module that may have one."""
    named = (each.value.value for each in block.find_insts(ir.Assign) if isinstance(each.value, ir.Global | ir.FreeVar))
    return any(
        "inline" in getattr(value, "targetoptions", ()) or (isinstance(value, ModuleType) and value is not np)
        for value in named
    )


def _spliced(_state: object) -> Any:
    return _passes("qxmix_spliced", (*_READ, _HandOver))


class Pipeline(CompilerBase):  # type: ignore[misc]
    """What numba compiles a function of the target of kernels with."""

    def define_pipelines(self) -> list[Any]:
        """All steps."""
        return [_passes("qxmix", _READ + _BUILD)]
