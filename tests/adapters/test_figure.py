"""Labels of a plot: each beside its point, none on another."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from fourierft.adapters.figure import new_figure, place_labels

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
