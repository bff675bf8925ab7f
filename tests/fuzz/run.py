"""Fuzz qxmix's readers of foreign files: ``python tests/fuzz/run.py --runs 100000 [--seconds 60] [--kind header]``.

The structured mutator changes right files piece by piece, in this process.  ``--engine atheris`` hands the same targets
to atheris, which is guided by coverage (``pip install qxmix[fuzz]``).  An input that crashes a target (anything but a
QxmixError, too much time or memory) is kept in ``--keep``, and the exit code is 1.
"""

from __future__ import annotations

import argparse
import os
import re
import resource
import signal
import subprocess
import sys
import tempfile
import time
import tracemalloc
import warnings
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.fuzz.commands import mutated_command
from tests.fuzz.mutate import mutate_bytes, mutate_pieces
from tests.fuzz.recipes import mutated_recipe
from tests.fuzz.scripts import mutated_script
from tests.fuzz.seeds import dat_pieces, header_pieces, imatrix_pieces
from tests.fuzz.targets import TARGETS
from tests.gguf_bytes import small_model

if TYPE_CHECKING:
    from types import FrameType

SECONDS = 5
"""An input that takes more of the processor hangs; the slowest of a million took 0.2 s."""
WAIT_SECONDS = 600
"""An input that takes longer by the clock waits for what does not come, on however busy a machine."""
_CLOCKS = (signal.ITIMER_PROF, signal.ITIMER_REAL)
PEAK_NBYTES = {"header": 512 << 10, "imatrix": 512 << 10, "recipe": 4 << 20, "script": 4 << 20, "command": 64 << 20}
"""Python memory a target may take whatever the input; a recipe is read into a buffer as large as it may be."""
PEAK_PER_BYTE = 96
"""Python memory for each byte of the input on top: a metadata field of 14 bytes becomes an object of 300."""
TRACED_EVERY = 64
"""tracemalloc makes a run five times slower; the limit on the address space holds for all."""
TEXTS = {"recipe": mutated_recipe, "script": mutated_script, "command": mutated_command}
SEEDS = {"header": [header_pieces], "imatrix": [dat_pieces, imatrix_pieces]}
ADDRESS_SPACE_NBYTES = {"command": 1 << 30}
"""On top of what is there; a command may load the compiler's libraries.  128 MiB for the other kinds."""

_VARIABLE = re.compile(r"\(first bytes.*?\)|of \w+ blocks|UTF-8: .*;|\".*?\"|'.*?'|-?\d[-+.e\d]*")
"""What differs between errors of one kind."""


@dataclass
class Tally:
    """What came of the inputs of one kind."""

    runs: int = 0
    accepted: int = 0
    slowest: float = 0.0
    errors: Counter[str] = field(default_factory=Counter)
    crashes: list[bytes] = field(default_factory=list)


def make_input(kind: str, rng: Random) -> bytes:
    if kind in TEXTS:
        return TEXTS[kind](rng)
    if rng.random() < 0.02:
        return mutate_bytes(rng.randbytes(rng.randrange(200)), rng)
    return mutate_pieces(rng.choice(SEEDS[kind])(rng), rng)


def run_one(kind: str, data: bytes, folder: Path, tally: Tally, *, traced: bool, keep: Path | None = None) -> None:
    """Run a target once under its limits."""
    start = time.process_time()
    for clock, seconds in zip(_CLOCKS, (SECONDS, WAIT_SECONDS), strict=True):
        signal.setitimer(clock, seconds)
    try:
        text = _within_memory(kind, data, folder) if traced else TARGETS[kind](data, folder)
        tally.accepted += not text
        tally.errors[_VARIABLE.sub("#", text)] += 1
    except Exception as error:  # noqa: BLE001 - whatever escapes is the finding
        tally.crashes.append(data)
        if keep is not None:
            (keep / f"crash-{kind}-{len(tally.crashes) - 1}").write_bytes(data)
        print(f"{kind}: {type(error).__name__}: {error}", file=sys.stderr)
    finally:
        for clock in _CLOCKS:
            signal.setitimer(clock, 0)
    tally.runs += 1
    tally.slowest = max(tally.slowest, time.process_time() - start)


def _within_memory(kind: str, data: bytes, folder: Path) -> str:
    """Run a target whose memory is looked at, again where it was too much: other threads' memory counts, too.

    In a process of many tests one input once took 6 MB that takes 2.3 alone.
    """
    most = PEAK_NBYTES[kind] + PEAK_PER_BYTE * len(data)
    for _ in range(3):
        tracemalloc.start()
        try:
            text = TARGETS[kind](data, folder)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        if peak <= most:
            return text
    raise AssertionError(f"{peak} bytes for an input of {len(data)}")


def fuzz(kind: str, runs: int, seconds: float, seed: int, keep: Path | None = None) -> Tally:
    """Run up to ``runs`` mutated inputs for up to ``seconds``."""
    tally, rng, end = Tally(), Random(seed), time.monotonic() + seconds  # noqa: S311
    before = {number: signal.signal(number, _hang) for number in (signal.SIGPROF, signal.SIGALRM)}
    warnings.simplefilter("error")
    limits = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (_used_nbytes() + ADDRESS_SPACE_NBYTES.get(kind, 128 << 20), limits[1]))
    try:
        with tempfile.TemporaryDirectory(dir=_fast_folder()) as name:
            folder = Path(name)
            (folder / "m-00002-of-00002.gguf").write_bytes(small_model(split=(1, 2, 2)))
            run_one(kind, make_input(kind, Random(0)), folder, Tally(), traced=False)  # noqa: S311 - imports
            while tally.runs < runs and time.monotonic() < end:
                run_one(kind, make_input(kind, rng), folder, tally, traced=tally.runs % TRACED_EVERY == 0, keep=keep)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, limits)
        for number, handler in before.items():
            signal.signal(number, handler)
    return tally


def _fast_folder() -> str | None:
    """A folder in memory where there is one: every input is a file."""
    shared = "/dev/shm"  # noqa: S108
    return shared if os.access(shared, os.W_OK) else None


def _hang(_signal: int, _frame: FrameType | None) -> None:
    raise TimeoutError(f"still running after {SECONDS} s of the processor or {WAIT_SECONDS} s")


def _used_nbytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()


def report(kind: str, tally: Tally, seconds: float, *, verbose: bool) -> None:
    print(
        f"{kind}: {tally.runs:,} inputs in {seconds:.1f} s, {tally.accepted:,} accepted, {len(tally.errors) - 1} kinds "
        f"of refusal, slowest {tally.slowest * 1000:.0f} ms, {len(tally.crashes)} crashes"
    )
    if verbose:
        for text, n in tally.errors.most_common():
            print(f"  {n:9,}  {text}")


def run_atheris(kind: str, runs: int, seconds: float, seed: int, keep: Path) -> int:
    """Run the coverage-guided fuzzer in a process of its own, on a corpus of right files."""
    with tempfile.TemporaryDirectory() as corpus:
        rng = Random(seed)  # noqa: S311
        for i in range(200):
            (Path(corpus) / f"{i:03}").write_bytes(make_input(kind, rng))
        command = [
            sys.executable, str(Path(__file__).with_name("guided.py")), kind, f"-runs={runs}",
            f"-max_total_time={int(seconds)}", f"-seed={seed}", "-max_len=2048", f"-timeout={WAIT_SECONDS}",
            "-rss_limit_mb=1024", f"-artifact_prefix={keep}/", "-print_final_stats=1", corpus,
        ]  # fmt: skip
        return subprocess.run(command, check=False).returncode


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=10000, help="inputs of each kind (default 10000)")
    parser.add_argument("--seconds", type=float, default=86400, help="at most so long for each kind")
    parser.add_argument("--kind", choices=[*TARGETS, "all"], default="all")
    parser.add_argument("--engine", choices=["mutator", "atheris"], default="mutator")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keep", type=Path, default=Path(tempfile.gettempdir()), help="where crashing inputs go")
    parser.add_argument("-v", "--verbose", action="store_true", help="count each kind of refusal")
    options = parser.parse_args()
    options.keep.mkdir(parents=True, exist_ok=True)
    failed = False
    for kind in TARGETS if options.kind == "all" else [options.kind]:
        if options.engine == "atheris":
            failed |= run_atheris(kind, options.runs, options.seconds, options.seed, options.keep) != 0
            continue
        start = time.monotonic()
        tally = fuzz(kind, options.runs, options.seconds, options.seed, options.keep)
        report(kind, tally, time.monotonic() - start, verbose=options.verbose)
        failed |= bool(tally.crashes)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
