"""Campaigns of faults: many attempts drawn from a seed, each of which has to hold.

`make test` runs a short form of each, `make test-faults` the long one. FAULTS_SEED draws others. What was tried, held
and failed is told at the end of the run; the long form writes it into docs/reliability.md.
"""

from __future__ import annotations

import os
import random
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # helpers of tests/serving

from tests.store.servers import PROGRAMS, can_mount

collect_ignore = [
    *([] if PROGRAMS else ["test_store_server.py"]),
    *([] if PROGRAMS and can_mount() else ["test_store_disk.py"]),
]
PAGE = Path(__file__).resolve().parents[2] / "docs/reliability.md"
LONG = os.environ.get("FAULTS") == "long"
SEED = int(os.environ.get("FAULTS_SEED", "0"))
_done: list[Campaign] = []


class Campaign:
    """Attempts of one kind.

    Args:
        name: of the kind.
        part: of docs/reliability.md that has its counts.

    Attributes:
        chance: random numbers of the seed; all of an attempt is drawn from it.
        tried: count of attempts.
        failed: a sentence for each that did not hold.
    """

    def __init__(self, name: str, part: str = "") -> None:
        self.name, self.part, self.chance = name, part, random.Random(f"{SEED} {name}")
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
    part = request.node.path.stem.removeprefix("test_")
    campaign = Campaign(words[0].replace("_", " ") + (f" ({words[2][:-1]})" if words[1] else ""), part)
    yield campaign
    _done.append(campaign)
    assert campaign.tried
    assert not campaign.failed, f"{len(campaign.failed)} of {campaign.tried} failed: " + "\n".join(campaign.failed[:5])


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """The tables of docs/reliability.md, which the long form writes there, a part for each file of campaigns."""
    if not _done:
        return
    terminalreporter.section(f"faults, seed {SEED}")
    for part in dict.fromkeys(each.part for each in _done):
        lines = ["| campaign | tried | held | failed |", "|---|---|---|---|"]
        for each in _done:
            if each.part == part:
                held = each.tried - len(each.failed)
                lines.append(f"| {each.name} | {each.tried:,} | {held:,} | {len(each.failed):,} |")
        for line in lines:
            terminalreporter.line(line)
        if LONG:
            write_counts(PAGE, part, lines)


def write_counts(page: Path, part: str, lines: list[str]) -> None:
    """Put a table between the marks of its part; rows of campaigns that did not run now stay."""
    start, end = f"<!-- counts of {part} -->", f"<!-- end of {part} -->"
    before, mark, rest = page.read_text(encoding="utf-8").partition(start)
    if not mark:
        return
    old, _, after = rest.partition(end)
    rows = {line.split("|")[1]: line for line in [*old.strip().splitlines(), *lines] if line}
    page.write_text(f"{before}{start}\n" + "\n".join(rows.values()) + f"\n{end}{after}", encoding="utf-8")
