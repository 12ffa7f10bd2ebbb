"""The two tiers of tests: the fast one leaves out files by name, and still has tests of every floor."""

from __future__ import annotations

from pathlib import Path

import pytest

import fourierft

ROOT = Path(__file__).parents[1]
LINES = (ROOT / "tests" / "slow.txt").read_text(encoding="utf-8").splitlines()
SLOW = [line for line in LINES if not line.startswith("#")]
FLOORS = sorted(path.name for path in Path(fourierft.__file__).parent.iterdir() if (path / "__init__.py").is_file())


def test_slow_files_are_there_and_named_once_in_order() -> None:
    assert sorted(set(SLOW)) == SLOW
    assert [file for file in SLOW if not (ROOT / file).is_file()] == []


@pytest.mark.parametrize("room", [*FLOORS, "lab/bench", "lab/paper", "lab/trials", "recipes", "faults"])
def test_the_fast_tier_has_tests_of_every_room(room: str) -> None:
    files = {str(path.relative_to(ROOT)) for path in (ROOT / "tests" / room).rglob("test_*.py")}
    assert files - set(SLOW)
