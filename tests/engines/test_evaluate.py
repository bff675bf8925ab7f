"""Evaluation: windows and rules of llama-perplexity, computed once more by hand from the engine's logits."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import gguf
import numpy as np
import pytest

from qxmix.container.header import read_header
from qxmix.engines import calibrate
from qxmix.engines import evaluate as evaluate_module
from qxmix.engines.evaluate import Settings, evaluate
from qxmix.engines.session import Session
from qxmix.errors import ModelFileError
from qxmix.measure.score import KldScorer, Passage
from qxmix.quants import ENGINES, Engine

if TYPE_CHECKING:
    from pathlib import Path

each_engine = pytest.mark.parametrize("engine", ENGINES)


def _nll_by_hand(engine: Engine, path: Path, text: bytes, n_ctx: int, n_chunks: int) -> list[float]:
    """Negative log-likelihoods by the rules of llama-perplexity, one chunk and one token at a time."""
    nll = []
    with Session(engine, path, n_ctx=n_ctx, n_threads=1) as session:
        tokens = session.tokenize(text.rstrip(b"\n"))
        for chunk in range(n_chunks):
            window = tokens[chunk * n_ctx : (chunk + 1) * n_ctx].copy()
            window[0] = 1  # start of text
            rows = np.concatenate(list(session.logits(window, 0)))
            for position in range(n_ctx // 2, n_ctx - 1):
                row = rows[position].astype(np.float64)
                nll.append(math.log(np.exp(row - row.max()).sum()) + row.max() - row[window[position + 1]])
    return nll


@each_engine
@pytest.mark.parametrize("n_ctx", [64, 101])
def test_windows_are_those_of_llama_perplexity(engine: Engine, n_ctx: int, demo_model: Path, demo_text: bytes) -> None:
    (got,) = evaluate([demo_model], demo_text, settings=Settings(engine, n_ctx=n_ctx, n_chunks=3, n_threads=1))
    nll = _nll_by_hand(engine, demo_model, demo_text, n_ctx, 3)
    assert got.summary.n_scored == len(nll) == 3 * (n_ctx - n_ctx // 2 - 1)
    assert got.summary.ppl == pytest.approx(math.exp(math.fsum(nll) / len(nll)), rel=1e-3)
    assert got.nbytes == demo_model.stat().st_size
    assert got.base is None


def test_chunks_can_be_skipped(demo_model: Path, demo_text: bytes) -> None:
    def nll(first: int, n: int) -> float:
        settings = Settings("llama.cpp", n_ctx=64, n_chunks=n, n_threads=1, first_chunk=first)
        (got,) = evaluate([demo_model], demo_text, settings=settings)
        return got.summary.n_scored * math.log(got.summary.ppl)

    assert nll(1, 2) == pytest.approx(nll(0, 3) - nll(0, 1), rel=1e-9)


def test_all_whole_chunks_without_a_number(demo_model: Path, demo_text: bytes) -> None:
    with Session("llama.cpp", demo_model) as session:
        n_tokens = session.tokenize(demo_text.removesuffix(b"\n")).size
    done: list[tuple[int, int]] = []
    (got,) = evaluate(
        [demo_model],
        demo_text,
        settings=Settings("llama.cpp", n_ctx=256, n_threads=1),
        on_chunk=lambda *step: done.append(step),
    )
    n_chunks = n_tokens // 256
    assert n_chunks > 1
    assert got.summary.n_scored == n_chunks * 127
    assert done == [(i + 1, n_chunks) for i in range(n_chunks)]


def _with_noise(source: Path, target: Path, size: float) -> None:
    """Copy a model and change its last matrix a little."""
    target.write_bytes(source.read_bytes())
    tensor = next(t for t in gguf.GGUFReader(target, "r+").tensors if t.name == "output.weight")
    rng = np.random.default_rng(1)
    tensor.data[:] = tensor.data * (1 + size * rng.standard_normal(tensor.data.shape)).astype(np.float16)
    assert isinstance(tensor.data.base, np.memmap)
    tensor.data.base.flush()


@each_engine
def test_more_noise_more_divergence(engine: Engine, demo_model: Path, tmp_path: Path, demo_text: bytes) -> None:
    little, much = tmp_path / "little.gguf", tmp_path / "much.gguf"
    _with_noise(demo_model, little, 0.02)
    _with_noise(demo_model, much, 0.2)
    settings = Settings(engine, n_ctx=128, n_chunks=2, n_threads=1)
    same, near, far = evaluate([demo_model, little, much], demo_text, base=demo_model, settings=settings)
    assert same.base == near.base
    assert same.base is not None
    assert same.summary.ppl == same.base.ppl
    assert (same.summary.mean_kld, same.summary.same_top_percent, same.summary.rms_p_diff_percent) == (0, 100, 0)
    for small, large in ((same, near), (near, far)):
        for name in ("mean_kld", "median_kld", "kld_99", "rms_p_diff_percent"):
            assert getattr(small.summary, name) < getattr(large.summary, name)
    assert near.summary.same_top_percent is not None
    assert far.summary.same_top_percent is not None
    assert 100 > near.summary.same_top_percent > far.summary.same_top_percent


def test_files_take_turns_where_memory_is_short(
    demo_model: Path, tmp_path: Path, demo_text: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "other.gguf"
    _with_noise(demo_model, other, 0.1)
    settings = Settings("llama.cpp", n_ctx=64, n_chunks=2, n_threads=1)
    together = evaluate([demo_model, other], demo_text, base=demo_model, settings=settings)
    monkeypatch.setattr(evaluate_module, "memory_nbytes", lambda: 0)
    done: list[tuple[int, int]] = []
    apart = evaluate(
        [demo_model, other], demo_text, base=demo_model, settings=settings, on_chunk=lambda *step: done.append(step)
    )
    assert apart == together
    assert done == [(1, 4), (2, 4), (3, 4), (4, 4)]


@pytest.mark.parametrize(
    ("types", "engine", "n_ubatch"),
    [
        ({"Q4_1", "Q8_0"}, "ik_llama.cpp", 16),
        ({"Q5_1", "Q4_1"}, "ik_llama.cpp", 8),
        ({"Q5_1"}, "llama.cpp", 512),
        ({"Q4_0"}, "ik_llama.cpp", 512),
    ],
)
def test_small_batches_for_types_whose_kernel_is_wrong(
    types: set[str], engine: Engine, n_ubatch: int, tmp_path: Path
) -> None:
    path = tmp_path / "types.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    for name in types:
        kind = gguf.GGMLQuantizationType[name]
        packed = gguf.quants.quantize(np.ones((2, 64), np.float32), kind)
        writer.add_tensor(name, packed, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    assert evaluate_module.ubatch_for(read_header(path), engine) == n_ubatch


def test_texts_that_cannot_be_scored(demo_model: Path, demo_text: bytes) -> None:
    cases = {
        b"the world": r"the text has \d tokens, a context of 512 needs at least 1024; take a longer text",
        demo_text[:2000]: "needs at least 1024",
        b"\xff" + demo_text: "not UTF-8: byte 0 is 0xff",
        b"": "needs at least 1024",
    }
    for content, message in cases.items():
        with pytest.raises(ModelFileError, match=message):
            evaluate([demo_model], content, settings=Settings("llama.cpp", n_threads=1))
    with pytest.raises(ModelFileError, match=r"has \d chunks of 512 tokens, not 50; .* fewer --chunks"):
        evaluate([demo_model], demo_text, settings=Settings("llama.cpp", n_chunks=50, n_threads=1))


def test_a_text_too_short_for_a_long_context_is_told_before_one_is_made(
    demo_model: Path, demo_text: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would take all memory there is."""
    monkeypatch.setattr("qxmix.engines.session.EngineProcess.__init__", None)
    head = read_header(demo_model)
    told = r"the text has [\d,]+ bytes, a context of 9999999 needs at least 19999998 tokens; take a longer text"
    for run in (
        lambda: evaluate([demo_model], demo_text, settings=Settings(n_ctx=9_999_999)),
        lambda: evaluate_module.check_text(demo_model, demo_text, Settings(n_ctx=9_999_999)),
        lambda: KldScorer(head, Passage(demo_text, 9_999_999, 0, None, 512, 1), None),
        lambda: calibrate.calibrate(head, demo_text, "x", tmp_path / "x", calibrate.Settings(9_999_999)),
    ):
        with pytest.raises(ModelFileError, match=told):
            run()


def _retyped(source: Path, target: Path, type_id: int) -> None:
    """Copy a model and claim another type for its first matrix, without a change of size."""
    data = bytearray(source.read_bytes())
    at = data.index(b"token_embd.weight") + len("token_embd.weight") + 4 + 2 * 8
    assert data[at : at + 4] == b"\1\0\0\0"
    data[at : at + 4] = type_id.to_bytes(4, "little")
    target.write_bytes(data)


def test_types_of_the_other_engine_are_refused_before_loading(
    demo_model: Path, tmp_path: Path, demo_text: bytes
) -> None:
    path = tmp_path / "iq6k.gguf"
    _retyped(demo_model, path, 141)
    with pytest.raises(ModelFileError, match=r"iq6k\.gguf: llama\.cpp cannot run the types IQ6_K; try the other"):
        evaluate([path], demo_text, settings=Settings("llama.cpp", n_threads=1))
    path = tmp_path / "tq1.gguf"
    _retyped(demo_model, path, 34)
    with pytest.raises(ModelFileError, match=r"ik_llama\.cpp cannot run the types TQ1_0; try the other"):
        evaluate([path], demo_text, settings=Settings("ik_llama.cpp", n_threads=1))


def test_encoders_have_no_perplexity(demo_model: Path, tmp_path: Path, demo_text: bytes) -> None:
    path = tmp_path / "bert.gguf"
    writer = gguf.GGUFWriter(path, "bert")
    writer.add_causal_attention(value=False)
    writer.add_tensor("token_embd.weight", np.ones((2, 64), np.float16))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with pytest.raises(ModelFileError, match="bert model encodes texts"):
        evaluate([path], demo_text, base=demo_model)


@each_engine
def test_logits_that_are_no_numbers(engine: Engine, demo_model: Path, tmp_path: Path, demo_text: bytes) -> None:
    path = tmp_path / "nan.gguf"
    path.write_bytes(demo_model.read_bytes())
    tensor = next(t for t in gguf.GGUFReader(path, "r+").tensors if t.name == "output.weight")
    tensor.data[300] = np.nan
    with pytest.raises(ModelFileError, match=r"nan\.gguf: .* no numbers"):
        evaluate([path], demo_text, settings=Settings(engine, n_ctx=64, n_chunks=1, n_threads=1))


def test_vocabularies_must_agree(demo_model: Path, tmp_path: Path, demo_text: bytes) -> None:
    path = tmp_path / "renamed.gguf"
    data = demo_model.read_bytes()
    path.write_bytes(data.replace("\u2581world".encode(), "\u2581wxrld".encode()))
    with pytest.raises(ModelFileError, match=r"renamed\.gguf: it makes other tokens of the text than .*demo-f16"):
        evaluate([path], demo_text, base=demo_model, settings=Settings("llama.cpp", n_ctx=64, n_chunks=1, n_threads=1))
