"""Campaigns of faults: many attempts drawn from a seed, each of which has to hold.

`make test` runs a short form of each, `make test-faults` the long one. FAULTS_SEED draws others. What was tried, held
and failed is told at the end of the run; docs/reliability.md has it of the long form.
"""

from __future__ import annotations

import os
import random
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # helpers of tests/serving

LONG = os.environ.get("FAULTS") == "long"
SEED = int(os.environ.get("FAULTS_SEED", "0"))
_done: list[Campaign] = []


class Campaign:
    """Attempts of one kind.

    Args:
        name: of the kind.

    Attributes:
        chance: random numbers of the seed; all of an attempt is drawn from it.
        tried: count of attempts.
        failed: a sentence for each that did not hold.
    """

    def __init__(self, name: str) -> None:
        self.name, self.chance = name, random.Random(f"{SEED} {name}")
        self.tried = 0
        self.failed: list[str] = []

    def count(self, short: int, long: int) -> int:
        """How many attempts to make."""
        return long if LONG else short

    def note(self, fault: str | None) -> None:
        """Note an attempt; what did not hold, None if all did."""
        self.tried += 1
        if fault is not None:
            self.failed.append(fault)


@pytest.fixture
def campaign(request: pytest.FixtureRequest) -> Iterator[Campaign]:
    """Attempts are noted in it; those that did not hold fail the test at its end."""
    words = request.node.name.removeprefix("test_").partition("[")
    campaign = Campaign(words[0].replace("_", " ") + (f" ({words[2][:-1]})" if words[1] else ""))
    yield campaign
    _done.append(campaign)
    assert campaign.tried
    assert not campaign.failed, f"{len(campaign.failed)} of {campaign.tried} failed: " + "\n".join(campaign.failed[:5])


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """The table of docs/reliability.md."""
    if _done:
        terminalreporter.section(f"faults, seed {SEED}")
        terminalreporter.line("| campaign | tried | held | failed |\n|---|---|---|---|")
    for each in _done:
        held = each.tried - len(each.failed)
        terminalreporter.line(f"| {each.name} | {each.tried:,} | {held:,} | {len(each.failed):,} |")
