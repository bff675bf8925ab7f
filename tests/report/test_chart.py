"""Charts: where things stand, and that pages and pictures draw the same."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qxmix.errors import RunError
from qxmix.report.chart import Point, chart
from qxmix.report.page.template import template
from qxmix.report.picture import draw_losses

if TYPE_CHECKING:
    from pathlib import Path

    from qxmix.report.chart import Chart, Mark


def test_one_point_is_no_chart() -> None:
    assert chart([Point("a", 1, 0.1)], [], "nats") is None
    made = chart([Point("a", 1 << 30, 0.1)], [Point("b", 3 << 30, 0.01)], "nats")
    assert made is not None
    assert [t.label for t in made.losses] == ["0.01", "0.02", "0.05", "0.1"]
    assert [t.label for t in made.sizes] == ["1 GiB", "1.5 GiB", "2 GiB", "2.5 GiB", "3 GiB"]


@given(st.lists(st.tuples(st.integers(1, 1 << 42), st.floats(1e-9, 1e9)), min_size=1, max_size=30))
def test_everything_is_inside_and_has_ticks(values: list[tuple[int, float]]) -> None:
    made = chart([Point("a", n, loss, loss / 2, loss * 2) for n, loss in values], (), "nats", fewest=1)
    assert made is not None
    assert made.sizes
    assert made.losses
    for mark in made.marks:
        assert made.left <= mark.x <= made.right
        assert mark.bar is not None
        assert made.top <= mark.bar[1] <= mark.y <= mark.bar[0] <= made.bottom


@pytest.mark.parametrize(("low", "high"), [(26.3, 27.4), (0.021, 0.023), (0.5, 0.9), (3.0, 3.0001)])
def test_a_narrow_range_has_ticks(low: float, high: float) -> None:
    made = chart([Point("a", 1 << 30, low), Point("b", 1 << 31, high)], (), "nats")
    assert made is not None
    assert 3 <= len(made.losses) <= 8
    assert len({t.label for t in made.losses}) == len(made.losses)


def _extent(mark: Mark) -> tuple[float, float]:
    width = 8 * len(mark.label)
    return (mark.label_x - width, mark.label_x) if mark.at_left else (mark.label_x, mark.label_x + width)


def test_labels_of_near_points_do_not_cover_each_other() -> None:
    points = [Point(f"recipe {i}", 1_000_000 + i, 0.1 + i / 1e5) for i in range(8)] + [Point("far", 5_000_000, 0.5)]
    made = chart(points, (), "nats")
    assert made is not None
    for i, a in enumerate(made.marks):
        for b in made.marks[:i]:
            (a0, a1), (b0, b1) = _extent(a), _extent(b)
            assert a1 <= b0 or b1 <= a0 or abs(a.label_y - b.label_y) >= 14, (a, b)


def test_labels_lie_on_no_interval_of_another_point() -> None:
    points = [Point("IQ2_S", 985_000, 0.1281, 0.0593, 0.2769), Point("IQ3_XXS", 1_080_000, 0.086, 0.0398, 0.1859)]
    made = chart([*points, Point("far", 2_600_000, 0.0004)], (), "nats")
    assert made is not None
    for mark in made.marks:
        left, right = _extent(mark)
        assert made.left <= left < right <= made.width
        for other in made.marks:
            assert not (left < other.x < right and other.bar and other.bar[1] < mark.label_y < other.bar[0])


def test_what_is_measured_and_predicted_is_named_once() -> None:
    made = _both()
    assert [(m.label, m.predicted) for m in made.marks] == [("a", False), ("", True), ("$b_0$", False)]
    assert made.marks[0].text == "a: 1.00 GiB, 0.1 (0.09 to 0.11) nats"
    assert made.marks[1].text == "a: 1.00 GiB, 0.2 nats, predicted"


def _both() -> Chart:
    points = [
        Point("a", 1 << 30, 0.1, 0.09, 0.11),
        Point("a", 1 << 30, 0.2, predicted=True),
        Point("$b_0$", 1 << 29, 0.3, -0.1, 0.7),
    ]
    made = chart(points, (), "nats")
    assert made is not None
    return made


def test_picture_and_page_show_the_same_words(tmp_path: Path) -> None:
    made, picture = _both(), tmp_path / "p.svg"
    draw_losses(made, "divergence", picture)
    drawn = picture.read_text()
    page = template("chart").module.draw(made, here=False)  # type: ignore[attr-defined]
    words = set(re.findall(r"<text[^>]*>([^<]+)</text>", page))
    assert {"a", "$b_0$", *(t.label for t in (*made.sizes, *made.losses))} == words
    of_picture = set(re.findall(r"<text[^>]*>([^<]+)</text>", drawn))
    assert words <= of_picture
    assert of_picture - words == {"size", "divergence, nats (filled: measured, open: predicted)"}
    first = picture.read_bytes()
    draw_losses(made, "divergence", picture)
    assert picture.read_bytes() == first


def test_nothing_to_draw_is_told(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="nothing to draw: no file has a divergence above 0"):
        draw_losses(chart([Point("same", 5, 0.0)], (), "nats", fewest=1), "divergence", tmp_path / "p.svg")
    assert not (tmp_path / "p.svg").exists()
