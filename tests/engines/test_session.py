"""Engines in child processes: they run the demo models, and their deaths are errors with last words."""

from __future__ import annotations

import ctypes
import os
import signal
from types import SimpleNamespace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from qxmix.engines import library
from qxmix.engines.library import Opaque, context_params
from qxmix.engines.session import EngineProcess, Session, last_words
from qxmix.engines.types import runnable_types
from qxmix.errors import RunError
from qxmix.quants import ENGINES, QUANT_TYPES, Engine

if TYPE_CHECKING:
    from pathlib import Path

each_engine = pytest.mark.parametrize("engine", ENGINES)


@each_engine
def test_demo_models_generate(engine: Engine, demo_model: Path, demo_moe_model: Path) -> None:
    for path in (demo_model, demo_moe_model):
        with Session(engine, path, n_threads=1) as session:
            first = session.generate("The world of", 12)
            assert session.generate("The world of", 12) == first
            assert session.generate("A game", 12) != first
        assert len(first.tokens) == 12
        assert first.text.strip()


@each_engine
def test_words_are_single_tokens_after_the_start_of_text(engine: Engine, demo_model: Path) -> None:
    with Session(engine, demo_model, n_threads=1) as session:
        assert session.bos == 1
        tokens = session.tokenize(b"the world\n")
        assert tokens.size == 4
        assert tokens[0] == session.bos
        assert tokens[-1] == 3 + 0x0A  # the byte of the newline
        assert session.n_vocab == 512


@each_engine
def test_logits_come_in_slices_of_what_was_asked(engine: Engine, demo_model: Path) -> None:
    tokens = np.arange(259, 259 + 40, dtype=np.int32)
    with Session(engine, demo_model, n_threads=1) as session:
        all_rows = np.concatenate(list(session.logits(tokens, 0)))
        some_rows = list(session.logits(tokens, 21))
    assert all_rows.shape == (39, 512)
    assert [len(rows) for rows in some_rows] == [16, 2]
    np.testing.assert_allclose(np.concatenate(some_rows), all_rows[21:], rtol=1e-3, atol=1e-3)


def test_both_engines_compute_the_same(demo_model: Path) -> None:
    tokens = np.arange(259, 259 + 40, dtype=np.int32)
    rows = []
    for engine in ENGINES:
        with Session(engine, demo_model, n_threads=1) as session:
            rows.append(np.concatenate(list(session.logits(tokens, 0))))
    assert np.abs(rows[0]).max() > 1
    np.testing.assert_allclose(rows[0], rows[1], atol=0.02)


@each_engine
def test_the_engine_names_types_as_the_registry_does(engine: Engine) -> None:
    types = [t for t in QUANT_TYPES if engine in t.engines]
    with EngineProcess(engine) as process:
        names = process.type_names([t.id for t in types])
    other_names = {"Q1_0_G128": "Q1_0"}
    differ = {t.name: n for t, n in zip(types, names, strict=True) if other_names.get(n.upper(), n.upper()) != t.name}
    younger = {"MXFP4_R8": ""}  # than some releases of the package
    assert differ.items() <= younger.items()
    assert runnable_types(engine) == [t.name for t in types if t.name not in differ]


@each_engine
def test_a_crash_is_an_error(engine: Engine) -> None:
    with EngineProcess(engine) as process, pytest.raises(RunError, match=rf"{engine} ended with signal SIGSEGV"):
        process.type_names([400_000_000])


@each_engine
def test_a_child_that_is_killed_is_an_error(engine: Engine, demo_model: Path) -> None:
    with Session(engine, demo_model, n_threads=1) as session:
        rows = session.logits(np.arange(259, 459, dtype=np.int32), 0)
        os.kill(session._process.pid, signal.SIGABRT)
        with pytest.raises(RunError, match=r"ended with signal SIGABRT: \S"):
            list(rows)
        with pytest.raises(RunError, match="ended with signal SIGABRT"):
            session.tokenize(b"the world")


@each_engine
def test_a_file_that_is_no_model_is_refused_with_the_engines_words(engine: Engine, tmp_path: Path) -> None:
    path = tmp_path / "no.gguf"
    path.write_bytes(b"no model at all")
    with pytest.raises(RunError, match=rf"{engine} cannot load .*no\.gguf: .*(rror|failed)"):
        Session(engine, path)


@each_engine
def test_what_does_not_fit_is_refused(engine: Engine, demo_model: Path) -> None:
    with Session(engine, demo_model, n_ctx=64, n_threads=1) as session:
        with pytest.raises(RunError, match="do not fit into a context of 64"):
            session.generate("the " * 100, 1)
        assert len(session.generate("the", 100).tokens) == 63  # until the context is full
        with pytest.raises(RunError, match="no embedding"):
            session.embedding("the world")


def test_last_words_prefer_the_cause() -> None:
    lines = ["loading", "error loading model: tensor 'a' not found", "failed to load model", "bye"]
    assert last_words(lines) == lines[1]
    assert last_words(["x failed", "a.c:1: GGML_ASSERT(n > 0) failed", "backtrace failed"]).startswith("a.c:1")
    assert last_words(["all is well"]) == ""


@each_engine
def test_a_missing_engine_names_the_extra(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(library, "find_spec", lambda _name: None)
    with pytest.raises(RunError, match=r"not installed.*pip install \"qxmix\[engines\]\""):
        EngineProcess(engine)


def test_a_package_without_a_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = SimpleNamespace(submodule_search_locations=[str(tmp_path)])
    monkeypatch.setattr(library, "find_spec", lambda _name: spec)
    with pytest.raises(RunError, match="has no library for"):
        EngineProcess("llama.cpp")


@each_engine
def test_an_unknown_parameter_layout_is_refused(engine: Engine) -> None:
    strange = Opaque()
    (ctypes.c_uint32 * 5).from_buffer(strange)[:] = [9] * 5
    fake = SimpleNamespace(llama_context_default_params=lambda: strange)
    with pytest.raises(RunError, match="unknown way"):
        context_params(fake, engine, n_ctx=64, n_ubatch=64)  # type: ignore[arg-type]


def test_an_old_library_names_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "libllama.so"
    path.write_bytes(b"not a library")
    monkeypatch.setattr(library, "library_path", lambda _engine: path)
    with pytest.raises(RunError, match=r"cannot be used.*ik-llama-cpp-python"):
        library.open_library("ik_llama.cpp")
