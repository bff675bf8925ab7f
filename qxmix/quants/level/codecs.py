"""The codecs of the types with two level tables, made of what tells them apart."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qxmix.quants.codec import Codec, at_factor
from qxmix.quants.common.row_scale import row_decoder
from qxmix.quants.common.superblock import super_decoder
from qxmix.quants.feedback.level_super import level_feedback, level_rows_feedback
from qxmix.quants.level.encoder import LevelType, encode_rows, encode_super

if TYPE_CHECKING:
    from qxmix.quants.contracts import PutRow, PutSuper


def super_codec(kind: LevelType, put: PutSuper, *, factor: float = 1.0, version: int = 3) -> Codec:
    """Build the codec of a type with a half in front of each super-block, by ``factor`` larger than what fits best."""
    encode = encode_super(kind)
    return Codec(
        decode=super_decoder(kind.nbytes, put), encode=at_factor(encode, factor), scaled=encode,
        feedback=level_feedback(kind), version=version,
    )  # fmt: skip


def rows_codec(kind: LevelType, put: PutRow, *, version: int = 2) -> Codec:
    """Build the codec of a type with a scale in front of each row."""
    return Codec(
        decode=row_decoder(kind.nbytes, put, half=kind.half), encode=encode_rows(kind),
        feedback=level_rows_feedback(kind), version=version,
    )  # fmt: skip
