"""Every tensor type of llama.cpp and ik_llama.cpp: ids, sizes and file types.

The planner needs the sizes of types that qxmix does not encode, and it may not import numba, so the facts of all
types stand here and each codec in a file of its own.  Sources: ``ggml.h``/``ggml-common.h`` of llama.cpp (mid 2026)
and of ik_llama.cpp 8337e4cd; ids and block sizes of the shared types are held equal to the ``gguf`` package by a test.
Two numbers are traps: file type 41 is Q1_0 for ik_llama.cpp and Q2_0 for llama.cpp, while *tensor* type 41 is Q1_0
for both; ids 142 and 143 are retired by ik_llama.cpp and reused by a fork, so they stay unknown here.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TypedDict, Unpack

from qxmix.quants.quant_type import Engine, Importance, QuantType

_BOTH: tuple[Engine, ...] = ("llama.cpp", "ik_llama.cpp")
_ML: tuple[Engine, ...] = ("llama.cpp",)
_IK: tuple[Engine, ...] = ("ik_llama.cpp",)
_NL = ("IQ4_NL", "IQ4_NL")
_Q4 = ("Q4_0", "IQ4_NL")
_Q8 = ("Q8_0", "Q8_0")


class _Facts(TypedDict, total=False):
    """Columns that few types have."""

    fallbacks: tuple[str, str]
    demanded_by: tuple[Engine, ...]
    searches: bool
    finds_lattices: bool
    feeds_back: bool
    takes_factor: bool
    has_symmetric: bool
    scales: tuple[int, ...]
    row_multiple: int
    least_row: int


_IQ1_ROWS: _Facts = {"fallbacks": ("", ""), "scales": (), "row_multiple": 128, "takes_factor": False}
"""They share blocks of 32 weights and nothing else with their bases."""
_Q8_K_ROWS: _Facts = {"fallbacks": ("", "Q8_0"), "finds_lattices": False}
_TAKE_FACTOR = frozenset({
    "IQ1_S", "IQ1_M", "IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ3_XXS", "IQ3_S", "IQ2_K", "IQ3_K", "IQ4_K", "IQ5_K", "IQ6_K",
    "IQ2_KS", "IQ2_KL", "IQ4_KSS", "IQ1_KT", "IQ2_KT", "IQ3_KT",
})  # fmt: skip
"""Plain types whose encoder ends by storing the scales that it found, so that a factor can make them larger."""
_FEED_BACK = frozenset({
    "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q6_0", "Q8_0", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "IQ4_NL", "IQ4_XS",
    "IQ2_K", "IQ3_K", "IQ4_K", "IQ5_K", "IQ6_K", "IQ2_KS", "IQ3_KS", "IQ4_KS", "IQ5_KS", "IQ2_XXS",
    "IQ2_XS", "IQ2_S", "IQ3_XXS", "IQ3_S", "IQ1_S", "IQ1_M", "IQ1_KT", "IQ2_KT", "IQ3_KT", "IQ4_KT",
})  # fmt: skip
"""Types that can choose the level of a weight, or the grid point or walk of eight, by the errors before them."""


def _shared(
    name: str, id_: int, block: int, nbytes: int, ftype: int | None, importance: Importance = "ignored",
    codec: str = "", **facts: Unpack[_Facts],
) -> QuantType:  # fmt: skip
    own: _Facts = {"takes_factor": name in _TAKE_FACTOR, "feeds_back": name in _FEED_BACK, **facts}
    return QuantType(name, id_, block, nbytes, importance=importance, ftype=(ftype, ftype), codec=codec, **own)


def _searched(
    name: str, id_: int, block: int, nbytes: int, ftype: int, codec: str, **facts: Unpack[_Facts]
) -> QuantType:
    """A type of both engines whose search can be named."""
    return replace(_shared(name, id_, block, nbytes, ftype, "optional", codec, **facts), searches=True)


def _ml(
    name: str, id_: int, block: int, nbytes: int, ftype: int, codec: str = "", **facts: Unpack[_Facts]
) -> QuantType:
    return QuantType(name, id_, block, nbytes, _ML, ftype=(ftype, None), codec=codec, **facts)


def _ik(
    name: str, id_: int, block: int, nbytes: int, ftype: int | None, importance: Importance = "optional",
    meta: int = 0, codec: str = "", **facts: Unpack[_Facts],
) -> QuantType:  # fmt: skip
    own: _Facts = {"takes_factor": name in _TAKE_FACTOR, "feeds_back": name in _FEED_BACK, **facts}
    return QuantType(
        name, id_, block, nbytes, _IK, meta, importance=importance, ftype=(None, ftype), codec=codec, **own
    )


def _rows(
    name: str, id_: int, base: str, block: int, nbytes: int, ftype: int | None,
    importance: Importance = "optional", meta: int = 0, codec: str = "", **facts: Unpack[_Facts],
) -> QuantType:  # fmt: skip
    """An interleaved type: what is not said is as with its base, and the scales of all rows of a block come first."""
    group = int(name.rpartition("_R")[2])
    plain = _BASES[base]
    own: _Facts = {
        "fallbacks": ("", plain.fallback("ik_llama.cpp")),
        "demanded_by": tuple(e for e in plain.demanded_by if e in _IK),
        "searches": plain.searches,
        "finds_lattices": plain.finds_lattices,
        "takes_factor": plain.takes_factor,
        "scales": tuple(range(0, 2 * len(plain.scales) * group, 2)),
        **facts,
    }
    return QuantType(name, id_, block, nbytes, _IK, meta, group, base, importance, (None, ftype), codec, **own)


def _other(name: str, id_: int, block: int, nbytes: int, engines: tuple[Engine, ...] = _BOTH) -> QuantType:
    return QuantType(name, id_, block, nbytes, engines, writable=False)


_PLAIN: tuple[QuantType, ...] = (
    _shared("F32", 0, 1, 4, 0, codec="floats"),
    _shared("F16", 1, 1, 2, 1, codec="floats"),
    _shared("BF16", 30, 1, 2, 32, codec="floats"),
    # 32-weight blocks
    _searched("Q4_0", 2, 32, 18, 2, "block32.q4_0", scales=(0,), has_symmetric=True),
    _shared("Q4_1", 3, 32, 20, 3, "optional", "block32.q4_1", scales=(0, 2), finds_lattices=True),
    _searched("Q5_0", 6, 32, 22, 8, "block32.q5_0", scales=(0,)),
    _shared("Q5_1", 7, 32, 24, 9, "optional", "block32.q5_1", scales=(0, 2), finds_lattices=True),
    _shared("Q8_0", 8, 32, 34, 7, codec="block32.q8_0", scales=(0,), finds_lattices=True),
    _searched("IQ4_NL", 20, 32, 18, 25, "block32.iq4_nl", scales=(0,)),
    _shared("MXFP4", 39, 32, 17, 38, codec="block32.mxfp4"),
    _ik("Q6_0", 133, 32, 26, 135, codec="block32.q6_0", searches=True, scales=(0,)),
    # K-quants, 256-weight super-blocks
    _shared("Q2_K", 10, 256, 84, 10, "optional", "k_quants.q2_k", fallbacks=_Q4, scales=(80, 82)),
    _searched("Q3_K", 11, 256, 110, 12, "k_quants.q3_k", fallbacks=_Q4, scales=(108,)),
    _shared(
        "Q4_K",
        12,
        256,
        144,
        15,
        "optional",
        "k_quants.q4_k",
        fallbacks=("Q5_0", "Q5_0"),
        scales=(0, 2),
    ),
    _shared("Q5_K", 13, 256, 176, 17, "optional", "k_quants.q5_k", fallbacks=("Q5_1", "Q6_0"), scales=(0, 2)),
    _searched("Q6_K", 14, 256, 210, 18, "k_quants.q6_k", fallbacks=_Q8, scales=(208,)),
    # I-quants on a grid or a level table
    _shared("IQ2_XXS", 16, 256, 66, 19, "required", "grid.iq2_xxs", fallbacks=_NL, scales=(0,), demanded_by=_BOTH),
    _shared("IQ2_XS", 17, 256, 74, 20, "required", "grid.iq2_xs", fallbacks=_NL, scales=(0,), demanded_by=_BOTH),
    _shared("IQ2_S", 22, 256, 82, 28, "optional", "grid.iq2_s", fallbacks=_NL, scales=(0,), demanded_by=_BOTH),
    _shared("IQ3_XXS", 18, 256, 98, 23, "optional", "grid.iq3_xxs", fallbacks=_NL, scales=(0,), demanded_by=_ML),
    _shared("IQ3_S", 21, 256, 110, 26, "optional", "grid.iq3_s", fallbacks=_NL, scales=(0,)),
    _shared("IQ1_S", 19, 256, 50, 24, "required", "grid.iq1_s", fallbacks=_NL, scales=(0,), demanded_by=_BOTH),
    _shared("IQ1_M", 29, 256, 56, 31, "optional", "grid.iq1_m", fallbacks=_NL, demanded_by=_BOTH),
    _searched("IQ4_XS", 23, 256, 136, 30, "level.iq4_xs", fallbacks=_NL, scales=(0,)),
    # one bit; ik_llama.cpp calls it Q1_0_G128 and numbers its file type otherwise
    QuantType("Q1_0", 41, 128, 18, _BOTH, ftype=(40, 41), codec="few_bits.q1_0", scales=(0,)),
    # llama.cpp only
    _ml("TQ1_0", 34, 256, 54, 36, "few_bits.ternary", fallbacks=("Q4_0", ""), scales=(52,)),
    _ml("TQ2_0", 35, 256, 66, 37, "few_bits.ternary", fallbacks=("Q4_0", ""), scales=(64,)),
    _ml("NVFP4", 40, 64, 36, 39, "block32.nvfp4"),
    _ml("Q2_0", 42, 64, 18, 41, "few_bits.ternary", fallbacks=("Q4_0", ""), scales=(0,)),
    # ik_llama.cpp only
    _ik("IQ1_BN", 134, 64, 13, 136, "ignored", meta=2, codec="few_bits.bitnet", least_row=512),
    _ik("IQ2_BN", 135, 64, 16, 137, "ignored", meta=4, codec="few_bits.bitnet", least_row=512),
    _ik("IQ2_K", 137, 256, 76, 138, codec="level.iq2_k", fallbacks=("", "IQ4_NL"), scales=(0,)),
    _ik("IQ3_K", 138, 256, 110, 139, codec="level.iq3_k", fallbacks=("", "IQ4_NL"), scales=(0,)),
    _ik("IQ4_K", 139, 256, 144, 140, codec="level.iq4_k", fallbacks=("", "Q5_0"), scales=(0,)),
    _ik("IQ5_K", 140, 256, 176, 141, codec="level.iq5_k", fallbacks=("", "Q6_0"), scales=(0,)),
    _ik("IQ6_K", 141, 256, 212, 142, codec="level.iq6_k", fallbacks=("", "Q8_0"), scales=(0,)),
    _ik("IQ4_KS", 144, 256, 136, 145, meta=4, codec="level.iq4_ks", fallbacks=("", "IQ4_NL")),
    _ik("IQ2_KS", 145, 256, 70, 147, meta=2, codec="level.iq2_ks", fallbacks=("", "IQ4_NL")),
    _ik("IQ4_KSS", 146, 256, 128, 148, meta=4, codec="level.iq4_kss", fallbacks=("", "IQ4_NL")),
    _ik("Q8_KV", 151, 32, 32, 149, "ignored", meta=8, codec="interleaved.q8_rows", row_multiple=256),
    _ik("IQ5_KS", 152, 256, 168, 150, meta=4, codec="level.iq5_ks", fallbacks=("", "Q5_0")),
    _ik("IQ2_KT", 153, 256, 68, 151, meta=4, codec="trellis.iq2_kt", fallbacks=("", "IQ4_NL"), demanded_by=_IK),
    _ik("IQ3_KT", 154, 256, 100, 152, meta=4, codec="trellis.iq3_kt", fallbacks=("", "IQ4_NL")),
    _ik("IQ4_KT", 155, 256, 128, 153, meta=4, codec="trellis.iq4_kt", fallbacks=("", "IQ4_NL")),
    _ik("IQ3_KS", 156, 256, 102, 154, meta=2, codec="level.iq3_ks", fallbacks=("", "IQ4_NL")),
    _ik("IQ2_KL", 157, 256, 86, 155, meta=2, codec="level.iq2_kl", fallbacks=("", "IQ4_NL")),
    _ik("IQ1_KT", 158, 256, 56, 156, meta=4, codec="trellis.iq1_kt", fallbacks=("", "IQ4_NL"), demanded_by=_IK),
)
_BASES = {t.name: t for t in _PLAIN}
_INTERLEAVED = (
    # ik_llama.cpp, rows interleaved: name, id, base, weights and bytes per block and row, file type
    _rows("Q4_0_R8", 202, "Q4_0", 32, 18, 202, codec="interleaved.rows_32"),
    _rows("Q5_0_R4", 206, "Q5_0", 32, 22, 208, codec="interleaved.rows_32"),
    _rows("Q8_0_R8", 208, "Q8_0", 32, 34, 207, "ignored", codec="interleaved.rows_32"),
    _rows("Q2_K_R4", 210, "Q2_K", 256, 84, 210, codec="interleaved.rows_k"),
    _rows("Q3_K_R4", 211, "Q3_K", 256, 110, 211, codec="interleaved.rows_k"),
    _rows("Q4_K_R4", 212, "Q4_K", 256, 144, 214, codec="interleaved.rows_k"),
    _rows("Q5_K_R4", 213, "Q5_K", 256, 176, 216, codec="interleaved.rows_k"),
    _rows("Q6_K_R4", 214, "Q6_K", 256, 210, 218, codec="interleaved.rows_k"),
    _rows("IQ2_XXS_R4", 216, "IQ2_XXS", 256, 66, 219, "required", codec="interleaved.rows_grid"),
    _rows("IQ2_XS_R4", 217, "IQ2_XS", 256, 74, 220, "required", codec="interleaved.rows_grid"),
    _rows("IQ3_XXS_R4", 218, "IQ3_XXS", 256, 98, 223, codec="interleaved.rows_grid"),
    _rows("IQ1_S_R4", 219, "IQ1_S", 32, 6, 224, "required", meta=2, codec="interleaved.iq1_rows", **_IQ1_ROWS),
    _rows("IQ4_NL_R4", 220, "IQ4_NL", 32, 18, 225, codec="interleaved.rows_32"),
    _rows("IQ3_S_R4", 221, "IQ3_S", 256, 110, 226, codec="interleaved.rows_grid"),
    _rows("IQ2_S_R4", 222, "IQ2_S", 256, 82, 229, codec="interleaved.rows_grid"),
    _rows("IQ4_XS_R8", 223, "IQ4_XS", 256, 136, 230, codec="interleaved.rows_k"),
    _rows("IQ1_M_R4", 229, "IQ1_M", 32, 7, 231, "optional", meta=2, codec="interleaved.iq1_rows", **_IQ1_ROWS),
    _rows("BF16_R16", 230, "BF16", 2, 4, 232, "ignored", codec="interleaved.rows_32"),
    _rows("Q6_0_R4", 233, "Q6_0", 32, 26, 335, codec="interleaved.rows_32"),
    _rows("IQ2_BN_R4", 335, "IQ2_BN", 64, 16, 337, "ignored", meta=4, codec="few_bits.bitnet"),
    _rows("IQ2_K_R4", 337, "IQ2_K", 256, 76, 338, codec="interleaved.rows_levels"),
    _rows("IQ3_K_R4", 338, "IQ3_K", 256, 110, 339, codec="interleaved.rows_levels"),
    _rows("IQ4_K_R4", 339, "IQ4_K", 256, 144, 340, codec="interleaved.rows_levels"),
    _rows("IQ5_K_R4", 340, "IQ5_K", 256, 176, 341, codec="interleaved.rows_levels"),
    _rows("IQ4_KS_R4", 344, "IQ4_KS", 256, 136, 345, meta=4, codec="interleaved.rows_levels"),
    _rows("IQ5_KS_R4", 352, "IQ5_KS", 256, 168, 350, meta=4, codec="interleaved.rows_levels"),
    _rows("MXFP4_R8", 353, "MXFP4", 32, 17, 351, "ignored", codec="interleaved.rows_32"),
    _rows("Q8_KV_R8", 398, "Q8_KV", 32, 32, 398, "ignored", meta=4, codec="interleaved.q8_rows", row_multiple=256),
    _rows("Q8_K_R8", 399, "Q8_0", 256, 258, 399, "ignored", codec="interleaved.q8_rows", **_Q8_K_ROWS),
)
_COPIED = (
    # carried over, never chosen
    _other("I8", 24, 1, 1),
    _other("I16", 25, 1, 2),
    _other("I32", 26, 1, 4),
    _other("I64", 27, 1, 8),
    _other("F64", 28, 1, 8),
    _other("Q8_K_R16", 397, 256, 258, _IK),
)

QUANT_TYPES: tuple[QuantType, ...] = (*_PLAIN, *_INTERLEAVED, *_COPIED)
"""All types."""

UNREADABLE = {
    31: "Q4_0_4_4", 32: "Q4_0_4_8", 33: "Q4_0_8_8", 36: "I2_S", 37: "IQ4_NL_4_8", 38: "IQ4_NL_8_8",
    142: "IQ2_TN", 143: "IQ1_TN",
}  # fmt: skip
"""Ids of retired and foreign types that people have files of: names for messages; their layout is not known here."""
