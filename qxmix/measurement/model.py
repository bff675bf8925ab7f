"""The values of a measurement.

The loss of a model whose tensors t have the types q_t is predicted as the sum of ``sensitivity(t) * error(t, q_t)``,
the error being that of the weights and that of the inputs, which an engine rounds in a way that goes with the type
(Malinovskii et al., HIGGS, arXiv 2411.17525: valid while errors are small); the joint points tell how far that holds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

from qxmix.quants import Engine
from qxmix.recipe.model import Target

Metric = Literal["kld", "cosine"]
"""What a loss is: the mean Kullback-Leibler divergence of the base's next token from ours, in nats, or for an encoder
model the mean of 1 - cosine between the base's pooled embedding of a line and ours."""
METRICS: tuple[Metric, ...] = ("kld", "cosine")

Origin = Literal["measured", "filled"]
"""``filled``: not measured, but taken from tensors of the same category nearby in depth."""
ORIGINS: tuple[Origin, ...] = ("measured", "filled")


class MeasuredModel(NamedTuple):
    """The model that was measured."""

    name: str
    """``general.name``, or the file's name where there is none."""
    architecture: str
    header_sha256: str
    """Of its metadata, and of name, shape and type of each tensor, in hex."""
    n_tensors: int
    n_weights: int


class Trial(NamedTuple):
    """What one type does to one tensor."""

    type: str
    """Upper-case name."""
    nbytes: int
    """Bytes of the whole tensor in this type."""
    error: float
    """Sum of w (x - y)^2 over the sum of w x^2: x weights, y what is decoded, w the importance of the column, or 1."""
    cosine: float
    """Cosine between x and y, weighted likewise."""


class Sensitivity(NamedTuple):
    """Loss per relative weighted error of one tensor."""

    value: float
    error: float
    """Standard error of ``value``; where it is filled, how much the tensors around it differ."""
    origin: Origin


class MeasuredTensor(NamedTuple):
    """One tensor that a recipe may give a type."""

    name: str
    shape: tuple[int, ...]
    """In GGUF order, row length first."""
    n_rows: int
    """Rows, over all matrices, that were encoded; fewer than it has where they were sampled."""
    trials: tuple[Trial, ...]
    """One per type of ``Measurement.types`` that its rows allow, in that order."""
    sensitivity: Sensitivity | None
    """None where no text was run."""
    input_errors: tuple[float, float] | None = None
    """What rounding its inputs to 8 bits, in blocks of each of ``INPUT_BLOCKS``, changes of the product: squared and
    relative.  None where it was not observed."""


class Point(NamedTuple):
    """The loss of one tensor, or of a tie group, quantized alone."""

    tensors: tuple[str, ...]
    """Names: one, or those of one layer that were quantized together."""
    type: str
    """Upper-case name."""
    error: float | None
    """Sum over the tensors of the relative weighted error of what was swapped in; None where it is not known."""
    loss: float
    loss_error: float
    """Standard error of ``loss`` over the tokens (or lines) that were scored."""


class JointPoint(NamedTuple):
    """The loss of a whole recipe: what sums over single tensors miss."""

    name: str
    types: tuple[str, ...]
    """Upper-case name of the type of each of ``Measurement.tensors``, in that order; empty where it was left as is."""
    nbytes: int
    """Bytes of all of ``Measurement.tensors`` in these types."""
    loss: float
    loss_error: float
    """Standard error of ``loss`` over the tokens (or lines) that were scored."""


class Run(NamedTuple):
    """How losses were measured.  Other threads, batches, engines or processors change them a little."""

    engine: Engine
    version: str
    """Of the package that carries the engine."""
    n_threads: int
    n_ubatch: int
    """Tokens that the engine computed at a time."""
    n_ctx: int
    """Tokens per chunk; the second half of each is scored.  For an encoder the most tokens of a line."""
    first_chunk: int
    """Chunks (or lines) of the text before the first that was run."""
    n_chunks: int
    """Chunks (or lines) that were run."""
    text_sha256: str
    """Of the text's file, in hex."""
    noise_floor: float
    """The loss where weights move by no more than the rounding of the base's own type: less than this means nothing."""


@dataclass(frozen=True, slots=True)
class Measurement:
    """What types do to the tensors of a model."""

    model: MeasuredModel
    imatrix_sha256: str | None
    """Of the importance matrix's file, in hex; None where all columns counted the same."""
    target: Target
    """The engine that has all of ``types``."""
    types: tuple[str, ...]
    """Upper-case names, by bits per weight."""
    metric: Metric
    tensors: tuple[MeasuredTensor, ...]
    """In file order."""
    run: Run | None
    """None where no text was run: there are errors alone."""
    points: tuple[Point, ...]
    joint: tuple[JointPoint, ...]
