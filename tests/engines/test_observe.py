"""Inputs of products as the engine's callback shows them, against products computed here from the same weights."""

from __future__ import annotations

from typing import TYPE_CHECKING

import gguf
import numpy as np
import pytest

from qxmix.engines.session import Observed, Session
from qxmix.errors import RunError

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from qxmix.engines.frames import Message

TOKENS = np.arange(260, 260 + 100, dtype=np.int32)


class Recorder:
    """Keeps what it is shown of some tensors."""

    def __init__(self, names: list[str], refuse: str = "") -> None:
        self._names, self._refuse = names, refuse
        self._rows: dict[str, list[NDArray[np.float32]]] = {}
        self._experts: dict[str, list[list[list[int]]]] = {}

    def wants(self, name: str) -> bool:
        return name in self._names

    def take(self, name: str, rows: NDArray[np.float32], experts: NDArray[np.int32] | None) -> None:
        if name == self._refuse:
            raise RunError(f"{name} is refused")
        self._rows.setdefault(name, []).append(rows.copy())
        if experts is not None:
            self._experts.setdefault(name, []).append(experts.tolist())

    def result(self) -> tuple[Message, bytes]:
        joined = {name: np.concatenate(parts) for name, parts in self._rows.items()}
        shapes = {name: list(rows.shape) for name, rows in joined.items()}
        return {"shapes": shapes, "experts": self._experts}, b"".join(r.tobytes() for r in joined.values())


def observe(
    path: Path, names: list[str], *, fused: bool = True, n_ubatch: int = 512
) -> tuple[dict[str, NDArray[np.float32]], dict[str, list[list[list[int]]]]]:
    observed = Observed("tests.engines.test_observe:Recorder", {"names": names}, fused)
    with Session("ik_llama.cpp", path, n_ctx=128, n_threads=1, n_ubatch=n_ubatch, observed=observed) as session:
        session.run(TOKENS)
        answer, data = session.gathered()
    rows, at = {}, 0
    shapes, experts = answer["shapes"], answer["experts"]
    assert isinstance(shapes, dict)
    assert isinstance(experts, dict)
    for name, shape in shapes.items():
        n = shape[0] * shape[1]
        rows[name] = np.frombuffer(data, np.float32, n, at).reshape(shape)
        at += 4 * n
    return rows, experts


def weights(path: Path, name: str) -> NDArray[np.float32]:
    return np.array(next(t for t in gguf.GGUFReader(path).tensors if t.name == name).data, np.float32)


def normalized(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    scale = np.sqrt((rows.astype(np.float64) ** 2).mean(axis=1, keepdims=True) + 1e-5)
    return np.asarray(rows / scale, np.float32)


def test_the_first_products_see_the_normalized_embeddings(demo_model: Path) -> None:
    names = [f"blk.0.attn_{part}.weight" for part in "qkv"]
    rows, experts = observe(demo_model, names)
    expected = normalized(weights(demo_model, "token_embd.weight")[TOKENS])
    assert set(rows) == set(names)
    assert not experts
    for name in names:
        np.testing.assert_allclose(rows[name], expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("fused", [True, False])
def test_every_layer_sees_every_token(demo_model: Path, fused: bool) -> None:
    tensors = [t for t in gguf.GGUFReader(demo_model).tensors if len(t.shape) == 2 and t.name != "token_embd.weight"]
    rows, _ = observe(demo_model, [t.name for t in tensors], fused=fused)
    shapes = {t.name: (TOKENS.size, int(t.shape[0])) for t in tensors}
    assert {name: r.shape for name, r in rows.items()} == shapes


def test_batches_do_not_change_what_is_seen(demo_model: Path) -> None:
    names = ["blk.3.ffn_down.weight", "output.weight"]
    whole, _ = observe(demo_model, names)
    parts, _ = observe(demo_model, names, n_ubatch=32)
    for name in names:
        assert parts[name].shape == whole[name].shape
        np.testing.assert_allclose(parts[name], whole[name], rtol=0.02, atol=0.02)


def silu(x: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray(x / (1 + np.exp(-x)), np.float32)


@pytest.mark.parametrize("fused", [True, False])
def test_experts_see_the_rows_that_the_router_sends(demo_moe_model: Path, fused: bool) -> None:
    up, gate, down = (f"blk.0.ffn_{part}_exps.weight" for part in ("up", "gate", "down"))
    router = "blk.0.ffn_gate_inp.weight"
    rows, experts = observe(demo_moe_model, [up, gate, down, router], fused=fused)
    (of_up,), (of_gate,), (of_down,) = experts[up], experts[gate], experts[down]
    assert of_up == of_gate
    np.testing.assert_array_equal(rows[up], rows[router])
    scores = rows[router] @ weights(demo_moe_model, router).T
    likeliest = np.sort(np.argsort(-scores, axis=1)[:, :2], axis=1)
    np.testing.assert_array_equal(np.sort(of_up, axis=1), likeliest)
    assert np.ravel(of_up).tolist() == np.ravel(of_down).tolist()
    w_up, w_gate = weights(demo_moe_model, up), weights(demo_moe_model, gate)
    for i, expert in enumerate(np.ravel(of_down)):
        x = rows[up][i // 2]
        np.testing.assert_allclose(rows[down][i], (w_up[expert] @ x) * silu(w_gate[expert] @ x), rtol=0.02, atol=0.02)


def test_an_error_of_the_consumer_ends_the_pass_and_is_told(demo_model: Path) -> None:
    name = "blk.2.attn_q.weight"
    observed = Observed("tests.engines.test_observe:Recorder", {"names": [name], "refuse": name})
    with Session("ik_llama.cpp", demo_model, n_ctx=128, n_threads=1, observed=observed) as session:
        with pytest.raises(RunError, match=rf"{name} is refused"):
            session.run(TOKENS)
        with pytest.raises(RunError, match=rf"{name} is refused"):
            session.run(TOKENS)
