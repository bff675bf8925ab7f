"""What ``qxmix plan`` shows beside the plan, or instead of it, when it is asked.

The plan alone imports none of this, which would be a tenth of its time.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from qxmix.cli.asked import Asked
from qxmix.cli.inputs import open_measurement
from qxmix.explain import explain
from qxmix.lint import examined
from qxmix.measurement.lattice import load_lattices
from qxmix.plan import Plan
from qxmix.planning.lattice import with_lattices
from qxmix.report.explain import explanation_text
from qxmix.report.heat_map import map_text
from qxmix.report.plan_json import plan_json
from qxmix.report.plan_markdown import plan_markdown
from qxmix.report.running import running_json, running_text
from qxmix.running.model import Running
from qxmix.running.place import running

if TYPE_CHECKING:
    from qxmix.report.page.insight import Insight
    from qxmix.report.predicted import Predicted


def answer(plan: Plan, asked: Asked, plan_text: Callable[[Plan], str]) -> tuple[Plan, str]:
    """The plan with what lint finds, and all that is printed of it; the page is written."""
    if asked.lattice is not None:
        plan = with_lattices(plan, load_lattices(asked.lattice, plan.header))
    plan = examined(plan)
    found = None if asked.use is None else running(plan.header, {t.name: t.nbytes for t in plan.tensors}, asked.use)
    text = _json(plan, asked, found) if asked.as_json else _text(plan, asked, found, plan_text)
    if asked.html is not None:
        _write_page(plan, asked.measure, found, asked.html)
    return plan, text


def _json(plan: Plan, asked: Asked, found: Running | None) -> str:
    shown = plan_json(plan, asked.chunking)
    if asked.measure is not None:
        shown["predicted"] = _predicted(plan, asked.measure).as_json()
    if found is not None:
        shown["running"] = running_json(found)
    return json.dumps(shown, indent=1)


def _text(plan: Plan, asked: Asked, found: Running | None, plan_text: Callable[[Plan], str]) -> str:
    terminal = asked.terminal and not asked.markdown
    if asked.markdown:
        parts = [plan_markdown(plan)]
    elif asked.explained is not None:
        parts = [explanation_text(plan, explain(plan, asked.explained), terminal=terminal)]
    elif asked.as_map:
        colour = terminal and "NO_COLOR" not in os.environ
        parts = [map_text(plan, width=shutil.get_terminal_size().columns, colour=colour)]
    else:
        parts = [plan_text(plan)]
    if found is not None:
        parts.append(running_text(found, terminal=terminal))
    if asked.measure is not None:
        parts.append(_predicted(plan, asked.measure).as_text(terminal=terminal))
    return "\n\n".join(parts)


def _write_page(plan: Plan, measure: Path | None, found: Running | None, path: Path) -> None:
    from qxmix.report import page  # noqa: PLC0415 - jinja2, for pages alone

    insight = _insight(plan, measure) if measure is not None else None
    page.write_page(page.plan_page(plan, insight, found), path)


def _insight(plan: Plan, measure: Path) -> Insight:
    # The solver, for those who have a measurement and want a page.
    from qxmix.report.page.insight import insight_of  # noqa: PLC0415
    from qxmix.solve.predict import predictor_of  # noqa: PLC0415

    measurement = open_measurement(measure, plan.header, plan.imatrix)
    return insight_of(plan, predictor_of(plan.header, measurement, plan.recipe.engines), measurement.types)


def _predicted(plan: Plan, measure: Path) -> Predicted:
    from qxmix.report.predicted import predicted_of  # noqa: PLC0415 - the solver, for those who have a measurement

    return predicted_of(plan, open_measurement(measure, plan.header, plan.imatrix))
