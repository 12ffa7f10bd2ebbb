"""Figure 3: Eq. 5, against values worked out by hand."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from lab.paper import bands


def test_probability_is_that_of_the_equation() -> None:
    p = bands.probability_map(100.0)
    middle = bands.SIDE // 2
    assert p[middle, middle] == 0  # D = 0, the exponent is minus infinity
    assert p[middle, middle + 100] == p[middle - 60, middle + 80] == 1  # D = fc = 100
    off = p[middle + 30, middle - 40]  # D = 50: (2500 - 10000) / (50 * 200) = -0.75
    assert float(off) == pytest.approx(math.exp(-(0.75**2)), rel=1e-12)
    assert float(bands.probability_map(0.0)[middle, middle + 200]) == pytest.approx(math.exp(-1), rel=1e-12)


@pytest.mark.parametrize("center", bands.CENTERS)
def test_drawn_entries_lie_where_the_probability_does(center: float) -> None:
    found = bands.describe(center)
    assert found["peak"] == pytest.approx(center, abs=0.5)
    assert found["drawn_quantiles"] == pytest.approx(found["distance_quantiles"], abs=15)


def test_page_draws_the_maps(tmp_path: Path) -> None:
    row = {"center": 0.0, "peak": 0.0, "distance_quantiles": [64.2, 165, 296], "drawn_quantiles": [63, 165, 304]}
    text = "\n".join(bands.page([row], tmp_path))
    assert "| 0 | 0.0 | 64, 165, 296 | 63, 165, 304 |" in text
    assert (tmp_path / "fig3.png").stat().st_size > 10_000
