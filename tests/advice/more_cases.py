"""More of them: scripts of other shells, machines, files of many kinds that are not what they should be."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

import qxmix
from qxmix.demo import make_demo_imatrix, make_demo_model
from qxmix.measurement.lattice import VERSION
from qxmix.plan import Split
from qxmix.quants.kernels.processor_levels import supported
from tests.advice.case import Case, of_recipe, of_script
from tests.gguf_bytes import dat, dat_entry, gguf, tensor, text_field
from tests.planning.models import write, write_imatrix
from tests.planning.zoo import dense

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from qxmix.execute import Progress

LEVEL = supported()[0].name
"""Of processors, that of this one."""

_Q = "qxmix: 1\ntarget: ik_llama.cpp\ndefault: q8_0\n"
_Q4 = "in.gguf out.gguf Q4_K_M\n"
_BAT = "import {script} --model {model}"


def of_file(suffix: str, text: str, bad: str, good: str) -> Case:
    """A script of another shell, told by its suffix."""
    return Case(text, _BAT, _BAT, bad, good, suffix)


MORE = (
    # Scripts.
    of_file(".sh", "'{}' is a variable of cmd.exe that this text does not tell; put its value in its place",
            "llama-quantize --custom-q %RULES% " + _Q4, "llama-quantize --custom-q attn_v=q8_0 " + _Q4),
    of_file(".bat", "cmd.exe knows no single quotes, and '{}' has one; write double quotes",
            "llama-quantize.exe --custom-q 'attn_v=q8_0' " + _Q4, 'llama-quantize.exe --custom-q "attn_v=q8_0" ' + _Q4),
    of_file(".bat", "llama-quantize stands in a loop; write the command once, with the value in its place",
            "for %%q in (Q4_K_M) do llama-quantize.exe in.gguf out.gguf %%q\n", "llama-quantize.exe " + _Q4),
    of_file(".ps1", "PowerShell ends a word behind its quotes; put all of {} into them",
            '& .\\llama-quantize.exe --custom-q "attn_v"=q8_0 ' + _Q4,
            '& .\\llama-quantize.exe --custom-q "attn_v=q8_0" ' + _Q4),
    of_script("something stands right behind the ) of a list; put a space or a new line there",
              'ARGS=(--pure)x\nllama-quantize "${ARGS[@]}" ' + _Q4,
              'ARGS=(--pure)\nllama-quantize "${ARGS[@]}" ' + _Q4),
    of_script("a shell cannot write to '{}' and does not start the command; remove the '{}', or name a file",
              "llama-quantize in.gguf out.gguf Q4_K_M > logs/\n", "llama-quantize in.gguf out.gguf Q4_K_M > logs/x\n"),
    of_script("a {} lacks the word that ends it; write one", "cat <<\nllama-quantize " + _Q4,
              "cat << END\nEND\nllama-quantize " + _Q4),
    of_script("put in its place what it stands for", "llama-quantize in.gguf out.gguf $(cat type)\n",
              "llama-quantize " + _Q4),
    of_script("llama-quantize reads '{}' as file type {}, since it begins so; write ./ before it",
              "llama-quantize in.gguf 15b.gguf Q4_K_M\n", "llama-quantize in.gguf ./15b.gguf Q4_K_M\n"),
    of_script("qxmix repacks nothing; write rules with _r4 types", "llama-quantize --repack " + _Q4,
              "llama-quantize --custom-q 'attn_q=q8_0_r8' " + _Q4),
    of_script("{} takes types only as it spells them and drops '{} {}' without a word; write {}, or remove the option",
              "llama-quantize --custom-q attn_v=q8_0 --output-tensor-type Q6_k " + _Q4,
              "llama-quantize --custom-q attn_v=q8_0 --output-tensor-type q6_K " + _Q4),
    of_script("a list has '{}' in it without quotes; put it into quotes", "A=(a & b)\nllama-quantize " + _Q4,
              "A=('a & b')\nllama-quantize " + _Q4),
    of_script("qxmix comes without a recipe of the mix {} of {}; name another with --base",
              "llama-quantize --custom-q attn_v=q8_0 in.gguf out.gguf MXFP4_R8\n", "", then="--base Q4_K_M"),
    of_script("{}; or put quotes around {}, which is then one word whatever its value",
              "llama-quantize --imatrix $IMAT in.gguf out.gguf Q4_K_M\n",
              'llama-quantize --imatrix "$IMAT" in.gguf out.gguf Q4_K_M\n'),
    of_script("{}; or put quotes around {}, which is then one word whatever its value",
              "llama-quantize $IN $OUT Q4_K_M\n", 'llama-quantize "$IN" "$OUT" Q4_K_M\n'),
    Case("the TYPE that decides what no rule does stands in no command; add it, or give --base TYPE",
         "import {script}", "import {script} --base Q4_K_M", "--custom-q attn_v=q8_0\n", suffix=".sh"),
    # Usage.
    Case("--all is of all types: leave out the TYPEs, or --all", "warmup --all F16", "warmup F16"),
    Case("{}: no wheel can be written into it: {}; give another --wheel",
         "warmup F16 --wheel {mix}/wheel", "warmup F16 --wheel {tmp}/wheel"),
    Case("--native is for this machine and --wheel for others: leave out either",
         "warmup F16 --native --wheel {tmp}/wheel", "warmup F16 --native"),
    Case("--level is for what is shipped: give --wheel FOLDER, too",
         f"warmup F16 --level {LEVEL}", f"warmup F16 --level {LEVEL} --wheel {{tmp}}/wheel"),
    Case("--ctx is about a machine; give its --vram, --ram or both (chunks of a text: --text-ctx)",
         "solve {model} --bpw 6 --ctx 512", "solve {model} --bpw 9 --ctx 512 --ram 32MiB -o {tmp}/m1.yaml"),
    Case("--budget divides the tensors otherwise than --vram and --ram do; leave out either (a --size or --bpw for all "
         "may stand beside both)", "solve {model} --ctx 512 --ram 32MiB --budget rest=4MB",
         "solve {model} --ctx 512 --ram 32MiB --size 4MB -o {tmp}/m2.yaml"),
    Case("--curve is of all sizes and asks for no machine; leave out --vram and --ram, or --curve",
         "solve {model} --ctx 512 --ram 32MiB --curve --types Q4_0,Q8_0", "solve {model} --curve --types Q4_0,Q8_0"),
    Case("recipes at random match in size and not in what is on which device; leave out --vram and --ram, and give "
         "--against the --size that the solved recipe came to",
         "solve {model} --ctx 512 --ram 32MiB --size 4MB --against random:1 -o {tmp}/m3.yaml",
         "solve {model} --size 4MB --against random:1 -o {tmp}/m3.yaml"),
    Case("the cache and the buffers alone are more than --vram and --ram; give a shorter --ctx",
         "solve {model} --ctx 65536 --ram 40MiB", "solve {model} --ctx 512 --ram 40MiB -o {tmp}/m4.yaml"),
    Case("--types: {} {}; leave it out, or give another --target",
         "measure {model} -o {tmp}/m1.json --target llama.cpp --types iq4_k",
         "measure {model} -o {tmp}/m1.json --target ik_llama.cpp --types iq4_k"),
    Case("no {} types fit all tensors and the budget; raise --max-types, or the size",
         "solve {model} --size 1kB --max-types 1", "solve {model} --size 4MB --max-types 3 -o {tmp}/m6.yaml"),
    Case("not even the smallest types fit into --vram and --ram; give a shorter --ctx, or more memory",
         "solve {model} --ctx 512 --ram 8MiB --types q8_0",
         "solve {model} --ctx 512 --ram 16MiB --types q8_0 -o {tmp}/m7.yaml"),
    Case("{} does not hold keys or values of {} weights a token; try F16",
         "plan {mix} {narrow} --ctx 512 --kv-type q8_0", "plan {mix} {narrow} --ctx 512 --kv-type f16", refused=False),
    Case("{}; split it with --split-max-size hub", "lint {mix} {huge} --publish",
         "plan {mix} {huge} --split-max-size hub", refused=False),
    # Files.
    Case("has {}{} already; give another folder, or --overwrite to make the demo again", "demo {begun}",
         "demo {begun} --overwrite"),
    Case("is a folder; give the name of a file", "apply {mix} {model} -o {nest}",
         "apply {mix} {model} -o {tmp}/file.gguf"),
    Case("is a device, pipe or socket; give the name of a file", "apply {mix} {model} -o /dev/null --overwrite",
         "apply {mix} {model} -o {tmp}/file2.gguf"),
    Case("is a folder; give the {}'s file", "plan {mix} {empty}", "plan {mix} {model}"),
    Case("is a folder; give {} the name of a file", "measure {model} -o {tmp} --types q8_0",
         "measure {model} -o {tmp}/m2.json --types q8_0"),
    Case("{}; give another path", "header {model} -o /dev/null --overwrite", "header {model} -o {tmp}/h9.gguf"),
    Case("{} is no folder, and this would be inside it; give another name", "imatrix convert {imatrix} -o {mix}/x.gguf",
         "imatrix convert {imatrix} -o {tmp}/xx.gguf"),
    Case("{}: {}; give another folder: qxmix demo DIR", "demo {mix}/x", "demo {tmp}/demo"),
    Case("give the file that llama-imatrix wrote (.dat or .gguf)", "plan {mix} {model} --imatrix {zip}",
         "plan {mix} {model} --imatrix {imatrix}"),
    Case("is no importance matrix, neither a GGUF one nor a legacy .dat; give the file that llama-imatrix wrote",
         "plan {mix} {model} --imatrix {noise}", "plan {mix} {model} --imatrix {imatrix}"),
    Case("is GGUF but no importance matrix: it lacks {}; give the file llama-imatrix wrote",
         "plan {mix} {model} --imatrix {bare}", "plan {mix} {model} --imatrix {imatrix}"),
    Case("{} has {} and in {} {}; merge matrices of the same model", "imatrix merge {imatrix} {foreign} -o {tmp}/m.dat",
         "imatrix merge {imatrix} {imatrix} -o {tmp}/m.dat"),
    Case("is another model's: of its entries for tensors of {} {} have the wrong size and {} fit; give one that was "
         "made from this model, or none", "plan {weighted_mix} {model} --imatrix {foreign}", "plan {mix} {model}"),
    Case("is shard {} of {}; give the first, {}{}", "plan {mix} {shard2}", "plan {mix} {shard1}"),
    Case("has version {} and this qxmix reads {}; make it anew (qxmix inspect MODEL --lattice)",
         "plan {mix} {model} --lattice {old_lattice}", "inspect {model} --lattice -o {tmp}/l1.json"),
    Case("{}; make one of it (qxmix inspect MODEL --lattice -o L.json)",
         "plan {mix} {model} --lattice {foreign_lattice}", "inspect {model} --lattice -o {tmp}/l2.json"),
    Case("an interrupted apply of this plan is here; go on with --resume, or start over with --overwrite",
         "apply {mix} {model} -o {cut}", "apply {mix} {model} -o {cut} --resume"),
    Case("{}; give --overwrite to replace it, or another -o", "apply {mix2} {model} -o {out} --resume",
         "apply {mix2} {model} -o {tmp}/again2.gguf --resume"),
    Case("wait for it, or if it was interrupted give the same command --resume", "verify {cut3}.partial",
         "apply {mix} {model} -o {cut3} --resume"),
    Case(". Give --overwrite instead to start over", "apply {mix2} {model} -o {cut2} --resume",
         "apply {mix2} {model} -o {cut2} --overwrite"),
    Case("it is an adapter, whose tensors the engines never quantize; merge it into its model and quantize that",
         "plan {mix} {adapter} --strict", "plan {mix} {model} --strict"),
    Case("{} is not a type of {}, which could not load the output with {} as they are; give them a type instead of "
         "keeping them, with 'allow_requantize: true', or {}", "plan {r} {iq4_k}", "plan {r} {iq4_k}",
         "qxmix: 1\ntarget: llama.cpp\ndefault: keep\n",
         "qxmix: 1\ntarget: llama.cpp\ndefault: q8_0\nallow_requantize: true\n"),
    Case("start from the F16 or BF16 model", "plan {r} {iq4_k}", "plan {r} {model}",
         "qxmix: 1\ntarget: llama.cpp\ndefault: keep\n"),
    Case("no tensor has rows that {} allow; give --types", "measure {licensed} -o {tmp}/m3.json --types q4_k",
         "measure {licensed} -o {tmp}/m3.json --types q4_0"),
    Case("the importance matrix has {} values for it and {} columns x {} matrices need {}; use a matrix that was made "
         "from this model", "plan {weighted_mix} {model} --imatrix {one_wrong} --strict",
         "plan {weighted_mix} {model} --imatrix {imatrix}"),
    # Recipes.
    Case("'{}' takes more than {} s on the name '{}'; nested repeats like (a+)+ backtrack without end, write the "
         "pattern without them", "plan {r} {slow}", "plan {r} {slow}",
         _Q + "rules: [{match: '(a|aa)+$', type: q8_0}]\n", _Q + "rules: [{match: 'a+$', type: q8_0}]\n"),
    Case("{}; keep such tensors as they are ('keep', or 'type: keep')", "plan {r} {f64}", "plan {r} {f64}",
         _Q, _Q + "rules: [{match: attn_q, type: keep}]\n"),
    Case("the model has '{}' already; remove it, or choose another", "plan {r} {licensed}", "plan {r} {licensed}",
         _Q + "metadata: {rename: {general.name: general.license}}\n",
         _Q + "metadata: {rename: {general.name: general.license_name}}\n"),
    of_recipe("{}; write {} or {}{}, whichever is meant, or quote a text",
              _Q + "rules: [{match: attn_v, layers: 01, type: q6_k}]\n",
              _Q + "rules: [{match: attn_v, layers: 1, type: q6_k}]\n"),
    of_recipe("write 'file_type: N' at the top of the recipe", _Q + "metadata: {set: {general.file_type: 15}}\n",
              _Q + "file_type: 15\n"),
    of_recipe("write numbers, ranges (2-5), every third of one (6-27/3), first(n), last(n), first(1/8), range(1/8, "
              "7/8), every(k, offset), more_bits", _Q + "rules: [{layers: 'second(2)', type: q8_0}]\n",
              _Q + "rules: [{layers: 'first(2)', type: q8_0}]\n"),
    of_recipe("write types to try instead under 'fallback'",
              "qxmix: 1\ntarget: any\ndefault: q4_k\nfallback: error\nsilence: {fallback-error: so}\n",
              "qxmix: 1\ntarget: any\ndefault: q4_k\nfallback: [q5_0]\n"),
    Case("allow it with 'allow_requantize: true'", "plan {r} {out}", "plan {r} {out}",
         "qxmix: 1\ntarget: any\nfallback: error\ndefault: q4_0\nsilence: {requantize: so}\n",
         "qxmix: 1\ntarget: any\nfallback: error\ndefault: q4_0\nallow_requantize: true\n"),
    Case("; give apply another with -o, or the recipe another 'name'", "lint {mix} {model} --publish --strict",
         "lint {r} {model} --publish --strict", _Q + "name: 1M-Q8_0\n", _Q + "name: 1M-Q8_0\n"),
    Case("it has no counts per expert (a .dat has none), so 'prior: {}' changes nothing; give a GGUF one",
         "plan {r} {moe} --imatrix {moe_dat} --strict", "plan {r} {moe} --imatrix {moe_dat} --strict",
         _Q + "rules: [{match: ffn, type: q6_0}]\nimatrix: {prior: 64}\n", _Q + "rules: [{match: ffn, type: q6_0}]\n"),
)  # fmt: skip


def prepare(folder: Path, paths: Mapping[str, Path]) -> dict[str, Path]:
    """The files that these need, besides those of the others."""
    names = (
        "bare",
        "foreign",
        "old_lattice",
        "foreign_lattice",
        "adapter",
        "iq4_k",
        "moe",
        "licensed",
        "slow",
        "narrow",
        "f64",
        "huge",
    )
    cuts = ("cut", "cut2", "cut3")
    made = {name: folder / f"{name}.gguf" for name in names + cuts} | {"empty": folder / "empty"}
    made["begun"] = folder / "begun"
    for name in ("empty", "begun"):
        made[name].mkdir()
    (made["begun"] / "demo.txt").write_text("")
    (folder / "nest" / "demo-one.gguf").mkdir(parents=True)
    made |= {"nest": folder / "nest", "zip": folder / "zip", "noise": folder / "noise", "moe_dat": folder / "moe.dat"}
    made["zip"].write_bytes(b"PK\3\4" + bytes(100))
    made["one_wrong"] = folder / "one_wrong.dat"
    made["one_wrong"].write_bytes(dat([dat_entry("blk.0.attn_v.weight", [1.0] * 99)]))
    made["noise"].write_bytes(bytes(range(256)) * 4)
    make_demo_imatrix(made["moe_dat"], moe=True)
    made["bare"].write_bytes(gguf())
    write_imatrix(dense("llama", 4, 512, 1024, 8, 4), made["foreign"], every=True)
    for name, version in (("old_lattice", 0), ("foreign_lattice", VERSION)):
        made[name].write_text(json.dumps({"qxmix_lattice": version, "header_sha256": "", "tensors": []}))
    fields = [text_field("general.architecture", "llama"), text_field("general.type", "adapter")]
    made["adapter"].write_bytes(gguf(fields, [tensor("blk.0.attn_q.weight.lora_a", (8, 8))], bytes(256)))
    fields = [text_field(f"general.{key}", "llama") for key in ("architecture", "name", "license")]
    made["slow"].write_bytes(gguf(fields, [tensor(f"blk.0.{'a' * 40}.weight", (32, 32))], bytes(4096)))
    write(dense("llama", 2, 96, 192, 2, 1, head=48), made["narrow"])
    plain = dense("llama", 2, 256, 512, 4, 4)
    write(replace(plain, types={**plain.types, "blk.0.attn_q.weight": "F64"}), made["f64"])
    write(replace(plain, shapes={f"blk.{i}.ffn_up.weight": (1 << 17, 1 << 16) for i in range(30)}), made["huge"])
    made["licensed"].write_bytes(gguf(fields, [tensor("blk.0.attn_q.weight", (32, 32))], 1024 * b"\0\0\x80?"))
    header = qxmix.read_header(paths["model"])
    recipe = folder / "iq4_k.yaml"
    recipe.write_text(_Q + "rules: [{category: attn_v, type: iq4_k}]\n")
    qxmix.apply(qxmix.make_plan(qxmix.load_recipe(recipe), header), made["iq4_k"])
    plan = qxmix.make_plan(qxmix.load_recipe(paths["mix"]), header, split=Split(max_tensors=20))
    qxmix.apply(plan, folder / "split.gguf")
    shards = sorted(folder.glob("split-*.gguf"))
    for name in cuts:
        with suppress(InterruptedError):
            qxmix.apply(qxmix.make_plan(qxmix.load_recipe(paths["mix"]), header), made[name], on_progress=_stop)
    make_demo_model(made["moe"], moe=True)
    return made | {"shard1": shards[0], "shard2": shards[1]}


def _stop(progress: Progress) -> None:
    if progress.phase == "work" and progress.done_nbytes:
        raise InterruptedError
