"""Advice that is drawn and followed with an engine, on the demo's model."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import qxmix
from qxmix.container.imatrix_load import load_imatrix
from qxmix.container.imatrix_write import write_imatrix
from qxmix.container.moments import SecondMoments
from qxmix.container.moments_load import save_moments
from qxmix.demo import make_demo_imatrix
from qxmix.engines import calibrate
from qxmix.quants import get
from qxmix.quants.feedback.spans import packed_size
from tests.advice.case import Case
from tests.engines.bert import WORDS, make_bert
from tests.gguf_bytes import gguf, tensor

_Q = "qxmix: 1\ntarget: ik_llama.cpp\ndefault: q8_0\n"
_MAKE = "imatrix make {model} --text {text} --text-ctx 64 --chunks 2 -j 1 "
_EVAL = "--text-ctx 64 --chunks 1 -j 1"
_LOSSES = f"--types q8_0 --rows 8 --text {{text}} {_EVAL} --measurements 1"
_SEARCHES = "compare-search {model} --text {text} --text-ctx 64 --chunks 1 -j 1 --searches gradient --types q4_0 "
_STIFF = _Q + "rules: [{match: 'blk.0.attn_q', type: q4_0, feedback: {shrink: 0, damp: %s}}]\n"

ENGINE = (
    Case("--measurements, --minutes and --engine are about losses; give --text, too.",
         "measure {model} -o {tmp}/e1.json --types q8_0 --rows 8 -j 1 --measurements 1",
         f"measure {{model}} -o {{tmp}}/e1.json {_LOSSES}"),
    Case("An encoder model is compared with another: give --base.", f"eval {{bert}} --text {{words}} {_EVAL}",
         f"eval {{bert}} --base {{bert}} --text {{words}} {_EVAL}"),
    Case("an interrupted make is here; go on with --resume, or start over with --overwrite",
         _MAKE + "-o {stopped}", _MAKE + "-o {stopped} --resume"),
    Case("was begun with another model, text or other settings; give the same ones, or --overwrite to start over",
         _MAKE + "-o {stopped2} --resume --first-chunk 1", _MAKE + "-o {stopped2} --resume"),
    Case("{}; give --overwrite to replace it, or another {}", _MAKE + "-o {unseen} --resume",
         _MAKE + "-o {tmp}/e9.gguf --resume"),
    Case("start over with --overwrite", _MAKE + "-o {spoilt} --resume", _MAKE + "-o {spoilt} --overwrite"),
    Case("make it again with 'qxmix imatrix make --moments'", "plan {mix} {model} --moments {torn}",
         _MAKE + "-o {tmp}/e8.gguf --moments {torn} --overwrite"),
    Case("second moments are a GGUF file of their own; give --moments NAME.gguf",
         _MAKE + "-o {tmp}/e2.dat --moments {tmp}/e2m.dat", _MAKE + "-o {tmp}/e2.dat --moments {tmp}/e2m.gguf"),
    Case("the text has no chunk {}: it has {}, counted from 0; give a smaller --first-chunk",
         _MAKE + "-o {tmp}/e3.dat --first-chunk 9999", _MAKE + "-o {tmp}/e3.dat --first-chunk 1"),
    Case("its weights are {}; losses are measured on a base of {}: give that one",
         f"measure {{weighted}} -o {{tmp}}/e4.json {_LOSSES}", f"measure {{model}} -o {{tmp}}/e4.json {_LOSSES}"),
    Case("qxmix cannot read {}; measure the model before quantizing", "measure {doubles} -o {tmp}/e7.json --types q8_0",
         "measure {licensed} -o {tmp}/e7.json --types q8_0 -j 1"),
    Case("{} cannot run the types {}; try the other --engine",
         f"eval {{iq4_k}} --text {{text}} {_EVAL} --engine llama.cpp",
         f"eval {{iq4_k}} --text {{text}} {_EVAL} --engine ik_llama.cpp"),
    Case("they are encoded as if without; measure more text, or give the recipe 'imatrix: {prior: 64}'",
         "plan {r} {moe} --imatrix {unseen}", "plan {r} {moe} --imatrix {unseen}",
         _Q + "rules: [{match: ffn_up_exps, type: q6_0}]\n",
         _Q + "rules: [{match: ffn_up_exps, type: q6_0}]\nimatrix: {prior: 64}\n", refused=False),
    Case("the moments of columns {} to {} of {} are not positive definite with damp {}; give 'feedback: {damp: ...}' "
         "a larger one", "apply {r} {model} --moments {stiff} -o {tmp}/e5.gguf",
         "apply {r} {model} --moments {stiff} -o {tmp}/e5.gguf --overwrite", _STIFF % "1.0e-300", _STIFF % "0.01"),
    Case("there is no folder {}; make it first ({}), or give another name",
         "import {script} --model {model} -o {tmp}/none/e6.yaml", "import {script} --model {model} -o {tmp}/e6.yaml"),
    Case("{}: {}; give another folder with --work", _SEARCHES + "--work {mix}/x", _SEARCHES + "--work {tmp}/w1"),
    Case("holds another experiment ({}); give another --work, or remove it", _SEARCHES + "--work {held}",
         _SEARCHES + "--work {tmp}/w2"),
)  # fmt: skip


def prepare_engine(folder: Path, paths: Mapping[str, Path]) -> dict[str, Path]:
    """The files that these need, besides those of the others."""
    made = {name: folder / f"{name}.dat" for name in ("stopped", "stopped2", "spoilt")} | {"held": folder / "held"}
    made |= {name: folder / f"{name}.gguf" for name in ("bert", "unseen", "stiff", "doubles", "torn")} | {
        "words": folder / "words.txt"
    }
    make_bert(made["bert"])
    made["doubles"].write_bytes(
        gguf(tensors=[tensor("blk.0.attn_q.weight", (32, 32), get("F64").id)], data=bytes(8192))
    )
    made["torn"].write_bytes(gguf(n_tensors=99)[:40])
    made["words"].write_text(f"{' '.join(WORDS[:-1])}.\n" * 9)
    made["text"] = folder / "text.txt"
    made["spoilt"].with_name("spoilt.dat.partial").write_bytes(b"PK\3\4" + bytes(99))
    for name in ("stopped", "stopped2"):
        _interrupted(paths["model"], made["text"], made[name].with_name(f"{name}.dat.partial"))
    made["held"].mkdir()
    (made["held"] / "done.jsonl").write_text(json.dumps({"version": 0}) + "\n")
    legacy = folder / "unseen.dat"
    make_demo_imatrix(legacy, moe=True)
    matrix = load_imatrix(legacy)
    counts = {n: np.array([400, 300, 0, 300] if "_exps" in n else [512], np.float32) for n in matrix.entries}
    write_imatrix(replace(matrix, counts=counts, counts_in="tokens", chunk_size=64), made["unseen"])
    one = np.ones(1, np.float32)
    alike = SecondMoments(np.ones((1, 256), np.float32), one, np.ones((1, packed_size(256)), np.float16), one)
    save_moments(made["stiff"], {"blk.0.attn_q.weight": alike})
    return made


def _interrupted(model: Path, text: Path, state: Path) -> None:
    """What a make leaves that was stopped before its second chunk."""

    def stop(done: int, _total: int) -> None:
        if done:
            raise InterruptedError

    settings = calibrate.Settings(64, n_chunks=2, n_threads=1, chunks_per_pass=1)
    with pytest.MonkeyPatch.context() as patch, suppress(InterruptedError):
        patch.setattr(calibrate, "_KEEP_SECONDS", -1.0)
        patch.setattr(calibrate, "_KEEP_SHARE", -1)
        header = qxmix.read_header(model)
        calibrate.calibrate(header, text.read_bytes(), text.name, state, settings, on_chunk=stop)
    assert state.exists()
