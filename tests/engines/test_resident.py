"""A resident base: what is put in is scored as a file of the same weights, and what is put back is the base."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING, BinaryIO, cast

import gguf
import numpy as np
import pytest

from qxmix.container.header import read_header
from qxmix.demo import model as demo
from qxmix.engines.chunks import cut
from qxmix.engines.evaluate import Settings, evaluate
from qxmix.engines.frames import send
from qxmix.engines.memory import available_nbytes
from qxmix.engines.reference import Reference
from qxmix.engines.resident import Resident
from qxmix.engines.scores import log_softmax, score
from qxmix.errors import ModelFileError, RunError
from qxmix.quants import ENGINES

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from qxmix.quants import Engine

NAME = "blk.1.ffn_down.weight"


@pytest.fixture(scope="module", params=ENGINES)
def resident(request: pytest.FixtureRequest, demo_model: Path, demo_text: bytes) -> Iterator[Resident]:
    with Resident(request.param, read_header(demo_model), n_ctx=128, n_threads=1) as session:
        assert list(session.keep_chunks(cut([session], demo_text, 128, 2))) == [0, 1]
        yield session


def weights(path: Path, name: str) -> NDArray[np.float16]:
    return np.array(next(t for t in gguf.GGUFReader(path).tensors if t.name == name).data)


def halves(values: NDArray[np.float16]) -> list[tuple[int, bytes]]:
    """In two pieces, the second first."""
    data = values.tobytes()
    middle = len(data) // 3
    return [(middle, data[middle:]), (0, data[:middle])]


def noisy(values: NDArray[np.float16], size: float) -> NDArray[np.float16]:
    rng = np.random.default_rng(2)
    return (values * (1 + size * rng.standard_normal(values.shape))).astype(np.float16)


def as_file(base: Path, path: Path, changed: dict[str, NDArray[np.float16]], engine: Engine, text: bytes) -> float:
    """Mean divergence of a file in which some tensors of ``base`` are others."""
    path.write_bytes(base.read_bytes())
    for tensor in gguf.GGUFReader(path, "r+").tensors:
        if tensor.name in changed:
            tensor.data[:] = changed[tensor.name]
            assert isinstance(tensor.data.base, np.memmap)
            tensor.data.base.flush()
    settings = Settings(engine, n_ctx=128, n_chunks=2, n_threads=1)
    (evaluated,) = evaluate([path], text, base=base, settings=settings)
    assert evaluated.summary.mean_kld is not None
    return evaluated.summary.mean_kld


def test_a_swap_scores_as_a_file_with_the_same_weights(
    resident: Resident, demo_model: Path, tmp_path: Path, demo_text: bytes
) -> None:
    changed = {name: noisy(weights(demo_model, name), 0.3) for name in (NAME, "blk.0.attn_v.weight")}
    of_file = as_file(demo_model, tmp_path / "changed.gguf", changed, resident.engine, demo_text)
    with resident.swapped({name: halves(values) for name, values in changed.items()}):
        assert not resident.is_base()
        kld = resident.kld()
    assert kld.size == 2 * 63
    assert kld.mean() == pytest.approx(of_file, rel=1e-6)
    assert resident.is_base()
    assert np.abs(resident.kld()).max() < 1e-12


@pytest.mark.parametrize("engine", ENGINES)
def test_embeddings_that_are_the_output_too_are_replaced_in_both_places(
    engine: Engine, tmp_path: Path, demo_text: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    every = demo._tensors
    monkeypatch.setattr(demo, "_tensors", lambda *of: (t for t in every(*of) if t[0] != "output.weight"))
    base = tmp_path / "tied.gguf"
    demo.make_demo_model(base)
    changed = {"token_embd.weight": noisy(weights(base, "token_embd.weight"), 0.1)}
    of_file = as_file(base, tmp_path / "changed.gguf", changed, engine, demo_text)
    with Resident(engine, read_header(base), n_ctx=128, n_threads=1) as session:
        assert list(session.keep_chunks(cut([session], demo_text, 128, 2))) == [0, 1]
        with session.swapped({name: halves(values) for name, values in changed.items()}):
            kld = session.kld()
        assert kld.mean() == pytest.approx(of_file, rel=1e-6)
        assert session.is_base()


def test_after_an_error_inside_the_block_the_base_is_back(resident: Resident, demo_model: Path) -> None:
    values = noisy(weights(demo_model, NAME), 0.5)
    with pytest.raises(ZeroDivisionError), resident.swapped({NAME: halves(values)}):
        raise ZeroDivisionError
    assert resident.is_base()


def test_an_interrupt_in_the_middle_of_an_answer_ends_the_session(demo_model: Path, demo_text: bytes) -> None:
    with Resident("ik_llama.cpp", read_header(demo_model), n_ctx=64, n_threads=1) as session:
        list(session.keep_chunks(cut([session], demo_text, 64, 1)))
        with pytest.raises(KeyboardInterrupt), session.swapped({NAME: []}):  # noqa: PT012 - as a signal would
            send(cast("BinaryIO", session._process.stdin), {"op": "kld", "chunk": 0})
            raise KeyboardInterrupt
        assert session._process.poll() is not None


def test_what_is_no_number_is_told_and_leaves_the_base(resident: Resident, demo_model: Path) -> None:
    values = np.full_like(weights(demo_model, NAME), np.nan)
    with pytest.raises(RunError, match="no numbers"), resident.swapped({NAME: halves(values)}):
        resident.kld()
    assert resident.is_base()


def test_a_tensor_that_the_engine_does_not_have_is_told(resident: Resident) -> None:
    with pytest.raises(RunError, match=r"does not load the tensor blk\.9\.nope"):
        resident.request({"op": "facts", "name": "blk.9.nope"})


def test_a_damaged_base_is_told(demo_model: Path, tmp_path: Path, demo_text: bytes) -> None:
    path = tmp_path / "nan.gguf"
    path.write_bytes(demo_model.read_bytes())
    tensor = next(t for t in gguf.GGUFReader(path, "r+").tensors if t.name == "output.weight")
    tensor.data[300] = np.nan
    with Resident("ik_llama.cpp", read_header(path), n_ctx=64, n_threads=1) as session:
        chunks = cut([session], demo_text, 64, 1)
        with pytest.raises(ModelFileError, match=r"nan\.gguf: .* no numbers"):
            list(session.keep_chunks(chunks))


def test_what_does_not_fit_into_memory_is_refused(
    demo_model: Path, demo_text: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    header = read_header(demo_model)
    with Resident("ik_llama.cpp", header, n_ctx=64, n_threads=1) as session:
        chunks = cut([session], demo_text, 64, 2)
        monkeypatch.setattr("qxmix.engines.resident.available_nbytes", lambda: 2 * 31 * 512 * 8 - 1)
        with pytest.raises(ModelFileError, match=r"does not fit into memory: the logits .* run fewer chunks"):
            next(session.keep_chunks(chunks))
        monkeypatch.setattr("qxmix.engines.resident.available_nbytes", lambda: 2 * 31 * 512 * 8)
        assert list(session.keep_chunks(chunks)) == [0, 1]
    monkeypatch.setattr("qxmix.engines.resident.available_nbytes", lambda: sum(header.file_nbytes) - 1)
    with pytest.raises(ModelFileError, match=r"does not fit into memory: it has 0\.0 GiB, .* such as its Q8_0"):
        Resident("ik_llama.cpp", header, n_ctx=64, n_threads=1)


def test_free_memory_is_told() -> None:
    free = available_nbytes()
    assert free is None or 1 << 20 < free < 1 << 50


def test_a_death_in_the_middle_is_one_error(demo_model: Path, demo_text: bytes) -> None:
    with Resident("ik_llama.cpp", read_header(demo_model), n_ctx=64, n_threads=1) as session:
        list(session.keep_chunks(cut([session], demo_text, 64, 1)))
        os.kill(session._process.pid, signal.SIGKILL)
        with pytest.raises(RunError, match="ended with signal SIGKILL"):
            session.kld()
        with pytest.raises(RunError, match="ended with signal SIGKILL"), session.swapped({NAME: []}):
            raise AssertionError


@pytest.mark.parametrize("n_threads", [1, 3])
@pytest.mark.parametrize("size", [1e-4, 0.02, 3.0])
def test_divergence_is_that_of_the_plain_formula(n_threads: int, size: float) -> None:
    rng = np.random.default_rng(3)
    base = (5 * rng.standard_normal((7, 3000))).astype(np.float32)
    ours = (base + 11 + size * rng.standard_normal(base.shape)).astype(np.float32)
    reference = Reference(n_threads)
    reference.keep(4, base)
    plain = score(log_softmax(ours), np.zeros(7, np.int32), log_softmax(base)).kld
    np.testing.assert_allclose(reference.kld(4, ours), plain, rtol=1e-6, atol=1e-10)
    assert reference.same(4, base.copy())
    nearly = base.copy()
    nearly[3, 17] = np.nextafter(nearly[3, 17], np.float32(9))
    assert not reference.same(4, nearly)
    ours[2, 5] = np.nan
    assert np.isnan(reference.kld(4, ours)).nonzero()[0].tolist() == [2]
