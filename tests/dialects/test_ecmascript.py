"""Patterns that the engines read otherwise are refused; ik_llama.cpp's own program says which."""

from __future__ import annotations

from pathlib import Path

import pytest

from qxmix.dialects.ecmascript import ecmascript_fault
from qxmix.dialects.items import _pattern_fault
from qxmix.dialects.parse import parse_source
from qxmix.dialects.proof.decide import source_types
from qxmix.dialects.prove import prove
from qxmix.dialects.write import recipe_text
from tests.fuzz.scripts import MODEL, engine_types
from tests.planning.models import header
from tests.planning.test_mixes import llama_quantize

_SAME = r"""
attn_v} ]attn_v attn_v] attn_v| |attn_v ()attn_v (?:attn_v) attn_v{1} attn_v{0} at{2}n_v \battn_v attn_v\d*
attn_v*? (a|b)*ttn_v attn_[[:alpha:]] [^0-9]ttn_v [-a]ttn_v [a-]ttn_v [\w.]attn_v a\x74tn attn_.\u0077
(?!x)attn_v attn_v$ ^blk [\]a]ttn blk\.(0|1)\.ffn_(gate|up) [a-c]ttn_(q|k) a[t]+n_v \.attn_v\. attn\_v
[a^]ttn_v [a&&b]ttn_v
"""
SAME = _SAME.split()
_OTHER = r"""
{attn_v attn_v{ a{x} a{1 {1}attn_v attn_[v (attn_v *attn_v +attn_v ?attn_v attn_v\ (?i)attn_v attn_v\8
^*attn_v (*attn_v) x|* attn_v) attn_[b-a] (?<=a)ttn_v (?>attn_v) (?P<n>attn_v) [[:foo:]] a{99999} $* ^+
"""
OTHER = _OTHER.split()
"""What the engine stops at."""
_UNSURE = r"""
attn_v** attn_v*+ attn_v++ attn_v{1}{2} attn_\v a\Q \Aattn attn_\Z [] [^] []attn_v [[.a.]] (?=a)* \b* a\0
\cA é+ [é] [\w-z]
"""
UNSURE = _UNSURE.split()
"""What it takes and reads in a way of its own, or may."""


@pytest.mark.parametrize("pattern", OTHER + UNSURE)
def test_refused(pattern: str) -> None:
    assert _pattern_fault(pattern, "ik_llama.cpp")


@pytest.mark.parametrize("pattern", SAME)
def test_taken(pattern: str) -> None:
    assert not _pattern_fault(pattern, "ik_llama.cpp")


def test_what_to_write_is_told_and_works() -> None:
    assert ecmascript_fault("{attn_v") == (
        "the engines' regular expressions (ECMAScript) take no '{attn_v' at position 0; for the character write \\{"
    )
    assert not ecmascript_fault(r"\{attn_v")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("engine")


def engine(pattern: str, folder: Path) -> dict[str, str]:
    return engine_types(("--custom-q", f"{pattern}=q8_0", "m.gguf", "o.gguf", "IQ4_XS"), folder)


@pytest.mark.skipif(llama_quantize() is None, reason="ik_llama_cpp is not installed")
@pytest.mark.parametrize("pattern", SAME)
def test_the_engine_reads_the_same(pattern: str, folder: Path) -> None:
    text = f"./llama-quantize --custom-q '{pattern}=q8_0' m.gguf o.gguf IQ4_XS"
    mix = parse_source(text, Path("x.sh"), None, None)
    assert engine(pattern, folder) == source_types(mix.reading, header(MODEL))


@pytest.mark.skipif(llama_quantize() is None, reason="ik_llama_cpp is not installed")
@pytest.mark.parametrize("pattern", OTHER)
def test_the_engine_stops(pattern: str, folder: Path) -> None:
    assert engine(pattern, folder) == {}


FLAGS = (
    "--output-tensor-type q8_0", "--token-embedding-type q6_K", "--attn-v-type q8_0", "--ffn-gate-inp-type q8_0",
    "--custom-q attn_v=q8_0", "--pure",
)  # fmt: skip


@pytest.mark.skipif(llama_quantize() is None, reason="ik_llama_cpp is not installed")
@pytest.mark.parametrize("flag", FLAGS)
def test_options_mean_nothing_where_tensors_are_copied(flag: str, folder: Path) -> None:
    mix = parse_source(f"./llama-quantize {flag} m.gguf o.gguf COPY", Path("x.sh"), "ik_llama.cpp", None)
    found = prove(mix, recipe_text(mix, "x", "ik_llama.cpp"), header(MODEL))
    assert not found.different
    told = engine_types((*flag.split(), "m.gguf", "o.gguf", "COPY"), folder)
    assert told == {t.name: t.type for t in found.plan.tensors}
