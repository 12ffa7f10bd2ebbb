"""Adapters whose files come while others train join them, and become what they would become alone."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fourierft import AdapterStore
from fourierft.errors import ConfigError
from fourierft.training.fleet import watch
from fourierft.training.fleet.run import train_fleet
from fourierft.training.fleet.settings import FleetArguments
from fourierft.training.fleet.trainer import FleetTrainer
from fourierft.training.trainer import TrainingInterrupted

Build = Callable[..., FleetArguments]
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")


@pytest.fixture
def put(make_rows: Any, write: Any, folder: Path) -> Callable[..., Path]:
    """Puts the file of a newcomer of six rows into the folder, as if written an hour ago."""

    def put(name: str = "dee", age: float = 3600, **changes: Any) -> Path:
        rows = [{"text": row["text"], "label": row["label"], **changes} for row in make_rows(**{name: 6})]
        file = write(rows, folder / f"{name}.csv")
        stamp = file.stat().st_mtime - age
        os.utime(file, (stamp, stamp))
        return file

    return put


@pytest.fixture
def at_step(monkeypatch: pytest.MonkeyPatch) -> Callable[[dict[int, Callable[[], Any]]], list[set[str]]]:
    """Does something before steps of the training, and tells who took part in each."""

    def arm(things: dict[int, Callable[[], Any]]) -> list[set[str]]:
        real = FleetTrainer.step
        present: list[set[str]] = []

        def step(trainer: FleetTrainer) -> Any:
            things.get(len(present), lambda: None)()
            present.append(set(trainer.members))
            return real(trainer)

        monkeypatch.setattr(FleetTrainer, "step", step)
        monkeypatch.setattr(watch, "_PAUSE", 0.0)
        return present

    return arm


def test_a_newcomer_trains_beside_the_others_and_all_are_as_if_alone(
    build: Build, folder: Path, put: Callable[..., Path], at_step: Any, check_alone: Any
) -> None:
    present = at_step({2: put})
    arguments = build(train_file=str(folder), learning_rate=1e-2, watch=0)
    assert set(train_fleet(arguments)["adapters"]) == {"ann", "bob", "cy", "dee"}
    assert present[2] == {"ann", "bob", "cy"}
    assert present[3] == {"ann", "bob", "cy", "dee"}
    for name in ("dee", "bob"):
        check_alone(arguments, name)
    with AdapterStore(arguments.store) as store:
        assert store.get("dee").metrics["rows"] == 6


def test_a_newcomer_may_come_when_all_others_are_done(
    build: Build, folder: Path, put: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("time.sleep", lambda seconds: put() if not (folder / "dee.csv").exists() else None)
    results = train_fleet(build(train_file=str(folder), epochs=1, watch=0.2))
    assert list(results["adapters"])[-1] == "dee"


def test_without_watching_nobody_joins(build: Build, folder: Path, put: Callable[..., Path], at_step: Any) -> None:
    at_step({0: put})
    assert set(train_fleet(build(train_file=str(folder), epochs=1))["adapters"]) == {"ann", "bob", "cy"}


def test_a_file_that_cannot_be_read_is_told_once_and_read_again_when_it_changes(
    build: Build, folder: Path, put: Callable[..., Path], at_step: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    at_step({1: lambda: put(label="perhaps"), 4: lambda: put(age=1800)})
    assert "dee" in train_fleet(build(train_file=str(folder), watch=0))["adapters"]
    told = [line for line in capsys.readouterr().err.splitlines() if "dee.csv" in line]
    assert told == [
        f"fourierft: row 1 of {folder}/dee.csv has the label perhaps, which training did not see (6 of 6 rows have "
        "such labels: perhaps); it knows no, yes; correct or remove such rows; it is read again when it changes"
    ]


def test_a_file_that_is_being_written_is_left_until_it_rests(
    build: Build, folder: Path, put: Callable[..., Path], at_step: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_step({1: lambda: put(age=0), 2: lambda: put("eve"), 3: lambda: put(".fay")})
    monkeypatch.setattr(watch, "_PAUSE", 600.0)
    monkeypatch.setattr(watch.Watch, "look", lambda self: self._read())
    assert set(train_fleet(build(train_file=str(folder), watch=0))["adapters"]) == {"ann", "bob", "cy", "eve"}


def test_ctrl_c_while_nothing_is_to_do_ends_it_well(
    build: Build, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("time.sleep", lambda seconds: os.kill(os.getpid(), signal.SIGINT))
    assert set(train_fleet(build(train_file=str(folder), epochs=1, watch=600))["adapters"]) == {"ann", "bob", "cy"}
    assert not (tmp_path / "fleet.db.training").exists()


def test_newcomers_go_on_after_an_interruption(
    build: Build, folder: Path, put: Callable[..., Path], at_step: Any, check_alone: Any
) -> None:
    at_step({1: put, 5: lambda: os.kill(os.getpid(), signal.SIGINT)})
    with pytest.raises(TrainingInterrupted):
        train_fleet(build(train_file=str(folder), learning_rate=1e-2, watch=0))
    arguments = build(train_file=str(folder), learning_rate=1e-2, watch=0, resume=True)
    assert "dee" in train_fleet(arguments)["adapters"]
    check_alone(arguments, "dee")


def test_a_folder_that_goes_away_stops_nothing(build: Build, folder: Path, at_step: Any) -> None:
    at_step({1: lambda: folder.rename(folder.with_name("gone"))})
    assert set(train_fleet(build(train_file=str(folder), epochs=1, watch=0))["adapters"]) == {"ann", "bob", "cy"}


@pytest.mark.parametrize("seconds", [-1.0, float("nan")])
def test_seconds_are_not_negative(build: Build, folder: Path, seconds: float) -> None:
    with pytest.raises(ConfigError, match="is not a number of seconds; use 0 or more"):
        build(train_file=str(folder), watch=seconds)
