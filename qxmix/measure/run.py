"""From a model and a text to a measurement."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from math import ceil

from qxmix.container.identity import header_sha256
from qxmix.container.imatrix import Imatrix
from qxmix.container.model import ModelHeader
from qxmix.container.weights import require_weights
from qxmix.engines.embed import is_encoder
from qxmix.errors import ModelFileError
from qxmix.execute import stop
from qxmix.execute.sample import Rows
from qxmix.execute.source import Source
from qxmix.measure.candidates import choose_tensors, choose_types, types_of
from qxmix.measure.errors import estimate, measure_errors, n_sampled
from qxmix.measure.inputs import N_CHUNKS, with_input_errors
from qxmix.measure.joint import SHARES
from qxmix.measure.journal import Journal, key_of
from qxmix.measure.model import Job, OnProgress, Phase, Settings
from qxmix.measure.score import Passage, Scorer, engine_version, open_scorer
from qxmix.measure.sensitivity import CHECK_EVERY, Bench, measure_joint, measure_points, plan_passes, with_sensitivities
from qxmix.measurement.model import JointPoint, MeasuredModel, MeasuredTensor, Measurement, Metric, Run
from qxmix.quants.kernels.kernel import Kernel

_WAY = 2
"""Of measuring a loss; raised when the same weights give another one (2: tied embeddings are the output, too)."""


def make_job(header: ModelHeader, imatrix: Imatrix | None, settings: Settings) -> Job:
    """Decide what is measured, and refuse what cannot be.

    Raises:
        RecipeError: a type is unknown or cannot be written.
        ModelFileError: the model has no weights in it, or none that can be quantized.

    """
    types = choose_types(settings.target, settings.types)
    require_weights(header)
    sources, allowed = [], []
    for tensor in choose_tensors(header, settings.target):
        mine, entry = types_of(tensor, types, settings.target, imatrix)
        allowed.append(mine)
        sources.append(Source(tensor, header.paths[tensor.shard], imatrix, entry))
    job = Job(header, imatrix, settings, types, tuple(sources), tuple(allowed))
    if not any(allowed):
        raise ModelFileError.at(header.path, f"no tensor has rows that {', '.join(types)} allow; give --types")
    _refuse_holes(job)
    if settings.passage:
        plan_passes(job)
    return job


def _refuse_holes(job: Job) -> None:
    """A file with nothing behind its header, or a download that was cut, reads as zeros."""
    empty = [s.tensor.name for s in job.sources if not s.read([Rows(0, 0, min(16, s.tensor.n_rows))]).any()]
    if 2 * len(empty) >= len(job.sources):
        n = f"{len(empty):,} of its {len(job.sources):,} matrices begin with zeros alone"
        msg = f"{n}: a file of headers only, or a download that did not finish; measure a model with its weights"
        raise ModelFileError.at(job.path, msg)


def measure(
    job: Job,
    journal: Journal,
    on_progress: OnProgress = lambda _phase, _done, _total: None,
    on_estimate: Callable[[str, float], None] = lambda _what, _seconds: None,
) -> Measurement:
    """Measure everything that is not in the journal.

    Args:
        job: what.
        journal: what is known, and where results go one by one.
        on_progress: called after each step.
        on_estimate: called before errors and before losses with what is to be done and about how many seconds of this
            machine it takes, were nothing known.

    Raises:
        ModelFileError: the model or the text is at fault.
        RunError: an engine or the disk is.

    """
    settings = job.settings
    with ExitStack() as stack:
        executor = stack.enter_context(stop.threads(settings.n_workers))
        # The engine first: what it refuses, it refuses before hours of work.
        scorer = (
            stack.enter_context(open_scorer(job.header, settings.passage, settings.engine))
            if settings.passage
            else None
        )
        _compile(job, on_progress)
        on_estimate("errors", estimate(job) / settings.n_workers)
        tensors, digest = measure_errors(job, journal, executor, _weights_counter(job, on_progress))
        bare = _assembled(job, tensors)
        if scorer is None or settings.passage is None:
            return bare
        run = _run_of(scorer, settings.passage)
        bench = Bench(job, scorer, journal, executor, key_of(digest, _WAY, bare.model.header_sha256, run._asdict()))
        return _with_losses(replace(bare, metric=scorer.metric, run=run), bench, on_progress, on_estimate)


def _with_losses(
    errors: Measurement, bench: Bench, on_progress: OnProgress, on_estimate: Callable[[str, float], None]
) -> Measurement:
    passes = plan_passes(bench.job)
    n_joint = len(SHARES) * bench.job.settings.joint
    a_pass, most = _run_base(bench.scorer, on_progress), bench.job.settings.seconds
    swaps = a_pass * len(passes) if most is None else min(a_pass * len(passes), most)
    beside = _passes_beside(bench.scorer, len(passes), n_joint)
    on_estimate(f"{len(passes) + n_joint:,} passes" + (" at most" if most else ""), swaps + a_pass * (n_joint + beside))
    floor = bench.noise_floor()
    errors = replace(errors, tensors=with_input_errors(errors.tensors, bench))
    points = measure_points(bench, errors.tensors, passes, _counter("sensitivities", len(passes), on_progress))
    tensors = with_sensitivities(errors.tensors, points, floor)
    joint: tuple[JointPoint, ...] = ()
    if n_joint and tensors[0].sensitivity is not None:
        joint = measure_joint(bench, tensors, _counter("joint", n_joint, on_progress))
    assert errors.run is not None, "losses have conditions"
    return replace(errors, tensors=tensors, run=errors.run._replace(noise_floor=floor), points=points, joint=joint)


def _passes_beside(scorer: Scorer, *n_losses: int) -> float:
    """Passes that no loss comes of: the noise floor, chunks on which inputs are watched or the base is looked at."""
    n_chunks = max(1, scorer.n_chunks)
    return 1 + (min(N_CHUNKS, n_chunks) + sum(ceil(n / CHECK_EVERY) for n in n_losses)) / n_chunks


def _compile(job: Job, on_progress: OnProgress) -> None:
    from qxmix.quants.kernels.warmup import pending, warm  # noqa: PLC0415 - numba, which a refusal does not need

    used = {name for types in job.allowed for name in types} | {s.tensor.type for s in job.sources}
    kernels = [Kernel(name, direction) for name in used for direction in ("encode", "decode")]
    missing = pending(kernels)
    if missing:
        on_progress("kernels", 0, len(missing))
    warm(kernels)


def _weights_counter(job: Job, on_progress: OnProgress) -> Callable[[int], None]:
    total = sum(n_sampled(source, job) for source in job.sources)
    done = 0

    def on_weights(n: int) -> None:
        nonlocal done
        done = min(done + n, total)
        on_progress("errors", done, total)

    return on_weights


def _counter(phase: Phase, total: int, on_progress: OnProgress) -> Callable[[], None]:
    done = 0

    def on_pass() -> None:
        nonlocal done
        done += 1
        on_progress(phase, done, total)

    return on_pass


def _run_base(scorer: Scorer, on_progress: OnProgress) -> float:
    """Seconds that one pass takes."""
    began = time.monotonic()
    for i in scorer.keep():
        on_progress("base", i + 1, scorer.n_chunks)
    return time.monotonic() - began


def _run_of(scorer: Scorer, passage: Passage) -> Run:
    return Run(
        engine=scorer.engine,
        version=engine_version(scorer.engine),
        n_threads=passage.n_threads,
        n_ubatch=scorer.n_ubatch,
        n_ctx=passage.n_ctx,
        first_chunk=passage.first_chunk,
        n_chunks=scorer.n_chunks,
        text_sha256=hashlib.sha256(passage.text).hexdigest(),
        noise_floor=0.0,
    )


def _assembled(job: Job, tensors: tuple[MeasuredTensor, ...]) -> Measurement:
    header, name = job.header, job.header.get("general.name")
    model = MeasuredModel(
        name if isinstance(name, str) and name else header.path.stem,
        header.architecture,
        header_sha256(header),
        len(header.tensors),
        sum(t.n_weights for t in header.tensors),
    )
    imatrix = None if job.imatrix is None else job.imatrix.sha256
    metric: Metric = "cosine" if is_encoder(header) else "kld"
    return Measurement(model, imatrix, job.settings.target, job.types, metric, tensors, None, (), ())
