"""The table of ik_llama.cpp's PR 295: a line for each type, columns for each search."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from itertools import groupby

from qxmix.experiment.model import Outcome
from qxmix.report.text import markdown, table


def experiment_json(outcomes: Sequence[Outcome]) -> list[dict[str, object]]:
    """One object for each file, as in ``schemas/compare-search.schema.json``."""
    return [asdict(outcome) for outcome in outcomes]


def experiment_text(outcomes: Sequence[Outcome], *, terminal: bool) -> str:
    """The table and its notes as text."""
    titles, rows = _table(outcomes)
    return "\n\n".join((table(titles, rows, terminal=terminal), *_notes(outcomes)))


def experiment_markdown(outcomes: Sequence[Outcome]) -> str:
    """The table and its notes as Markdown."""
    titles, rows = _table(outcomes)
    return "\n".join([markdown(titles, rows), "", *(f"{note}  " for note in _notes(outcomes))])


def _table(outcomes: Sequence[Outcome]) -> tuple[list[str], list[list[str]]]:
    searches = list(dict.fromkeys(o.search for o in outcomes))
    titles = ["type", "?>bpw"]
    titles += [f">{what} {search}" for what in ("PPL", "KLD", "s") for search in searches]
    rows = []
    for type_name, group in groupby(outcomes, key=lambda o: o.type):
        by_search = {o.search: o for o in group}
        first = next(iter(by_search.values()))
        found = [by_search.get(search) for search in searches]
        rows.append(
            [type_name, f"{first.bpw:.3f}"]
            + ["" if o is None else f"{o.ppl:.4f}" for o in found]
            + ["" if o is None else f"{o.mean_kld:.5f} ± {o.mean_kld_error:.5f}" for o in found]
            + ["" if o is None else f"{o.seconds:.2f}" for o in found]
        )
    return titles, rows


def _notes(outcomes: Sequence[Outcome]) -> list[str]:
    first = outcomes[0]
    scored = (
        f"Base: perplexity {first.base_ppl:.4f} (± {first.ppl_error:.2f} for any of them) over {first.n_scored:,} "
        "tokens. PPL: perplexity; KLD: mean divergence from the base in nats per token with its standard error; s: "
        "seconds to quantize."
    )
    notes = [scored]
    fallen = {o.type: o.fallbacks for o in outcomes if o.fallbacks}
    for type_name, shares in fallen.items():
        told = ", ".join(f"{share:.1%} are {name}" for name, share in shares.items())
        notes.append(
            f"{type_name}: of the weights meant for it {told}, since its blocks do not divide their rows; the file is "
            f"{'mostly something else' if sum(shares.values()) > 0.5 else 'not all of this type'}."  # noqa: PLR2004
        )
    return notes
