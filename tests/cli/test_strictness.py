"""One strictness: plan, lint, apply --dry-run and apply end with one exit code, whatever there is to say."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from click.testing import CliRunner

from qxmix.cli.main import main
from qxmix.recipe.problem_ids import IDS
from tests.planning.models import Model, Shape, facts, write

if TYPE_CHECKING:
    from pathlib import Path

SHAPES: dict[str, Shape] = {
    "token_embd.weight": (256, 64),
    "output.weight": (256, 64),
    **{
        f"blk.{i}.{part}.weight": shape
        for i in range(10)
        for part, shape in {
            "attn_norm": (256,), "attn_q": (256, 64), "attn_output": (256, 64), "ffn_up": (256, 64),
            "ffn_gate": (256, 64), "ffn_down": (288, 64),
        }.items()
    },
}  # fmt: skip
MODEL = Model("llama", facts(10, 256, 8, 2), SHAPES)


@dataclass(frozen=True)
class Case:
    """A recipe that raises one id."""

    body: str
    strict: bool = True
    """Only with --strict is it refused."""
    model: Model = MODEL
    entries: dict[str, int] | None = None
    """Values of the importance matrix's entries."""
    options: tuple[str, ...] = ()


def typed(**types: str) -> Model:
    return replace(MODEL, types={n: types[p] for n in SHAPES for p in types if p in n})


Q = "default: q8_0\n"
CASES: dict[str, Case] = {
    "rule-unmatched": Case(Q + "rules: [{match: nothing, type: q4_0}]"),
    "rule-never-quantized": Case(Q + "rules: [{match: attn_norm, type: q4_0}]"),
    "rule-shadowed": Case(Q + "rules: [{match: attn_, type: q4_0}, {match: attn_q, type: q4_1}]"),
    "output-unanchored": Case(Q + "rules: [{match: 'output\\.weight', type: q4_0}]"),
    "layer-gap": Case(Q + "rules: [{match: 'blk\\.[0-8]\\.attn_q', type: q4_0}]"),
    "default-leftover": Case(Q + "rules: [{match: 'attn|ffn|output', type: q4_0}]"),
    "gate-up-differ": Case(Q + "rules: [{match: ffn_gate, type: q4_0}]"),
    "fallback": Case("default: q4_k\nfallback: [q5_0]"),
    "fallback-error": Case("default: q4_k\nfallback: error", strict=False),
    "engine-rows": Case(Q + "rules: [{match: 'ffn_(up|gate)', type: iq2_bn}]"),
    "engine-type": Case(Q + "keep: [attn_q]", strict=False, model=typed(attn_q="TQ2_0")),
    "no-effect": Case("default: keep"),
    "shard-size": Case(Q, options=("--split-max-size", "2k")),
    "type-not-written": Case(Q, strict=False, model=typed(attn_q="F64")),
    "requantize": Case("default: q4_0", strict=False, model=typed(attn_q="Q8_0")),
    "expect": Case(Q + "rules: [{match: attn_q, type: q4_0, expect: 3}]", strict=False),
    "limit-bpw": Case(Q + "limits: {max_bpw: 4}", strict=False),
    "limit-size": Case(Q + "limits: {max_size: 1k}", strict=False),
    "limit-vram": Case(Q + "limits: {max_vram: 1k, ctx: 512}", strict=False),
    "limit-ram": Case(Q + "limits: {max_ram: 1k, ctx: 512}", strict=False),
    "limit-cache-unknown": Case(Q + "limits: {max_ram: 1GiB, ctx: 512}", model=replace(MODEL, arch="nobody-knows")),
    "metadata": Case(Q + "metadata: {set: {llama.block_count: 3}}", strict=False),
    "metadata-unmatched": Case(Q + "metadata: {remove: [my.note]}"),
    "imatrix-missing": Case("default: q4_0", entries={"blk.0.attn_q.weight": 256}),
    "imatrix-size": Case("default: q4_0", entries={n: 256 + ("9.attn_q" in n) for n in SHAPES if "ffn_down" not in n}),
    "imatrix-model": Case("default: q4_0", strict=False, entries=dict.fromkeys(SHAPES, 128)),
    # The architecture's name is what keys of its facts begin with.
    "transformed-weights": Case(Q, model=replace(MODEL, arch="prism", facts={**MODEL.facts, "hadamard.size": 64})),
    "imatrix-unused": Case(Q, entries={"blk.77.attn_q.weight": 256}),
}
ELSEWHERE = {
    "publish-name": "asked for by lint --publish alone; tests/test_publish.py", "publish-size": "",
    "lock": "plan writes lock files, only apply compares them",
    "imatrix-prior": "needs experts; tests/planning/test_priors.py or its like",
    "moments-none": "moments have tests of their own", "moments-unused": "", "moments-missing": "",
    "moments-model": "", "moments-shape": "", "lattice-lost": "tests/cli/test_lattice.py",
    "lattice-unchecked": "",
}  # fmt: skip
NOTES = {
    "rule-partly-shadowed", "match-order", "default-used", "bits-above-requested", "larger-than-model", "search-unused",
    "imatrix-none", "imatrix-unseen", "imatrix-thin", "imatrix-alternate", "feedback-type", "rule-buys-little",
    "rule-costs-much", "symmetric-unused", "scale-unused",
}  # fmt: skip
"""Never refused."""


def dat(entries: dict[str, int], path: Path) -> Path:
    parts = [np.int32(len(entries)).tobytes()]
    for name, n in entries.items():
        parts += [np.int32(len(name)).tobytes(), name.encode(), np.int32(1).tobytes(), np.int32(n).tobytes()]
        parts.append(np.ones(n, np.float32).tobytes())
    path.write_bytes(b"".join(parts))
    return path


def run(*arguments: str) -> tuple[int, str]:
    done = CliRunner().invoke(main, arguments)
    return done.exit_code, done.output


@pytest.mark.parametrize("id_", CASES)
def test_every_command_ends_alike(id_: str, tmp_path: Path) -> None:
    case = CASES[id_]
    recipe, model = tmp_path / "r.yaml", write(case.model, tmp_path / "m.gguf")
    recipe.write_text(f"qxmix: 1\nname: r\ntarget: ik_llama.cpp\n{case.body}\n")
    inputs = [str(recipe), str(model)]
    if case.entries is not None:
        inputs += ["--imatrix", str(dat(case.entries, tmp_path / "i.dat"))]
    output = ("-o", str(tmp_path / "o.gguf"))
    shown = run("plan", *inputs, *case.options, "--strict")
    assert f"[{id_}]" in shown[1]
    assert shown[0] == 3
    assert run("plan", *inputs, *case.options)[0] == (0 if case.strict else 3)
    assert run("apply", *inputs, *case.options, *output, "--dry-run")[0] == (0 if case.strict else 3)
    for more in (("--dry-run", "--strict"), ("--strict",)):
        assert run("apply", *inputs, *case.options, *output, *more)[0] == 3
    if not case.options:
        assert run("lint", *inputs, "--strict")[0] == 3
    assert not list(tmp_path.glob("o.gguf*"))


def test_no_id_is_left_out() -> None:
    assert {*CASES, *ELSEWHERE, *NOTES} == set(IDS)


def test_without_a_word_all_end_with_0(tmp_path: Path) -> None:
    recipe, model = tmp_path / "r.yaml", write(MODEL, tmp_path / "m.gguf")
    recipe.write_text(f"qxmix: 1\nname: r\ntarget: ik_llama.cpp\n{Q}")
    for command in (("plan",), ("lint",), ("apply", "--dry-run")):
        assert run(*command, str(recipe), str(model), "--strict")[0] == 0


SILENCED = [
    "rule-unmatched", "rule-never-quantized", "rule-shadowed", "output-unanchored", "layer-gap", "gate-up-differ",
    "engine-rows",
]  # fmt: skip


@pytest.mark.parametrize("id_", [*SILENCED, "fallback", "imatrix-missing", "imatrix-size"])
def test_a_rule_silences_what_it_causes(id_: str, tmp_path: Path) -> None:
    case = CASES[id_]
    body = case.body
    if "rules:" not in body:
        # The same by a rule of its own.
        body = f"{body}\nrules: [{{match: ., type: default}}]"
    model = write(case.model, tmp_path / "m.gguf")
    recipe = tmp_path / "r.yaml"
    inputs = [str(recipe), str(model)]
    if case.entries is not None:
        inputs += ["--imatrix", str(dat(case.entries, tmp_path / "i.dat"))]
    head = "qxmix: 1\nname: r\ntarget: ik_llama.cpp\n"
    recipe.write_text(f"{head}{body}\n")
    assert f"[{id_}]" in run("lint", *inputs)[1]
    recipe.write_text(f"{head}{body.replace('}]', f', silence: {{{id_}: it is meant}}}}]')}\n")
    assert f"[{id_}]" not in run("lint", *inputs)[1]


@pytest.mark.parametrize("id_", [id_ for id_, known in IDS.items() if known.silenced_by != "rule"])
def test_what_a_rule_cannot_silence_is_refused(id_: str, tmp_path: Path) -> None:
    recipe = tmp_path / "r.yaml"
    head = "qxmix: 1\ntarget: llama.cpp\ndefault: q4_k\n"
    recipe.write_text(f"{head}rules: [{{match: x, type: q6_k, silence: {{{id_}: meant}}}}]\n")
    code, told = run("validate", str(recipe))
    assert code == 2
    assert "r.yaml:4: rules[0].silence: " in told
    recipe.write_text(f"{head}silence: {{{id_}: meant}}\n")
    assert run("validate", str(recipe))[0] == (2 if IDS[id_].silenced_by == "nobody" else 0)
