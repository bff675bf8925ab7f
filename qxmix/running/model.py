"""The values of what running a model takes."""

from __future__ import annotations

from typing import Literal, NamedTuple

from qxmix.quants import Engine, QuantType

Part = Literal["embeddings", "output", "attention", "shared experts", "experts", "feed-forward", "other"]
PARTS: tuple[Part, ...] = ("embeddings", "attention", "feed-forward", "shared experts", "experts", "output", "other")
"""What the tensors of a model do, as far as it matters where they are."""


class LayerState(NamedTuple):
    """What one layer keeps of the tokens so far."""

    layer: int
    n_key: int = 0
    """Values per token that are stored as keys, or as the latent of both."""
    n_value: int = 0
    """Values per token that are stored as values."""
    windowed: bool = False
    """Whether only the last tokens of a sliding window are kept."""
    n_recurrent: int = 0
    """Float32 values per sequence, whatever its length."""


class States(NamedTuple):
    """The states of all layers, by a formula that is known."""

    layers: tuple[LayerState, ...]
    n_window: int = 0
    """Tokens of the sliding window."""


class Unknown(NamedTuple):
    """That the cache of a model cannot be told."""

    why: str


class Use(NamedTuple):
    """How a model shall be run."""

    engine: Engine
    n_ctx: int
    """Tokens of context, all sequences together (``-c``)."""
    kv_type: QuantType
    """Of keys and values (``-ctk``, ``-ctv``)."""
    n_parallel: int = 1
    """Sequences at a time (``-np``)."""
    n_ubatch: int = 512
    """Tokens that are computed at a time (``-ub``)."""
    vram: tuple[int, ...] = ()
    """Bytes of each GPU; empty for none."""
    ram: int | None = None
    """Bytes of memory; None where it does not matter."""


class Cache(NamedTuple):
    """Bytes of the cache, layer by layer."""

    by_layer: dict[int, int]
    why_unknown: str = ""
    """Why there is no figure, else empty."""

    @property
    def nbytes(self) -> int:
        """All of it."""
        return sum(self.by_layer.values())


class Placed(NamedTuple):
    """What is on one device."""

    device: str
    """``GPU 0``, ``CPU``."""
    weights: dict[Part, int]
    """Bytes of each part."""
    cache: int
    """Bytes of the cache."""
    compute: int
    """Bytes of buffers for results in between; an estimate."""
    room: int | None
    """Bytes that the device has; None where it does not matter."""

    @property
    def nbytes(self) -> int:
        """All of it."""
        return sum(self.weights.values()) + self.cache + self.compute

    @property
    def missing(self) -> int:
        """Bytes that do not fit."""
        return 0 if self.room is None else max(0, self.nbytes - self.room)


class Running(NamedTuple):
    """What running a planned model takes."""

    use: Use
    cache: Cache
    devices: tuple[Placed, ...]
    flags: tuple[str, ...]
    """Options of the engine's programs that make it so."""
    unlatent: Cache | None = None
    """The cache with ``-mla 0``, where the engine may keep keys and values of every head instead of MLA's latent."""

    @property
    def nbytes(self) -> int:
        """All devices together."""
        return sum(d.nbytes for d in self.devices)

    @property
    def lacking_vram(self) -> int:
        """Bytes that the GPUs lack; where nobody says how much memory there is, all that is not on them."""
        *gpus, cpu = self.devices
        if not gpus:
            return 0
        left = cpu.nbytes - cpu.weights.get("embeddings", 0) if self.use.ram is None else 0
        return sum(d.missing for d in gpus) + left

    @property
    def lacking_ram(self) -> int:
        """Bytes that the memory lacks."""
        return self.devices[-1].missing

    @property
    def fits(self) -> bool:
        """Whether nothing is lacking."""
        return not (self.lacking_vram or self.lacking_ram)
