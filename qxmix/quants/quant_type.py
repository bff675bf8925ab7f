"""What a quantization type is to everybody but its kernels: names, ids, sizes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Engine = Literal["llama.cpp", "ik_llama.cpp"]
ENGINES: tuple[Engine, ...] = ("llama.cpp", "ik_llama.cpp")

LEAST_FACTOR, MOST_FACTOR = 0.5, 2.0
"""Bounds on what scales may be multiplied with."""

Importance = Literal["ignored", "optional", "required"]


@dataclass(frozen=True, slots=True)
class QuantType:
    """A tensor type of GGUF.  A row is ``row_meta_nbytes`` of row scales and then whole blocks; rows are not padded."""

    name: str
    """Upper case, as llama.cpp's enum spells it: ``Q4_K``."""
    id: int
    """The tensor type id in a GGUF file; engines that both have a type agree on it."""
    block_size: int
    """Weights per block (or super-block)."""
    block_nbytes: int
    """Bytes per block."""
    engines: tuple[Engine, ...] = ENGINES
    """The engines that can load a tensor of this type."""
    row_meta_nbytes: int = 0
    """Bytes of scales in front of the blocks of each row."""
    row_group: int = 1
    """Rows that are stored interleaved as one unit; a tensor's row count must be a multiple of it."""
    base: str = ""
    """For an interleaved type the type it is a permutation of, else empty."""
    importance: Importance = "ignored"
    """Whether the encoder reads an importance matrix: never, if there is one, or not without one."""
    ftype: tuple[int | None, int | None] = (None, None)
    """``general.file_type`` of a file whose weights are mostly of this type, for each of ``ENGINES``."""
    codec: str = ""
    """Module of ``qxmix.quants`` that encodes and decodes it; empty where qxmix can only size and copy it."""
    writable: bool = True
    """False for types that must not stand in a new file: activations, retired layouts, plain integers."""
    fallbacks: tuple[str, str] = ("", "")
    """What a tensor gets whose rows are no whole blocks, for each of ``ENGINES``; empty where the engine has nothing:
    ``tensor_type_fallback`` of llama.cpp (since its PR 19770), ``change_type_if_necessary`` of ik_llama.cpp."""
    demanded_by: tuple[Engine, ...] = ()
    """The engines whose ``llama-quantize`` refuses to encode it without an importance matrix."""
    searches: bool = False
    """Whether the encoder does as ``search`` says; ``Codec.searches`` tells the same, but imports numba."""
    finds_lattices: bool = False
    """Whether it has one scale to find, and ``search: exhaustive`` another one where a block sits on a lattice."""
    feeds_back: bool = False
    """Whether it can be encoded with error feedback; ``Codec.feedback`` tells the same, but imports numba."""
    takes_factor: bool = False
    """Whether its scales can be stored larger than they are found; ``Codec.scaled`` tells the same."""
    has_symmetric: bool = False
    """Whether it has levels that lie evenly around zero beside others; ``Codec.symmetric`` tells the same."""
    scales: tuple[int, ...] = ()
    """Offsets of float16 scales, in bytes from the start of a block, of an interleaved type from that of the block of a
    whole group of rows."""
    row_multiple: int = 1
    """Weights of which a row must be a whole multiple for ik_llama.cpp to multiply it; it loads others, too."""
    least_row: int = 1
    """Weights that a row must have for ik_llama.cpp to multiply it."""

    @property
    def bpw(self) -> float:
        """Bits per weight of the blocks, row scales not counted."""
        return 8 * self.block_nbytes / self.block_size

    def heeds(self, search: str | None) -> bool:
        """Whether naming this search can change what the encoder finds."""
        return search is not None and (self.searches or (self.finds_lattices and search == "exhaustive"))

    def fallback(self, engine: Engine) -> str:
        """What the engine takes instead of it for rows that are no whole blocks; empty where that is nothing."""
        return self.fallbacks[ENGINES.index(engine)]

    def fits(self, n_cols: int) -> bool:
        """Whether rows of ``n_cols`` weights are whole blocks."""
        return n_cols % self.block_size == 0

    def row_nbytes(self, n_cols: int) -> int:
        """Bytes of one row of ``n_cols`` weights.

        Raises:
            ValueError: the row is not a whole number of blocks.

        """
        if not self.fits(n_cols):
            msg = f"a row of {n_cols} weights is not a whole number of {self.name} blocks of {self.block_size}"
            raise ValueError(msg)
        return self.row_meta_nbytes + n_cols // self.block_size * self.block_nbytes

    def nbytes(self, shape: tuple[int, ...]) -> int:
        """Bytes of a tensor of ``shape`` (GGUF order, row length first)."""
        n_rows = 1
        for n in shape[1:]:
            n_rows *= n
        return self.row_nbytes(shape[0]) * n_rows
