"""Two trainings of a fleet into one store would make each adapter twice: the second is told to wait."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from fourierft.errors import BusyError, PlaceError
from fourierft.store import AdapterStore
from fourierft.training.fleet.claim import alone_in
from fourierft.training.fleet.run import train_fleet
from fourierft.training.fleet.settings import FleetArguments


def test_two_trainings_with_other_checkpoints_are_kept_apart_by_the_store(
    build: Callable[..., FleetArguments], tmp_path: Path
) -> None:
    (tmp_path / "link.db").symlink_to(tmp_path / "fleet.db")
    with AdapterStore(tmp_path / "link.db") as store, alone_in(store):
        with pytest.raises(
            BusyError, match=r"has been writing into .* since .*; wait for its end, or choose another folder"
        ):
            train_fleet(replace(build(), folder=str(tmp_path / "elsewhere")))
        assert not (tmp_path / "fleet.db").exists()
        assert not (tmp_path / "elsewhere").exists()
    assert train_fleet(replace(build(), folder=str(tmp_path / "elsewhere")))["adapters"]
    assert sorted(path.name for path in tmp_path.glob(".*")) == []


def test_a_store_that_nothing_can_be_written_to_is_told_before_training(
    build: Callable[..., FleetArguments], tmp_path: Path
) -> None:
    with pytest.raises(PlaceError, match="cannot write into /proc: "):
        train_fleet(replace(build(store="/proc/fleet.db"), folder=str(tmp_path / "elsewhere")))
    assert not (tmp_path / "elsewhere").exists()
