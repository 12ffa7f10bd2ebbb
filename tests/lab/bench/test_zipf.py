"""Adapters by Zipf through a small bank: all rows right, and a wrong one noticed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from lab.bench import zipf
from lab.bench.goals import GOALS, MILLION
from lab.bench.store import numbers


def test_zipf_prefers_few_adapters_in_the_ratio_of_their_ranks():
    drawn = zipf.draw_by_zipf(1000, 2000, seed=0)
    counts = np.sort(np.bincount(drawn.ravel(), minlength=1000))[::-1]
    chance = 1 / np.sum(1 / np.arange(1, 1001))
    assert counts[0] / drawn.size == pytest.approx(chance, rel=0.05)
    assert counts[1] / drawn.size == pytest.approx(chance / 2, rel=0.05)


def test_rows_that_load_and_evict_are_all_right(tmp_path: Path):
    found = zipf.measure(tmp_path / "fleet.db", "minilm", "smoke", 300, 80, 6)
    assert found["rows checked"] == (12, "")
    assert found["rows wrong"] == (0, "")
    assert 0 < found["of them in the bank"][0] < 100, "some were loaded, in place of others"
    assert found["of those in the bank"] == (100, "%")
    assert {goal.contender for goal in GOALS if goal.case == MILLION} <= set(found)


def test_a_row_with_another_adapter_is_counted_as_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    load = zipf.Load(tmp_path / "fleet.db", "minilm", "smoke", 70, 70)
    monkeypatch.setattr(zipf, "numbers", lambda layout, k: numbers(layout, k + 1))
    assert load.run(zipf.draw_by_zipf(70, 3, seed=0))[2] == 3
