"""Labels of a plot: each beside its point, none on another."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

from fourierft.adapters.figure import new_figure, place_labels, use_log_scale

Label = tuple[str, tuple[float, float], str]


def place(labels: list[Label]) -> list[Any]:
    figure = new_figure(6, 4)
    axes = figure.subplots()
    axes.scatter(*zip(*(point for _, point, _ in labels), strict=True))
    place_labels(axes, labels)
    figure.draw_without_rendering()
    boxes = [text.get_window_extent() for text in axes.texts]
    assert not any(one.overlaps(other) for one, other in itertools.combinations(boxes, 2))
    assert all(axes.bbox.x0 <= box.x0 and box.x1 <= axes.bbox.x1 for box in boxes)
    return list(axes.texts)


def test_labels_of_points_with_room_are_all_written() -> None:
    texts = place([(f"method {number}", (number, number % 3), "black") for number in range(4)])
    assert {text.get_text() for text in texts} == {f"method {number}" for number in range(4)}


@pytest.mark.parametrize("distance", [0.0, 0.001])
def test_a_crowd_keeps_its_short_labels(distance: float) -> None:
    crowd = [(f"{'a long name ' * number}n={number}", (distance * number, 0.0), "black") for number in range(20)]
    texts = [text.get_text() for text in place([*crowd, ("far", (1.0, 1.0), "black")])]
    assert "n=0" in texts
    assert "far" in texts
    assert len(texts) < 21


def test_a_label_stands_where_no_line_crosses_it() -> None:
    figure = new_figure(6, 4)
    axes = figure.subplots()
    axes.plot([0.0, 1.0, 2.0], [0.0, 1.0, 2.0])  # up to the right, where a label would stand if it could
    place_labels(axes, [("a point of it", (1.0, 1.0), "black")])
    box = axes.texts[0].get_window_extent()
    across = np.linspace(box.x0, box.x1, 50)
    low, high = axes.transData.transform([(0.0, 0.0), (2.0, 2.0)])
    line = low[1] + (across - low[0]) * (high[1] - low[1]) / (high[0] - low[0])
    assert not ((box.y0 < line) & (line < box.y1)).any()


def test_a_label_far_from_its_point_has_a_line_to_it() -> None:
    crowd = [("method n", (0.5, 0.5), "black")] * 9
    figure = new_figure(6, 4)
    axes = figure.subplots()
    axes.plot([0.0, 1.0], [0.0, 1.0])
    place_labels(axes, crowd)
    leads = axes.lines[1:]
    assert len(axes.texts) > len(leads) > 0
    for lead in leads:
        begin: Any = lead.get_xydata()
        assert begin[0] == pytest.approx((0.5, 0.5))


@pytest.mark.parametrize(
    ("points", "shown"),
    [
        ((200, 768, 1000, 6144), ["200", "500", "1,000", "2,000", "5,000"]),
        ((5e-4, 1e-3, 2e-3), ["0.0005", "0.001", "0.002"]),
        ((5e4, 2.5e6), ["50k", "100k", "200k", "500k", "1M", "2M"]),
        ((1e3, 1e7), None),
    ],
)
def test_ticks_of_a_log_scale_have_room(points: tuple[float, ...], shown: list[str] | None) -> None:
    figure = new_figure(4.5, 3.2)
    axes = figure.subplots()
    axes.plot(points, points, marker="o")
    use_log_scale(axes)
    figure.draw_without_rendering()
    low, high = axes.get_xlim()
    ticks = [tick for tick in axes.xaxis.get_major_ticks() if low <= tick.get_loc() <= high]
    assert all(label.get_text() == "" for label in axes.xaxis.get_minorticklabels())
    boxes = [tick.label1.get_window_extent() for tick in ticks]
    assert not any(one.overlaps(other) for one, other in itertools.pairwise(boxes))
    if shown:
        assert [tick.label1.get_text() for tick in ticks] == shown
