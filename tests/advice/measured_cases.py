"""Advice about measurements, moments and memory."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path

from click.testing import CliRunner

from qxmix.cli.main import main
from tests.advice.case import Case
from tests.execute.test_feedback import write_moments

_Q = "qxmix: 1\ntarget: ik_llama.cpp\ndefault: q8_0\n"
_FED = _Q + "rules: [{match: 'blk.0.attn_q', type: q4_0, feedback: true}]\n"

MEASURED = (
    Case("--measure is about a model and shown by --markdown; give both",
         "diff {mix} {mix} {model} --measure {measured}",
         "diff {mix} {mix} {model} --measure {measured} --markdown"),
    Case("--measure is about a model; give that with --model", "compare {mix} {mix2} --measure {measured}",
         "compare {mix} {mix2} --model {model} --measure {measured}"),
    Case("--plot draws divergence; give --measure, or --text",
         "compare {mix} {mix2} --model {model} --plot {tmp}/p.svg",
         "compare {mix} {mix2} --model {model} --measure {measured} --plot {tmp}/p.svg"),
    Case("is no measurement of this version; make one with 'qxmix measure MODEL -o M.json'",
         "plan {mix} {model} --measure {m}", "measure {model} -o {tmp}/own.json --types q8_0 --rows 8 -j 1"),
    Case("it is {} than {}; measure this one with 'qxmix measure {}'", "plan {mix} {licensed} --measure {measured}",
         "measure {licensed} -o {tmp}/licensed.json --types q8_0 -j 1"),
    Case("it was made with {} and not with {}; give --imatrix with the file it was made with",
         "plan {mix} {model} --measure {weighed}", "plan {mix} {model} --measure {weighed} --imatrix {imatrix}"),
    Case("it was made without an importance matrix; leave out --imatrix",
         "plan {mix} {model} --measure {measured} --imatrix {imatrix}", "plan {mix} {model} --measure {measured}"),
    Case("nothing is known of what {} loses; measure it", "solve {model} --bpw 9 -m {measured} --types f32",
         "solve {model} --bpw 9 -m {measured} --types q8_0 -o {tmp}/known.yaml"),
    Case("{} needs {} MiB with {} and the bound is {} MiB; raise --memory or use fewer workers",
         "apply {mix} {model} --memory 1MiB -o {tmp}/bound.gguf",
         "apply {mix} {model} --memory 1GiB -o {tmp}/bound.gguf"),
    Case("no rule asks for feedback, so the moments change nothing; write 'feedback: true' into the recipe",
         "plan {r} {model} --moments {moments} --strict", "plan {r} {model} --moments {moments} --strict", _Q, _FED),
    Case("give the file that `qxmix imatrix make --moments` wrote", "plan {fed} {model} --moments {noise}",
         "plan {fed} {model} --moments {moments}"),
    Case("is a file of second moments, not a model; give it as --moments and the model here", "plan {fed} {moments}",
         "plan {fed} {model} --moments {moments}"),
    Case("is a file of second moments, not an importance matrix; give it as --moments",
         "plan {fed} {model} --imatrix {moments}", "plan {fed} {model} --moments {moments}"),
    Case("{}; give moments that were measured on this model", "plan {fed} {model} --moments {alien}",
         "plan {fed} {model} --moments {moments}"),
    Case("the moments are of {} matrices with {} columns and the tensor has {} with {}; give moments that were "
         "measured on this model", "plan {fed} {model} --moments {wide}", "plan {fed} {model} --moments {moments}"),
    Case("was not used for this output; leave out --moments", "verify {out} --source {model} --moments {moments}",
         "verify {out} --source {model}"),
    Case("was made with moments whose SHA-256 starts with {}; give their file: --moments",
         "verify {corrected} --source {model}", "verify {corrected} --source {model} --moments {moments}"),
)  # fmt: skip


def prepare_measured(folder: Path, paths: Mapping[str, Path]) -> dict[str, Path]:
    """The files that these need, besides those of the others."""
    made = {name: folder / f"{name}.gguf" for name in ("moments", "alien", "wide", "corrected")}
    made |= {"measured": folder / "measured.json", "weighed": folder / "weighed.json", "fed": folder / "fed.yaml"}
    made["fed"].write_text(_FED)
    write_moments(made["moments"], {"blk.0.attn_q.weight": (256, 256)})
    write_moments(made["alien"], {"blk.99.attn_q.weight": (256, 256)})
    write_moments(made["wide"], {"blk.0.attn_q.weight": (512, 256)})
    for words in (
        "measure {model} -o {measured} --types q4_0,q8_0 --rows 8 -j 1",
        "measure {model} -o {weighed} --types q4_0,q8_0 --rows 8 -j 1 --imatrix {imatrix}",
        "apply {fed} {model} --moments {moments} -o {corrected}",
    ):
        done = CliRunner().invoke(main, shlex.split(words.format(**paths, **made)))
        assert done.exit_code == 0, done.output
    return made
