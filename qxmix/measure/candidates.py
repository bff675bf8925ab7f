"""Which tensors are measured, and under which types."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches

from qxmix.container.imatrix import Imatrix
from qxmix.container.model import ModelHeader, TensorInfo
from qxmix.errors import ModelFileError, RecipeError
from qxmix.planning.gate import never_quantized
from qxmix.planning.importance import find_entry
from qxmix.planning.loading import why_not_run
from qxmix.quants import QUANT_TYPES, find, get
from qxmix.recipe.model import Target, engines_of

_DEFAULT: dict[Target, tuple[str, ...]] = {
    "ik_llama.cpp": (
        "IQ2_KS", "IQ2_KL", "IQ3_K", "IQ4_KSS", "IQ4_KS", "IQ4_NL", "IQ4_K", "IQ5_KS", "Q5_0", "Q6_0", "IQ6_K", "Q8_0",
    ),
    "llama.cpp": (
        "IQ2_XXS", "IQ2_S", "IQ3_XXS", "IQ3_S", "IQ4_XS", "IQ4_NL", "Q4_K", "Q5_0", "Q5_K", "Q5_1", "Q6_K", "Q8_0",
    ),
    "any": ("IQ2_XXS", "IQ2_S", "IQ3_XXS", "IQ3_S", "IQ4_XS", "IQ4_NL", "Q4_K", "Q5_0", "Q5_K", "Q6_K", "Q8_0"),
}  # fmt: skip
"""From 2 to 8.5 bits, those of 32 weights per block for rows that 256 does not divide."""
_FLOATS = frozenset({"F32", "F16", "BF16"})
_SHOWN = 3


def choose_types(target: Target, asked: Sequence[str]) -> tuple[str, ...]:
    """The types to try, upper case, by bits per weight.

    Args:
        target: who must be able to run them.
        asked: names in any case; none for the default, ``all`` for every type that is not interleaved.

    Raises:
        RecipeError: a name is no type, or one that cannot be written for this target.

    """
    if not asked:
        names = _DEFAULT[target]
    elif [name.lower() for name in asked] == ["all"]:
        names = tuple(
            t.name for t in QUANT_TYPES if not t.base and t.name not in _FLOATS and not _refused(t.name, target)
        )
    else:
        names = tuple(_known(name, target) for name in asked)
    return tuple(sorted(dict.fromkeys(names), key=lambda name: (get(name).bpw, name)))


def _known(name: str, target: Target) -> str:
    known = find(name)
    if known is None:
        near = get_close_matches(name.upper(), [t.name for t in QUANT_TYPES], n=1)
        raise RecipeError(f"--types: unknown type {name!r}" + (f"; did you mean {near[0]}?" if near else ""))
    if reason := _refused(known.name, target):
        raise RecipeError(f"--types: {known.name} {reason}; leave it out, or give another --target")
    return known.name


def _refused(name: str, target: Target) -> str:
    known = get(name)
    if not known.codec or not known.writable:
        return "cannot be written by qxmix"
    lacking = next((e for e in engines_of(target) if e not in known.engines), None)
    return f"is not a type of {lacking}" if lacking else ""


def choose_tensors(header: ModelHeader, target: Target) -> tuple[TensorInfo, ...]:
    """The tensors that a recipe may quantize, in file order, but for those whose weights qxmix cannot read.

    Raises:
        ModelFileError: there are none.

    """
    engines = engines_of(target)
    tensors = [t for t in header.tensors if not never_quantized(t, engines, header.architecture)]
    if not tensors:
        raise ModelFileError.at(header.path, "has no tensor that can be quantized")
    read = tuple(t for t in tensors if get(t.type).codec)
    if not read:
        names = ", ".join(f"{t.name} ({t.type})" for t in tensors[:_SHOWN])
        raise ModelFileError.at(header.path, f"qxmix cannot read {names}; measure the model before quantizing")
    return read


def types_of(
    tensor: TensorInfo, types: Sequence[str], target: Target, imatrix: Imatrix | None
) -> tuple[tuple[str, ...], str | None]:
    """Those of ``types`` that rows and importance allow, and the entry of ``imatrix`` that weights the tensor."""
    entry, _ = find_entry(tensor, imatrix, engines_of(target))
    allowed = []
    for name in types:
        known = get(name)
        fits = known.fits(tensor.n_cols) and tensor.n_rows % known.row_group == 0
        if "ik_llama.cpp" in engines_of(target):
            fits = fits and not why_not_run(known, tensor.n_cols)
        if fits and (entry is not None or known.importance != "required"):
            allowed.append(name)
    return tuple(allowed), entry
