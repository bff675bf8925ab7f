"""Every tensor type of llama.cpp and ik_llama.cpp: ids, sizes and file types.

The planner needs the sizes of types that qxmix does not encode, and it may not import numba, so the facts of all
types stand here and each codec in a file of its own.  Sources: ``ggml.h``/``ggml-common.h`` of llama.cpp (mid 2026)
and of ik_llama.cpp 8337e4cd; ids and block sizes of the shared types are held equal to the ``gguf`` package by a test.
Two numbers are traps: file type 41 is Q1_0 for ik_llama.cpp and Q2_0 for llama.cpp, while *tensor* type 41 is Q1_0
for both; ids 142 and 143 are retired by ik_llama.cpp and reused by a fork, so they stay unknown here.
"""

from __future__ import annotations

from qxmix.quants.quant_type import Engine, Importance, QuantType

_BOTH: tuple[Engine, ...] = ("llama.cpp", "ik_llama.cpp")
_ML: tuple[Engine, ...] = ("llama.cpp",)
_IK: tuple[Engine, ...] = ("ik_llama.cpp",)


def _shared(
    name: str, id_: int, block: int, nbytes: int, ftype: int | None, importance: Importance = "ignored", codec: str = ""
) -> QuantType:
    return QuantType(name, id_, block, nbytes, importance=importance, ftype=(ftype, ftype), codec=codec)


def _ml(name: str, id_: int, block: int, nbytes: int, ftype: int, codec: str = "") -> QuantType:
    return QuantType(name, id_, block, nbytes, _ML, ftype=(ftype, None), codec=codec)


def _ik(
    name: str, id_: int, block: int, nbytes: int, ftype: int | None,
    importance: Importance = "optional", meta: int = 0, codec: str = "",
) -> QuantType:  # fmt: skip
    return QuantType(name, id_, block, nbytes, _IK, meta, importance=importance, ftype=(None, ftype), codec=codec)


def _rows(
    name: str, id_: int, base: str, block: int, nbytes: int, ftype: int | None,
    importance: Importance = "optional", meta: int = 0, codec: str = "",
) -> QuantType:  # fmt: skip
    group = int(name.rpartition("_R")[2])
    return QuantType(name, id_, block, nbytes, _IK, meta, group, base, importance, (None, ftype), codec)


def _other(name: str, id_: int, block: int, nbytes: int, engines: tuple[Engine, ...] = _BOTH) -> QuantType:
    return QuantType(name, id_, block, nbytes, engines, writable=False)


QUANT_TYPES: tuple[QuantType, ...] = (
    _shared("F32", 0, 1, 4, 0, codec="floats"),
    _shared("F16", 1, 1, 2, 1, codec="floats"),
    _shared("BF16", 30, 1, 2, 32, codec="floats"),
    # 32-weight blocks
    _shared("Q4_0", 2, 32, 18, 2, "optional", codec="block32.q4_0"),
    _shared("Q4_1", 3, 32, 20, 3, "optional", codec="block32.q4_1"),
    _shared("Q5_0", 6, 32, 22, 8, "optional", codec="block32.q5_0"),
    _shared("Q5_1", 7, 32, 24, 9, "optional", codec="block32.q5_1"),
    _shared("Q8_0", 8, 32, 34, 7, codec="block32.q8_0"),
    _shared("IQ4_NL", 20, 32, 18, 25, "optional", codec="block32.iq4_nl"),
    _shared("MXFP4", 39, 32, 17, 38, codec="block32.mxfp4"),
    _ik("Q6_0", 133, 32, 26, 135, codec="block32.q6_0"),
    # K-quants, 256-weight super-blocks
    _shared("Q2_K", 10, 256, 84, 10, "optional", codec="k_quants.q2_k"),
    _shared("Q3_K", 11, 256, 110, 12, "optional", codec="k_quants.q3_k"),
    _shared("Q4_K", 12, 256, 144, 15, "optional", codec="k_quants.q4_k"),
    _shared("Q5_K", 13, 256, 176, 17, "optional", codec="k_quants.q5_k"),
    _shared("Q6_K", 14, 256, 210, 18, "optional", codec="k_quants.q6_k"),
    # I-quants on a grid or a level table
    _shared("IQ2_XXS", 16, 256, 66, 19, "required", codec="grid.iq2_xxs"),
    _shared("IQ2_XS", 17, 256, 74, 20, "required", codec="grid.iq2_xs"),
    _shared("IQ2_S", 22, 256, 82, 28, "optional", codec="grid.iq2_s"),
    _shared("IQ3_XXS", 18, 256, 98, 23, "optional", codec="grid.iq3_xxs"),
    _shared("IQ3_S", 21, 256, 110, 26, "optional", codec="grid.iq3_s"),
    _shared("IQ1_S", 19, 256, 50, 24, "required", codec="grid.iq1_s"),
    _shared("IQ1_M", 29, 256, 56, 31, "optional", codec="grid.iq1_m"),
    _shared("IQ4_XS", 23, 256, 136, 30, "optional", codec="level.iq4_xs"),
    # one bit; ik_llama.cpp calls it Q1_0_G128 and numbers its file type otherwise
    QuantType("Q1_0", 41, 128, 18, _BOTH, ftype=(40, 41), codec="few_bits.q1_0"),
    # llama.cpp only
    _ml("TQ1_0", 34, 256, 54, 36, "few_bits.ternary"),
    _ml("TQ2_0", 35, 256, 66, 37, "few_bits.ternary"),
    _ml("NVFP4", 40, 64, 36, 39, "block32.nvfp4"),
    _ml("Q2_0", 42, 64, 18, 41, "few_bits.ternary"),
    # ik_llama.cpp only
    _ik("IQ1_BN", 134, 64, 13, 136, "ignored", meta=2, codec="few_bits.bitnet"),
    _ik("IQ2_BN", 135, 64, 16, 137, "ignored", meta=4, codec="few_bits.bitnet"),
    _ik("IQ2_K", 137, 256, 76, 138, codec="level.iq2_k"),
    _ik("IQ3_K", 138, 256, 110, 139, codec="level.iq3_k"),
    _ik("IQ4_K", 139, 256, 144, 140, codec="level.iq4_k"),
    _ik("IQ5_K", 140, 256, 176, 141, codec="level.iq5_k"),
    _ik("IQ6_K", 141, 256, 212, 142, codec="level.iq6_k"),
    _ik("IQ4_KS", 144, 256, 136, 145, meta=4, codec="level.iq4_ks"),
    _ik("IQ2_KS", 145, 256, 70, 147, meta=2, codec="level.iq2_ks"),
    _ik("IQ4_KSS", 146, 256, 128, 148, meta=4, codec="level.iq4_kss"),
    _ik("Q8_KV", 151, 32, 32, 149, "ignored", meta=8, codec="interleaved.q8_rows"),
    _ik("IQ5_KS", 152, 256, 168, 150, meta=4, codec="level.iq5_ks"),
    _ik("IQ2_KT", 153, 256, 68, 151, meta=4, codec="trellis.iq2_kt"),
    _ik("IQ3_KT", 154, 256, 100, 152, meta=4, codec="trellis.iq3_kt"),
    _ik("IQ4_KT", 155, 256, 128, 153, meta=4, codec="trellis.iq4_kt"),
    _ik("IQ3_KS", 156, 256, 102, 154, meta=2, codec="level.iq3_ks"),
    _ik("IQ2_KL", 157, 256, 86, 155, meta=2, codec="level.iq2_kl"),
    _ik("IQ1_KT", 158, 256, 56, 156, meta=4, codec="trellis.iq1_kt"),
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
    _rows("IQ1_S_R4", 219, "IQ1_S", 32, 6, 224, "required", meta=2, codec="interleaved.iq1_rows"),
    _rows("IQ4_NL_R4", 220, "IQ4_NL", 32, 18, 225, codec="interleaved.rows_32"),
    _rows("IQ3_S_R4", 221, "IQ3_S", 256, 110, 226, codec="interleaved.rows_grid"),
    _rows("IQ2_S_R4", 222, "IQ2_S", 256, 82, 229, codec="interleaved.rows_grid"),
    _rows("IQ4_XS_R8", 223, "IQ4_XS", 256, 136, 230, codec="interleaved.rows_k"),
    _rows("IQ1_M_R4", 229, "IQ1_M", 32, 7, 231, "optional", meta=2, codec="interleaved.iq1_rows"),
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
    _rows("Q8_KV_R8", 398, "Q8_KV", 32, 32, 398, "ignored", meta=4, codec="interleaved.q8_rows"),
    _rows("Q8_K_R8", 399, "Q8_0", 256, 258, 399, "ignored", codec="interleaved.q8_rows"),
    # carried over, never chosen
    _other("I8", 24, 1, 1),
    _other("I16", 25, 1, 2),
    _other("I32", 26, 1, 4),
    _other("I64", 27, 1, 8),
    _other("F64", 28, 1, 8),
    _other("Q8_K_R16", 397, 256, 258, _IK),
)
"""All types; a type's fallback depends on the engine and is a matter of the recipe, not of the type."""

UNREADABLE = {
    31: "Q4_0_4_4", 32: "Q4_0_4_8", 33: "Q4_0_8_8", 36: "I2_S", 37: "IQ4_NL_4_8", 38: "IQ4_NL_8_8",
    142: "IQ2_TN", 143: "IQ1_TN",
}  # fmt: skip
"""Ids of retired and foreign types that people have files of: names for messages; their layout is not known here."""

_SEARCHING = frozenset({"Q4_0", "Q5_0", "Q6_0", "Q3_K", "Q6_K", "IQ4_NL", "IQ4_XS"})


_FEEDING_BACK = frozenset({"Q4_0", "Q5_0", "Q6_0", "Q8_0", "Q4_1", "Q5_1", "IQ4_NL"})


def feeding_back(quant_type: QuantType) -> bool:
    """Whether the type can be encoded with error feedback; ``Codec.feedback`` tells the same, but imports numba."""
    return quant_type.name in _FEEDING_BACK


def searching(quant_type: QuantType) -> bool:
    """Whether the encoder does as ``search`` says; ``Codec.searches`` tells the same, but imports numba."""
    return quant_type.codec != "" and bool(_SEARCHING & {quant_type.name, quant_type.base})
