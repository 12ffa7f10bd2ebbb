"""The benchmark of the store in small, and with it the promise that a killed writer loses nothing acknowledged."""

from __future__ import annotations

from pathlib import Path

from benchmarks.store import check_store, fleet_layout, kill_writers, measure, name_of, numbers
from fourierft.adapters.store import AdapterStore


def test_killed_writers_lose_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    counts = kill_writers(tmp_path, 25)
    assert counts["acknowledged"] > 0
    assert (counts["kills"], counts["lost"], counts["unreadable"]) == (25, 0, 0)


def test_loss_and_damage_would_be_counted(tmp_path: Path) -> None:
    layout = fleet_layout("tiny")
    with AdapterStore(tmp_path / "store.db") as store:
        store.put(name_of(0), layout, numbers(layout, 1))
        with store.tables.writing() as execute:
            execute("UPDATE fourierft_adapters SET created = '', sha256 = coefficients WHERE name = 'none'", {})
    counts = {"lost": 0, "unreadable": 0}
    check_store(tmp_path / "store.db", [0, 3], counts, whole=True)
    assert counts == {"lost": 2, "unreadable": 0}


def test_small_fleet_is_measured_and_right(tmp_path: Path) -> None:
    results = measure(tmp_path, "tiny", "int8", 1000)
    assert results["right"]
    assert results["times raw"] > 1
