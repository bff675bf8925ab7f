"""What LLVM makes of a type's kernels for any processor: ``python -m tests.bench.instructions TYPE... [--cpu NAME]``.

Every kernel that the encoder calls is taken as numba hands it to LLVM, optimized for the processor named, here or not
(``--triple aarch64-linux-gnu --cpu neoverse-n1``), and its innermost loops are counted:

    instructions  of one turn of the loop; ``steps`` are what is added to its counters, as the weights of a turn follow
                  from these (16 bytes of steps of float32 are 4 weights)
    scalar        float operations on one number
    spills        accesses of the stack
    gathers       look-ups by a vector of addresses in one instruction
    lanes         single lanes moved into or out of a vector: gathers and selects that were cut into pieces
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, NamedTuple
from unittest.mock import patch

import click
from llvmlite import binding

from qxmix.quants.kernels.processor_levels import machine
from tests.bench.machine import write_run

if TYPE_CHECKING:
    from collections.abc import Iterator

X86 = "x86_64-unknown-linux-gnu"
FEWEST = 6
"""Instructions of a loop below which it is not told."""

_LABEL = re.compile(r"^(\.LBB\w+):")
_JUMP = re.compile(r"^\t(?:j\w+|b|b\.\w+|cbn?z|tbn?z)\t(?:.*\s)?(\.LBB\w+)$")
_STEP = re.compile(r"^\t(?:addq\t\$(-?\d+), %|subq\t\$(-?\d+), %|add\t(x\d+), \3, #(\d+)|(inc)q\t%)")
_COUNTED = {
    "x86": {
        "vector": re.compile(r"^\tv\w+\t"),
        "scalar": re.compile(r"^\tv(?:add|sub|mul|div|min|max|u?comi|round|sqrt|cvt\w*2)s[sd]2?\w*\t"),
        "spills": re.compile(r"^\t(?!lea)\w+\t.*\(%r[sb]p"),
        "gathers": re.compile(r"^\tvp?gather\w+\t"),
        "lanes": re.compile(r"^\tv(?:pinsr|pextr|insertps|extractps)\w*\t"),
    },
    "aarch64": {
        "vector": re.compile(r"^\t\w+\t\{?\s*[vq]\d+"),
        "scalar": re.compile(r"^\tf(?:add|sub|mul|div|min|max|cmp|rint\w|sqrt|cvt\w+)\t[sd]\d+"),
        "spills": re.compile(r"^\t(?:ld|st)\w+\t.*\[(?:sp|x29)\b"),
        "gathers": re.compile(r"^\tld1\w+\t.*z\d+\.\w, p"),
        "lanes": re.compile(r"^\t(?:ld1|st1)\t\{ v\d+\.\w \}\[\d+\]|^\t(?:mov|ins|umov)\t.*v\d+\.\w\[\d+\]"),
    },
}


class Source(NamedTuple):
    """A kernel before it is optimized."""

    name: str
    symbol: str
    ir: str


class Loop(NamedTuple):
    """An innermost loop."""

    label: str
    lines: tuple[str, ...]


def _defines(ir: str, symbol: str) -> bool:
    return any(line.startswith("define") and f"@{symbol}(" in line.replace('"', "") for line in ir.splitlines())


def told(triple: str) -> Any:
    """What kernels are told of the processor, some of which name instructions it has: this one's where it is alike.

    For another family they name none of either, and that text can run here, too, as it must.
    """
    from numba.core.codegen import CPUCodegen  # noqa: PLC0415

    alike = triple.startswith(machine())
    tells = CPUCodegen.magic_tuple if alike else lambda _self: (triple, "generic", "")
    return patch.object(CPUCodegen, "magic_tuple", tells)


def sources(name: str, triple: str) -> list[Source]:
    """The kernels that the encoder of a type calls, as LLVM's text, nothing of which is optimized."""
    from numba.core.codegen import CPUCodeLibrary  # noqa: PLC0415 - and what follows: the cache's folder is set before

    from qxmix.quants.compiling import compiler  # noqa: PLC0415
    from qxmix.quants.kernels.kernel import Kernel  # noqa: PLC0415
    from qxmix.quants.kernels.warmup import compile_kernel  # noqa: PLC0415

    found: list[Source] = []
    modules: list[str] = []
    compiled = compiler.compiled

    def note(made: Any, arguments: tuple[object, ...]) -> Any:
        result = compiled(made, arguments)
        if result is not None:
            ir = next(text for text in reversed(modules) if _defines(text, result.symbol))
            found.append(Source(made.py_func.__qualname__, result.symbol, ir))
        return result

    as_it_is: dict[str, Any] = {
        "_optimize_functions": lambda _self, _module: None,
        "_optimize_final_module": lambda self: modules.append(str(self._final_module)),
        "_finalize_dynamic_globals": lambda _self: None,  # some are still there, with which nothing would be kept
    }
    with patch.multiple(CPUCodeLibrary, **as_it_is), patch.object(compiler, "compiled", note), told(triple):
        compile_kernel(Kernel(name, "encode"))
    return found


def assembly(ir: str, triple: str, cpu: str) -> str:
    """The text of the machine's instructions, by the passes that numba runs."""
    binding.initialize_all_targets()
    binding.initialize_all_asmprinters()
    machine = binding.Target.from_triple(triple).create_target_machine(cpu=cpu, opt=3, jit=True)
    ir = re.sub(r"^target (triple|datalayout) = .*$", "", ir, flags=re.MULTILINE)
    module = binding.parse_assembly(f'target triple = "{triple}"\ntarget datalayout = "{machine.target_data}"\n{ir}')
    for cheap in (True, False):
        options = binding.create_pipeline_tuning_options(speed_level=3)
        options.loop_vectorization, options.slp_vectorization = not cheap, False
        builder = binding.create_pass_builder(machine, options)
        passes = builder.getModulePassManager()
        if cheap:
            passes.add_refprune_pass()
        passes.run(module, builder)
    return str(machine.emit_assembly(module))


def named(symbol: str) -> str:
    """The name of a function by numba's symbol of it, ``_ZN5qxmix6quants...11scan_linearB2v1B...``."""
    name, at = "", len("_ZN")
    while length := re.match(r"\d+", symbol[at:]):
        at += len(length[0])
        name = symbol[at : at + int(length[0])]
        at += int(length[0])
    return name


def functions(text: str) -> Iterator[tuple[str, list[str]]]:
    """The name and the lines of each function of the package: a kernel, and those that LLVM left apart."""
    lines = text.splitlines()
    for start, line in enumerate(lines):
        if line.startswith(("_ZN5qxmix", '"_ZN5qxmix')):
            end = next(i for i in range(start, len(lines)) if lines[i].startswith(".Lfunc_end"))
            yield named(line.strip('"')), lines[start:end]


def innermost(lines: list[str]) -> Iterator[Loop]:
    """Stretches that end with a jump to their start, and have none such inside."""
    labels: dict[str, int] = {}
    begins = -1
    for i, line in enumerate(lines):
        if found := _LABEL.match(line):
            labels[found[1]] = i
        elif (jump := _JUMP.match(line.split("#")[0].rstrip())) and labels.get(jump[1], -1) > begins:
            begins = labels[jump[1]]
            yield Loop(jump[1], tuple(x for x in lines[begins : i + 1] if x.startswith("\t") and x[1] not in ".#/"))


def counts(loop: Loop, family: str) -> dict[str, int]:
    """How many instructions of each sort a turn of the loop has."""
    found = {"instructions": len(loop.lines)}
    return found | {n: sum(map(bool, map(p.match, loop.lines))) for n, p in _COUNTED[family].items()}


def steps(loop: Loop) -> list[int]:
    """What a turn adds to counters and addresses, each number once."""
    found = [m for m in map(_STEP.match, loop.lines) if m]
    return sorted({abs(int(m[1] or m[2] or m[4] or 1)) for m in found})


def count(name: str, triple: str, cpu: str) -> list[dict[str, Any]]:
    """The innermost loops of a type's kernels."""
    family = "aarch64" if triple.startswith("aarch64") else "x86"
    found: list[dict[str, Any]] = []
    for source in sources(name, triple):
        for function, lines in functions(assembly(source.ir, triple, cpu)):
            for loop in innermost(lines):
                told = {"type": name, "kernel": source.name, "function": function, "loop": loop.label}
                found.append({**told, **counts(loop, family), "steps": steps(loop)})
    return [loop for loop in found if loop["instructions"] >= FEWEST]


@click.command()
@click.argument("names", metavar="TYPE...", nargs=-1, required=True)
@click.option("--cpu", default="x86-64-v3", show_default=True, help="A processor that LLVM knows.")
@click.option("--triple", default=X86, show_default=True, help="The machine, as LLVM calls it.")
@click.option("--json", "json_path", type=click.Path(path_type=Path), help="Write the figures to this file, too.")
def main(names: tuple[str, ...], cpu: str, triple: str, json_path: Path | None) -> None:
    """Print a Markdown table of the innermost loops of what the encoders of TYPEs call."""
    head = ("type", "kernel", "function", "loop", "instructions", *_COUNTED["x86"], "steps")
    click.echo(f"| {' | '.join(head)} |\n|{'---|' * len(head)}")
    results = []
    with TemporaryDirectory() as folder:
        os.environ["NUMBA_CACHE_DIR"] = folder
        for name in names:
            loops = count(name, triple, cpu)
            results.append({"type": name, "loops": loops})
            for loop in loops:
                click.echo(f"| {' | '.join(str(loop[column]) for column in head)} |")
    if json_path is not None:
        write_run(json_path, "instructions", {"cpu": cpu, "triple": triple}, results, "type")


if __name__ == "__main__":
    main()
