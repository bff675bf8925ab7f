"""The cache by formula beside what the engines say when they load tiny models of each architecture."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from qxmix import read_header
from qxmix.quants import get
from qxmix.running.cache import cache_of, n_cells
from qxmix.running.model import States, Unknown, Use
from qxmix.running.states import layer_states
from tests.running.models import TINY
from tests.running.oracle import said

if TYPE_CHECKING:
    from pathlib import Path

    from qxmix.quants import Engine

CANNOT = {
    ("ik_llama.cpp", "deepseek2-mla"): "the wheel ends on models that were made for llama.cpp's MLA",
    ("ik_llama.cpp", "mamba"): "ik_llama.cpp does not run Mamba any more",
}


def printed(path: Path, use: Use) -> list[str]:
    """Our figures as the engines group them: all tokens, windows, recurrent states; in MiB, two digits."""
    header = read_header(path)
    states, cache = layer_states(header, use.engine), cache_of(header, use)
    assert isinstance(states, States)
    groups = [
        [s.layer for s in states.layers if s.n_key and not s.windowed],
        [s.layer for s in states.layers if s.windowed],
        [s.layer for s in states.layers if s.n_recurrent],
    ]
    return [f"{sum(cache.by_layer[i] for i in layers) / (1 << 20):.2f}" for layers in groups if layers]


@pytest.mark.slow
@pytest.mark.parametrize("name", TINY)
@pytest.mark.parametrize("engine", ["llama.cpp", "ik_llama.cpp"])
def test_it_is_what_the_engine_says(engine: Engine, name: str, tmp_path: Path) -> None:
    if (engine, name) in CANNOT:
        pytest.skip(CANNOT[engine, name])
    path = tmp_path / "tiny.gguf"
    TINY[name].write(path)
    for n_ctx, kv_type, n_parallel in ((1000, "F16", 1), (3000, "Q8_0", 1), (4096, "F16", 3)):
        if engine == "ik_llama.cpp" and n_parallel > 1:
            continue  # it has one cache for all sequences
        expected = printed(path, Use(engine, n_ctx, get(kv_type), n_parallel))
        assert said(engine, path, n_ctx, kv_type, n_parallel) == expected, (n_ctx, kv_type)


def test_a_window_holds_a_window_and_a_batch(tmp_path: Path) -> None:
    TINY["gpt-oss"].write(tmp_path / "m.gguf")
    states = layer_states(read_header(tmp_path / "m.gguf"), "llama.cpp")
    assert isinstance(states, States)
    assert [s.windowed for s in states.layers] == [True, False, True, False]
    use = Use("llama.cpp", 100_000, get("F16"))
    assert n_cells(states, use, windowed=True) == 768
    assert n_cells(states, use, windowed=False) == 100_096


def test_an_architecture_nobody_looked_at_has_no_formula(tmp_path: Path) -> None:
    from dataclasses import replace  # noqa: PLC0415

    replace(TINY["llama"], arch="hyper").write(tmp_path / "m.gguf")
    header = read_header(tmp_path / "m.gguf")
    assert isinstance(layer_states(header, "llama.cpp"), Unknown)
    cache = cache_of(header, Use("llama.cpp", 512, get("F16")))
    assert (cache.nbytes, "hyper" in cache.why_unknown) == (0, True)


def test_a_type_that_does_not_divide_the_heads_is_told(tmp_path: Path) -> None:
    TINY["llama"].write(tmp_path / "m.gguf")
    cache = cache_of(read_header(tmp_path / "m.gguf"), Use("llama.cpp", 512, get("Q4_K")))
    assert "Q4_K does not hold keys or values of 128 weights a token" in cache.why_unknown
