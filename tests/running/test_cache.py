"""The cache by formula beside what the engines say when they load tiny models of each architecture."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from qxmix import read_header
from qxmix.quants import ENGINES, get
from qxmix.report.running import running_json, running_text
from qxmix.running.cache import cache_of, n_cells
from qxmix.running.model import States, Unknown, Use
from qxmix.running.place import running
from qxmix.running.states import layer_states
from tests.planning.models import header
from tests.planning.zoo import dense
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


@pytest.mark.slow
@pytest.mark.parametrize(("n_ctx", "kv_type", "expected"), [(1000, "F16", "3.00"), (3000, "Q8_0", "4.78")])
def test_without_the_latent_it_is_what_the_engine_says(n_ctx: int, kv_type: str, expected: str, tmp_path: Path) -> None:
    path = tmp_path / "tiny.gguf"
    TINY["deepseek2-old"].write(path)
    cache = cache_of(read_header(path), Use("ik_llama.cpp", n_ctx, get(kv_type)), latent=False)
    assert f"{cache.nbytes / (1 << 20):.2f}" == expected
    assert said("ik_llama.cpp", path, n_ctx, kv_type, 1, mla=0) == [expected]


def test_both_ways_to_keep_a_latent_are_told_where_there_is_a_choice(tmp_path: Path) -> None:
    told = {}
    for name in ("deepseek2-old", "deepseek2-mla", "llama"):
        TINY[name].write(path := tmp_path / f"{name}.gguf")
        header = read_header(path)
        for engine in ENGINES:
            found = running(header, {t.name: t.nbytes for t in header.tensors}, Use(engine, 1000, get("F16")))
            told[name, engine] = running_json(found)["cache_nbytes_without_latent"]
            assert ("with -mla 0" in running_text(found, terminal=False)) == (told[name, engine] is not None)
    assert {k: v for k, v in told.items() if v is not None} == {("deepseek2-old", "ik_llama.cpp"): 3 << 20}


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


def test_a_header_that_lost_the_length_of_heads_is_taken_by_its_matrices() -> None:
    """GLM-4.6, for one, has 96 heads of 128 and an embedding of 5,120."""
    lost = header(dense("glm4moe", 2, 512, 1024, 4, 2, head=192))
    lengths: dict[str, Any] = {"attention__key_length": 192, "attention__value_length": 192}
    told = header(dense("glm4moe", 2, 512, 1024, 4, 2, head=192, **lengths))
    for of in (lost, told):
        states = layer_states(of, "llama.cpp")
        assert isinstance(states, States)
        assert [(s.n_key, s.n_value) for s in states.layers] == [(384, 384)] * 2
