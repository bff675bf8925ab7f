"""Making and evaluating the files of an experiment, type by type, so that an interrupted one goes on."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from hashlib import sha256
from itertools import groupby
from pathlib import Path

import qxmix
from qxmix.engines.evaluate import Evaluated, Settings, check_text, evaluate
from qxmix.errors import PlanError, RunError
from qxmix.execute import kernels
from qxmix.execute.run import apply
from qxmix.experiment.model import Case, Experiment, Outcome
from qxmix.experiment.state import State
from qxmix.plan import Plan, make_plan
from qxmix.recipe import load_recipe

OnStep = Callable[[int, int, str], None]
"""Called with the number of steps done, of all, and what comes next; a file made or evaluated is a step."""


def run_experiment(experiment: Experiment, on_step: OnStep) -> tuple[Outcome, ...]:
    """Make and evaluate every case, those that an earlier run finished excepted.

    The cases of one type are evaluated in one run of the engine beside the base.  What is finished is noted in the
    folder; at the end files, recipes and notes are removed unless they are to be kept.

    Raises:
        PlanError: the model does not allow one of the files.
        RunError: the folder belongs to another experiment, the engine is missing or gives up, or a file cannot be
            written.
        ModelFileError: the model cannot be evaluated.

    """
    # Whatever can be refused is refused before an hour of work.
    plans = {case: plan_of(experiment, case) for case in experiment.cases}
    state = State.open(experiment.folder, _identity(experiment))
    outcomes = {(o.type, o.search): o for o in state.outcomes}
    if len(outcomes) < len(experiment.cases):
        check_text(experiment.header.path, experiment.text, _settings(experiment))
    for plan in plans.values():
        kernels.warm(plan)
    done, total = 2 * len(outcomes), 2 * len(experiment.cases)
    for _, group in groupby(experiment.cases, key=lambda case: case.type):
        missing = [case for case in group if (case.type, case.search) not in outcomes]
        made: list[tuple[Case, Path, float]] = []
        for case in missing:
            on_step(done, total, f"quantizing {case.type}, {case.search}")
            made.append((case, *_made(plans[case], experiment, case)))
            done += 1
        if not made:
            continue
        on_step(done, total, f"evaluating {made[0][0].type}")
        for (case, path, seconds), found in zip(made, _evaluated(experiment, [m[1] for m in made]), strict=True):
            outcomes[case.type, case.search] = outcome = _outcome(case, plans[case], seconds, found)
            state.note(outcome)
            done += 1
            if not experiment.keep:
                path.unlink()
    state.close()
    if not experiment.keep:
        _tidy(experiment)
    return tuple(outcomes[case.type, case.search] for case in experiment.cases)


def _tidy(experiment: Experiment) -> None:
    """Remove the recipes, and the folder if nothing else stands in it; it may be one that somebody had before."""
    for case in experiment.cases:
        _path(experiment, case, ".yaml").unlink(missing_ok=True)
    with suppress(OSError):
        experiment.folder.rmdir()


def _path(experiment: Experiment, case: Case, suffix: str) -> Path:
    return experiment.folder / f"{case.type}-{case.search}{suffix}"


def recipe_text(case: Case, experiment: Experiment) -> str:
    """The recipe of a case: everything one type, embeddings and output at Q8_0, rows that do not fit as the engine."""
    return f"""qxmix: 1
name: {case.type}-{case.search}
description: Every matrix {case.type} by the {case.search} search, embeddings and output Q8_0.
target: {experiment.engine}
default: {case.type.lower()}
search: {case.search}
rules:
  - {{category: [token_embd, output], type: q8_0}}
fallback: {experiment.engine}
silence:
  fallback: the shares stand in the table
"""


def plan_of(experiment: Experiment, case: Case) -> Plan:
    """The plan of a case; its recipe is written into the folder, where it can be used again."""
    path = _path(experiment, case, ".yaml")
    try:
        experiment.folder.mkdir(parents=True, exist_ok=True)
        path.write_text(recipe_text(case, experiment), encoding="utf-8")
    except OSError as error:
        raise RunError(f"{path}: {error.strerror}; give another folder with --work") from None
    plan = make_plan(load_recipe(path), experiment.header, experiment.imatrix)
    errors = [p for p in plan.problems if p.severity == "error"]
    if errors:
        raise PlanError(errors)
    return plan


def _made(plan: Plan, experiment: Experiment, case: Case) -> tuple[Path, float]:
    path = _path(experiment, case, ".gguf")
    result = apply(plan, path, n_workers=experiment.n_threads, overwrite=True)
    return path, result.seconds - result.sync_seconds


def _evaluated(experiment: Experiment, paths: list[Path]) -> list[Evaluated]:
    return evaluate(paths, experiment.text, base=experiment.header.path, settings=_settings(experiment))


def _settings(experiment: Experiment) -> Settings:
    return Settings(experiment.engine, experiment.n_ctx, experiment.n_chunks, experiment.n_threads)


def _outcome(case: Case, plan: Plan, seconds: float, found: Evaluated) -> Outcome:
    summary, base = found.summary, found.base
    assert base is not None
    assert summary.mean_kld is not None
    assert summary.mean_kld_error is not None
    assert summary.same_top_percent is not None
    return Outcome(
        case.type,
        case.search,
        plan.file_nbytes,
        plan.bpw,
        _fallback_shares(plan, case.type),
        seconds,
        summary.ppl,
        summary.ppl_error,
        base.ppl,
        summary.mean_kld,
        summary.mean_kld_error,
        summary.same_top_percent,
        summary.n_scored,
    )


def _fallback_shares(plan: Plan, type_name: str) -> dict[str, float]:
    """Share of the weights meant for ``type_name`` that each other type got, the largest first."""
    meant = [t for t in plan.tensors if t.requested == type_name]
    total = max(1, sum(t.source.n_weights for t in meant))
    others = sorted({t.type for t in meant} - {type_name})
    shares = {name: sum(t.source.n_weights for t in meant if t.type == name) / total for name in others}
    return dict(sorted(shares.items(), key=lambda item: -item[1]))


def _identity(experiment: Experiment) -> dict[str, object]:
    path = experiment.header.path
    status = path.stat()
    return {
        "qxmix": qxmix.__version__,
        "model": f"{path.name}, {status.st_size} bytes of {status.st_mtime_ns}",
        "imatrix": experiment.imatrix.sha256 if experiment.imatrix else None,
        "text": sha256(experiment.text).hexdigest(),
        "engine": experiment.engine,
        "ctx": experiment.n_ctx,
        "chunks": experiment.n_chunks,
        "threads": experiment.n_threads,
    }
