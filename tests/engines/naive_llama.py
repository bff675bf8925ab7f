"""The llama architecture in NumPy, float64, one sequence at once; it yields what goes into each matrix."""

from __future__ import annotations

from typing import TYPE_CHECKING

import gguf
import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator
    from pathlib import Path

Array = NDArray[np.float64]
Input = tuple[str, int, Array]
"""A matrix, which of its stacked matrices, and the rows (n, n_cols) that go into it."""


class NaiveLlama:
    """A model with its weights in float64."""

    def __init__(self, path: Path) -> None:
        reader = gguf.GGUFReader(path)
        self._weights = {t.name: np.array(t.data, np.float64) for t in reader.tensors}
        arch = reader.fields["general.architecture"].contents()

        def number(key: str) -> int:
            field = reader.fields.get(f"{arch}.{key}")
            return 0 if field is None else int(field.contents())

        self._n_head, self._n_head_kv = number("attention.head_count"), number("attention.head_count_kv")
        self._n_layer, self._n_used = number("block_count"), number("expert_used_count")

    def inputs(self, tokens: NDArray[np.int32]) -> Iterator[Input]:
        """What goes into every matrix, layer by layer."""
        x = self._weights["token_embd.weight"][tokens]
        for layer in range(self._n_layer):
            blk = f"blk.{layer}."
            h = self._norm(x, blk + "attn_norm.weight")
            yield from ((f"{blk}attn_{part}.weight", 0, h) for part in "qkv")
            mixed = self._attention(h, blk)
            yield blk + "attn_output.weight", 0, mixed
            x = x + mixed @ self._weights[blk + "attn_output.weight"].T
            h = self._norm(x, blk + "ffn_norm.weight")
            if self._n_used:
                out = yield from self._experts(h, blk)
                # Found in ik_llama.cpp (wheel of August 2026): for this architecture with experts it adds their output
                # to the normalized input, where llama.cpp adds it to the residual stream.
                x = h
            else:
                yield from ((f"{blk}ffn_{part}.weight", 0, h) for part in ("gate", "up"))
                inner = self._inner(h, *(self._weights[f"{blk}ffn_{part}.weight"] for part in ("gate", "up")))
                yield blk + "ffn_down.weight", 0, inner
                out = inner @ self._weights[blk + "ffn_down.weight"].T
            x = x + out
        yield "output.weight", 0, self._norm(x, "output_norm.weight")

    def _norm(self, x: Array, name: str) -> Array:
        scaled: Array = x / np.sqrt((x * x).mean(axis=1, keepdims=True) + 1e-5) * self._weights[name]
        return scaled

    def _attention(self, h: Array, blk: str) -> Array:
        n = len(h)
        q, k, v = (h @ self._weights[f"{blk}attn_{part}.weight"].T for part in "qkv")
        size = q.shape[1] // self._n_head
        q, k = (_rotate(a.reshape(n, -1, size)) for a in (q, k))
        v = v.reshape(n, -1, size)
        heads = []
        for head in range(self._n_head):
            kv = head * self._n_head_kv // self._n_head
            scores = q[:, head] @ k[:, kv].T / np.sqrt(size)
            scores[np.triu_indices(n, 1)] = -np.inf
            heads.append(_softmax(scores) @ v[:, kv])
        return np.concatenate(heads, axis=1)

    def _inner(self, h: Array, gate: Array, up: Array) -> Array:
        g = h @ gate.T
        inner: Array = g / (1 + np.exp(-g)) * (h @ up.T)
        return inner

    def _experts(self, h: Array, blk: str) -> Generator[Input, None, Array]:
        probs = _softmax(h @ self._weights[blk + "ffn_gate_inp.weight"].T)
        chosen = np.argsort(-probs, axis=1)[:, : self._n_used]
        shares = np.take_along_axis(probs, chosen, axis=1)
        shares /= shares.sum(axis=1, keepdims=True)
        out = np.zeros_like(h)
        stacks = {part: self._weights[f"{blk}ffn_{part}_exps.weight"] for part in ("gate", "up", "down")}
        for expert in range(probs.shape[1]):
            rows, slots = np.nonzero(chosen == expert)
            yield from ((f"{blk}ffn_{part}_exps.weight", expert, h[rows]) for part in ("gate", "up"))
            inner = self._inner(h[rows], stacks["gate"][expert], stacks["up"][expert])
            yield blk + "ffn_down_exps.weight", expert, inner
            out[rows] += shares[rows, slots, None] * (inner @ stacks["down"][expert].T)
        return out


def _softmax(scores: Array) -> Array:
    e = np.exp(scores - scores.max(axis=1, keepdims=True))
    probs: Array = e / e.sum(axis=1, keepdims=True)
    return probs


def _rotate(heads: Array) -> Array:
    """Rotary position embedding of neighbouring pairs, base 10,000."""
    n, _, size = heads.shape
    angles = np.arange(n)[:, None] * 10000.0 ** (-np.arange(0, size, 2) / size)
    even, odd = heads[..., 0::2], heads[..., 1::2]
    cos, sin = np.cos(angles)[:, None], np.sin(angles)[:, None]
    turned = np.empty_like(heads)
    turned[..., 0::2], turned[..., 1::2] = even * cos - odd * sin, even * sin + odd * cos
    return turned
