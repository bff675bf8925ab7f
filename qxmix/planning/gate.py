"""Which tensors are never quantized, for each engine.

Sources: the main loop of ik_llama.cpp's ``llama-quantize.cpp`` (8337e4cd) and ``tensor_allows_quantization`` of
llama.cpp's ``llama-quant.cpp`` (August 2026).  Substrings, unless they are compared whole.
"""

from __future__ import annotations

from qxmix.container.model import TensorInfo
from qxmix.planning.kept import Kept, Why
from qxmix.quants import Engine
from qxmix.recipe.model import Recipe
from qxmix.recipe.patterns import search

_WHOLE = frozenset({"position_embd.weight", "token_types.weight"})

_BOTH = ("ffn_gate_inp.weight", "attn_rel_b.weight", "ssm_conv1d")
_CONTAINS: dict[Engine, tuple[str, ...]] = {
    "ik_llama.cpp": (*_BOTH, "ssm_x.weight", "ssm_dt.weight"),
    "llama.cpp": (
        *_BOTH,
        "ffn_gate_tid2eid.weight",
        "shortconv.conv.weight",
        "altup",
        "laurel",
        "per_layer_model_proj",
        "indexer.k_proj.weight",
        "indexer.q_proj.weight",
        *(
            f"time_mix_{part}.weight"
            for part in (
                "first", "w0", "w1", "w2", "v0", "v1", "v2", "a0", "a1", "a2", "g1", "g2",
                "decay_w1", "decay_w2", "lerp_fused",
            )
        ),
        ".position_embd",
        "sam.pos_embd",
        "sam.neck.",
        "sam.net_",
        ".rel_pos",
        ".patch_embd",
        ".patch_merger",
        "a.rvq.codebook",
        "mm.a.code_embd",
    ),
}  # fmt: skip
_ARCH_CONTAINS: dict[tuple[Engine, str], tuple[str, ...]] = {
    ("llama.cpp", "glm5-next"): (
        "hc_", "indexer.attn_q_b", "indexer.attn_k", "indexer.proj", "indexer_compressor_gate",
        "indexer_compressor_ape", "ssm_f_a.weight", "ssm_f_b.weight", "ssm_g_a.weight", "ssm_g_b.weight",
        "ssm_beta.weight", "attn_kv_a_mqa.weight", "attn_k_b.weight", "attn_v_b.weight",
    ),
}  # fmt: skip

_ARCH_BEGINS: dict[tuple[Engine, str], tuple[str, ...]] = {("llama.cpp", "vllm-decision2"): ("decision.",)}
"""What the names of kept tensors begin with; held, like all of one architecture, to llama.cpp's library b11739."""

_INTEGERS = frozenset({"I8", "I16", "I32", "I64"})


def unreadable(tensor: TensorInfo) -> Kept | None:
    """Why no rule can quantize the tensor, not even with ``force``; None where one could."""
    if tensor.quant_type is None:
        return Kept(Why.UNKNOWN_TYPE, (str(tensor.type_id),))
    return Kept(Why.INTEGERS, (tensor.type,)) if tensor.type in _INTEGERS else None


def never_quantized(tensor: TensorInfo, engines: tuple[Engine, ...], arch: str) -> Kept | None:
    """Why the engines (one of them is enough) never quantize the tensor; None where they do."""
    if reason := unreadable(tensor):
        return reason
    name = tensor.name
    if not name.endswith("weight"):
        return Kept(Why.NAME)
    if len(tensor.shape) < 2:  # noqa: PLR2004
        return Kept(Why.VECTOR)
    if "_norm.weight" in name:
        return Kept(Why.NORM)
    for engine in engines:
        excluded = (*_CONTAINS[engine], *_ARCH_CONTAINS.get((engine, arch), ()))
        begins = (p for p in _ARCH_BEGINS.get((engine, arch), ()) if name.startswith(p))
        part = name if name in _WHOLE else next((p for p in excluded if p in name), next(begins, ""))
        if part:
            return Kept(Why.ENGINE, (engine, part))
    return None


def kept_by_recipe(tensor: TensorInfo, recipe: Recipe) -> Kept | None:
    """The ``keep`` pattern that the tensor's name has, as a reason; None where it has none."""
    for i, pattern in enumerate(recipe.keep):
        if search(pattern, tensor.name, recipe.places["keep"].inner(f"[{i}]")):
            return Kept(Why.RECIPE, (pattern,))
    return None
