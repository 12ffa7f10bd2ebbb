"""The benchmark of the store in small, and with it the promise that a killed writer loses nothing acknowledged."""

from __future__ import annotations

from pathlib import Path

import pytest

from fourierft.store import AdapterStore
from lab.__main__ import main
from lab.bench import store
from lab.bench.figures import killed_name
from lab.bench.goals import FLEET, GOALS
from lab.bench.harness import UnequalError
from lab.bench.store import check_store, fleet_layout, kill_writers, measure, name_of, numbers
from lab.ledger import read_folder


def test_killed_writers_lose_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    counts = kill_writers(tmp_path, 25)
    assert counts["acknowledged"] > 0
    assert (counts["kills"], counts["lost"], counts["unreadable"]) == (25, 0, 0)


def test_loss_and_damage_would_be_counted(tmp_path: Path) -> None:
    layout = fleet_layout("tiny")
    with AdapterStore(tmp_path / "store.db") as store:
        store.put(name_of(0), layout, numbers(layout, 1))
        with store._tables.writing() as execute:
            execute("UPDATE fourierft_adapters SET created = '', seal = coefficients WHERE name = 'none'", {})
    counts = {"lost": 0, "unreadable": 0}
    check_store(tmp_path / "store.db", [0, 3], counts, whole=True)
    assert counts == {"lost": 2, "unreadable": 0}


def test_small_fleet_is_measured_and_right(tmp_path: Path) -> None:
    results = measure(tmp_path, "tiny", "int8", 1000)
    assert results["on disk, times raw"][0] > 1
    assert 0 < results["one fetched, median"][0] <= results["one fetched, p99"][0]
    assert {goal.contender for goal in GOALS if (goal.suite, goal.case) == ("store", FLEET)} <= set(results)


def test_an_adapter_that_comes_back_as_another_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = store.numbers
    calls = iter(range(10**6))  # 20 to time them, 20 to write them; the rest to compare
    monkeypatch.setattr(store, "numbers", lambda layout, k: made(layout, k + (next(calls) >= 40)))
    with pytest.raises(UnequalError, match="is not what was written"):
        measure(tmp_path, "tiny", "int8", 20)


def test_figures_are_kept_as_rows(tmp_path: Path) -> None:
    assert main(["bench", "store", "--adapters", "0", "--kills", "2", "--output", str(tmp_path)]) == 0
    rows = {row["contender"]: row for row in read_folder(tmp_path)}
    assert rows["kills"]["median"] == 2
    assert {goal.contender for goal in GOALS if goal.case == killed_name(1000)} <= set(rows)
    assert all((row["suite"], row["case"]) == ("store", killed_name(2)) for row in rows.values())
