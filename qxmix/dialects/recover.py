"""The recipe that an existing GGUF would come from: few rules, exact on that file."""

from __future__ import annotations

import re
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from qxmix.container.model import ModelHeader, TensorInfo
from qxmix.dialects.prove import Proof
from qxmix.dialects.write import quoted, recipe_name
from qxmix.plan import make_plan
from qxmix.planning.facts import model_facts
from qxmix.planning.gate import never_quantized, unreadable
from qxmix.quants import Engine, find
from qxmix.recipe import load_recipe
from qxmix.recipe.categories import block_of
from qxmix.recipe.layers import LayerSelector, holds, layers_text, parse_terms
from qxmix.recipe.model import KEEP

_SUBSTITUTES = {
    "IQ4_NL": "a type below 4.5 bits", "Q4_0": "Q2_K or Q3_K", "Q5_0": "Q4_K", "Q5_1": "Q5_K", "Q6_0": "Q5_K",
    "Q8_0": "Q6_K", "F16": "a block type",
}  # fmt: skip
_BLOCK = 256
_AS_THEY_ARE = (KEEP, "F32", "F16", "BF16")
_FEW = 3
"""As many layers are shorter as numbers."""


def recover(
    header: ModelHeader, target: Engine | None, model: ModelHeader | None = None, name: str = ""
) -> tuple[str, Proof]:
    """Rules that give every tensor of a file the type it has, and the proof of it.

    Args:
        header: The file.
        target: The engine; None: llama.cpp if it knows all the file's types.
        model: What to prove it on; None: the file itself.
        name: The recipe's; without it the file's.

    """
    engine = target or _engine(header)
    tensors = [t for t in header.tensors if t.quant_type is not None]
    free = [t for t in tensors if not never_quantized(t, (engine,), header.architecture)]
    nbytes: Counter[str] = Counter()
    for tensor in free:
        nbytes[_word(tensor)] += tensor.nbytes
    default = nbytes.most_common(1)[0][0] if nbytes else KEEP
    lines = [
        f"# Recovered from the types of {recipe_name(header.path.name)}.",
        "# The recipe that it was made by may have said the same in other words.",
        "qxmix: 1",
        f"name: {quoted(recipe_name(name or header.path.stem))}",
        f"target: {engine}",
        f"default: {default.lower()}",
    ]
    forced = [t for t in tensors if t not in free and _word(t) not in _AS_THEY_ARE and not unreadable(t)]
    rules = [*_rules(free, default, header), *_rules(forced, "", header)]
    lines += ["rules:", *rules] if rules else []
    text = "\n".join(lines) + "\n"
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "recovered.yaml"
        path.write_text(text, encoding="utf-8")
        recipe = replace(load_recipe(path), allow_requantize=True)
    plan = make_plan(recipe, model or header)
    types = {t.name: t.type for t in header.tensors}
    pairs = ((t.name, types.pop(t.name, "missing"), t.type) for t in plan.tensors)
    different = [p for p in pairs if p[1] != p[2]]
    different += [(name, kind, "missing") for name, kind in types.items()]
    return text, Proof(plan, tuple(different))


def _word(tensor: TensorInfo) -> str:
    """What a recipe says so that a tensor has the type it has: its name, or to keep it where no recipe can name it."""
    return tensor.type if tensor.quant_type is not None and tensor.quant_type.writable else KEEP


def _engine(header: ModelHeader) -> Engine:
    known = [t.quant_type for t in header.tensors if t.quant_type is not None]
    return "llama.cpp" if all("llama.cpp" in q.engines for q in known) else "ik_llama.cpp"


def _rules(tensors: list[TensorInfo], default: str, header: ModelHeader) -> Iterator[str]:
    """For each part of the layers its types, the rarer ones by layer first; parts of equal types share a rule.

    Without a default they are tensors that the engines quantize only when they are forced.
    """
    n_layer = model_facts(header, has_imatrix=False)["n_layer"]
    assert isinstance(n_layer, int)
    parts: dict[str, list[TensorInfo]] = defaultdict(list)
    for tensor in tensors:
        parts[
            re.sub(r"^blk\.\d+\.", "", tensor.name) if block_of(tensor.name) is not None else f"^{tensor.name}"
        ].append(tensor)
    shared: dict[tuple[bool, tuple[tuple[str, str], ...]], list[str]] = defaultdict(list)
    for part, members in parts.items():
        shared[part.startswith("^"), tuple(_fates(part, members, default, n_layer))].append(part)
    for (_, fates), names in shared.items():
        hint = _hint([t for n in names for t in parts[n]])
        for layers, kind in fates:
            force = "" if default else ", force: true"
            if hint:
                yield f"  # {hint}"
                hint = ""
            where = f", layers: {quoted(layers)}" if layers else ""
            yield f"  - {{match: {quoted(_pattern(names))}{where}, type: {kind.lower()}{force}}}"


def _fates(part: str, members: list[TensorInfo], default: str, n_layer: int) -> Iterator[tuple[str, str]]:
    layers: dict[str, list[int]] = defaultdict(list)
    for tensor in members:
        layers[_word(tensor)].append(block_of(tensor.name) or 0)
    if part.startswith("^"):
        yield from (("", kind) for kind in layers if kind != default)
        return
    if not default:
        # The part in other layers is to stay as it is.
        yield from ((layer_text(found, n_layer), kind) for kind, found in layers.items())
        return
    common = default if default in layers else max(layers, key=lambda k: len(layers[k]))
    yield from ((layer_text(found, n_layer), kind) for kind, found in layers.items() if kind != common)
    if common != default:
        yield "", common


def layer_text(layers: list[int], n_layer: int) -> str:
    """A layer selector that picks exactly these of the model's layers: ``0-2, 5, 7-13/3``, or ``more_bits``."""
    picked = set(layers)
    for text in ("more_bits", "!more_bits"):
        selector = LayerSelector(parse_terms(text, {}))
        if len(picked) > _FEW and {i for i in range(n_layer) if holds(selector, i, n_layer)} == picked:
            return text
    return layers_text(picked)


def _pattern(names: list[str]) -> str:
    own = [re.escape(n.removeprefix("^")) for n in names]
    if names[0].startswith("^"):
        return f"^{own[0]}$" if len(own) == 1 else f"^({'|'.join(own)})$"
    return rf"^blk\.\d+\.{own[0]}$" if len(own) == 1 else rf"^blk\.\d+\.({'|'.join(own)})$"


def _hint(members: list[TensorInfo]) -> str:
    """That a type is probably what another became whose blocks do not divide the rows."""
    odd = [t for t in members if t.n_cols % _BLOCK and t.type in _SUBSTITUTES and find(t.type)]
    if not odd:
        return ""
    tensor = odd[0]
    wanted = _SUBSTITUTES[tensor.type]
    return (
        f"Probably a fallback: rows of {tensor.n_cols} weights hold no blocks of {_BLOCK}, "
        f"{tensor.type} may stand for {wanted}."
    )
