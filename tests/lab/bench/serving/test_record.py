"""Rows of the server's figures."""

from __future__ import annotations

from pathlib import Path

import pytest

from lab.bench.serving import record
from lab.bench.serving.record import Record, choose_cores, one
from lab.ledger import read_folder


@pytest.fixture
def committed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(record, "code", lambda measured: "abc")


def test_figures_are_kept_at_once_with_their_conditions(tmp_path: Path) -> None:
    Record(tmp_path, 2).add("case", {"base": ([10.0, 20.0], "tokens/s"), "fleet": ([9.0, 16.0], "tokens/s")}, "base")
    base, fleet = read_folder(tmp_path)
    assert (base["suite"], base["case"], base["contender"], base["threads"]) == ("serving", "case", "base", 2)
    assert (fleet["median"], fleet["rounds"], fleet["ratio_median"]) == (12.5, 2, pytest.approx(0.85))
    assert {"torch", "peft", "fourierft"} <= set(fleet["versions"])


def test_figures_in_other_units_have_no_ratio(tmp_path: Path) -> None:
    Record(tmp_path, 2).add("case", {"base": ([10.0], "tokens/s"), "memory": one(7, "B")}, "base")
    assert read_folder(tmp_path)[1]["ratio_median"] is None


def test_a_command_that_stopped_goes_on_with_what_is_missing(tmp_path: Path, committed: None) -> None:
    Record(tmp_path, 2).add("done", {"right": one(5)})
    assert Record(tmp_path, 2).has("done")
    assert not Record(tmp_path, 2).has("missing")
    assert not Record(tmp_path, 1).has("done"), "other threads"
    assert not Record(tmp_path, 2, fresh=True).has("done")


def test_what_other_code_measured_is_measured_again(
    tmp_path: Path, committed: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    Record(tmp_path, 2).add("done", {"right": one(5)})
    monkeypatch.setattr(record, "code", lambda measured: "def")
    assert not Record(tmp_path, 2).has("done")


@pytest.mark.parametrize(("bound", "count"), [("0", 1), ("0,1", 2), ("0-3", 4), ("0-1|4", 3)])
def test_threads_are_the_cores_that_the_engine_is_bound_to(
    bound: str, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(record.CORES, bound)
    assert choose_cores() == count


def test_the_engine_is_bound_to_the_cores_of_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(record.CORES, "")
    monkeypatch.delenv(record.CORES)
    monkeypatch.setattr(record.os, "sched_getaffinity", lambda process: {3, 1})
    assert choose_cores() == 2
    assert record.os.environ[record.CORES] == "1,3"
