"""A store whose process is killed at each of the changes that it makes to files, checkpoints and VACUUM among them."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from fourierft.store import AdapterStore
from tests.store.conftest import row  # noqa: F401
from tests.store.databases.test_migration import old_store  # noqa: F401

from . import damage
from .conftest import Campaign
from .halting import Halt
from .processes import Child, noted

Step = Callable[[AdapterStore, Path], object]


def _put(name: str, k: int, heads: int = 0) -> Step:
    many = {"head.weight": torch.arange(heads, dtype=torch.float32).view(4, -1)} if heads else None
    return lambda store, folder: store.put(name, damage.layout(), damage.numbers(k), many)


def _many(store: AdapterStore, folder: Path) -> None:
    store.add_many(damage.layout(), [(f"m{k}", damage.numbers(k)) for k in range(40)])


def _backup(store: AdapterStore, folder: Path) -> None:
    store.backup(folder / "copy.db")


STEPS: dict[str, list[Step]] = {
    "adds": [_put("a", 1), _put("t1", 2), _many, lambda store, folder: store.close(), _put("b", 3)],
    "checkpoints": [_put(f"large{k}", k, 400_000) for k in range(4)],
    "changes": [
        lambda store, folder: store.set_alias("t2", "live", 1),
        lambda store, folder: store.remove("t2", 2),
        lambda store, folder: store.remove_alias("t1", "live"),
        lambda store, folder: store.remove("t1"),
    ],
    "erases": [_put("a", 1), lambda store, folder: store.remove("t4", erase=True), _put("b", 2)],
    "backs up": [_put("a", 1), _backup],
    "restores": [lambda store, folder: store.restore(folder / "other.db"), _put("a", 1)],
}
OLD: list[Step] = [lambda store, folder: store.verify(), _put("a", 1)]
NEW: dict[str, list[Step]] = {"adds": STEPS["adds"][:1], "restores": STEPS["restores"]}


def look(path: Path) -> dict[Any, Any]:
    """All that a store holds; it is checked, and written to afterwards."""
    if not path.exists():
        return {}
    with AdapterStore(path, create=False) as store:
        faults = store.verify()
        assert not faults, faults[0]
        found = {(each.name, each.version): store.get(each.name, each.version) for each in store.list(versions=True)}
        held: dict[Any, Any] = {key: (each.values.tolist(), dict(each.metrics)) for key, each in found.items()}
        held |= {(name, alias): n for name, _ in found for alias, n in store.aliases(name).items()}
    return held


def run(steps: list[Step], path: Path, tell: Callable[[str], object], halt: Callable[[], Halt]) -> None:
    """Make all steps, each of which is told once it was acknowledged."""
    halted = halt()
    with AdapterStore(path) as store:
        for k, step in enumerate(steps):
            step(store, path.parent)
            tell(f"{k}")
    tell(f"changes {halted.count}")


def attempt(
    template: Path, work: Path, steps: list[Step], states: list[Any], halt: Callable[[], Halt], reads: bool
) -> tuple[list[str], str | None]:
    """Make steps on a copy, in a process that may be killed; what it told, and what did not hold."""
    shutil.copytree(template, work)
    path = work / "fleet.db"
    resume, go = os.pipe()

    def read(tell: Callable[[str], None]) -> None:
        with AdapterStore(path) as store:
            before = len(store)
            tell("reads")
            os.read(resume, 1)
            faults = store.verify()
            assert not faults, faults[0]
            assert len(store) >= min(before, 1)
            assert all(adapter.values.isfinite().all() for adapter in store)
        tell("read")

    reader = Child(read) if reads and path.exists() else None
    if reader is not None:
        assert os.read(reader.source, 6) == b"reads\n"
    lines = Child(lambda tell: run(steps, path, tell, halt)).lines()

    def check() -> str | None:
        strange = [line for line in lines if line.startswith(("raised", "refused"))]
        if strange:
            return strange[0]
        done = len([line for line in lines if line.isdigit()])
        os.write(go, b".")
        if reader is not None and (told := reader.lines()) != ["read"]:
            return f"the reader beside it: {told}"
        found = look(path)
        if found not in states[done : done + 2]:
            return f"after {done} steps it holds {len(found)} entries that are of another moment"
        for copy in work.glob("copy.db"):
            if look(copy) != states[1]:
                return "the backup is of another moment"
        with AdapterStore(path) as store:
            store.put("after", damage.layout(), damage.numbers(9))
        if look(path) != found | {("after", 1): (damage.numbers(9).tolist(), {})}:
            return "what was added afterwards changed more than it should"
        left = {each.name for each in work.iterdir() if not each.name.startswith("other.db")} - {"fleet.db", "copy.db"}
        left = {name for name in left if not name.endswith(".unfinished")}
        return f"it left {sorted(left)}" if left else None

    fault = noted(check)
    os.close(resume)
    os.close(go)
    shutil.rmtree(work)
    return lines, fault


def halt_at_each(campaign: Campaign, template: Path, work: Path, steps: list[Step], most: int) -> None:
    """Kill at all changes, or at `most` of them, one after another."""
    states: list[Any] = []
    shutil.copytree(template, work)
    states.append(look(work / "fleet.db"))
    with AdapterStore(work / "fleet.db") as store:
        for step in steps:
            step(store, work)
            store.close()
            states.append(look(work / "fleet.db"))
    shutil.rmtree(work)
    lines, fault = attempt(template, work, steps, states, lambda: Halt(0), reads=False)
    assert fault is None, fault
    count = int(lines[-1].split()[1])
    wanted = range(1, count + 1) if count <= most else campaign.chance.sample(range(1, count + 1), most)
    for at in wanted:
        tears, reads = campaign.chance.random() < 0.5, campaign.chance.random() < 0.4
        _, fault = attempt(template, work, steps, states, lambda at=at, tears=tears: Halt(at, tears), reads)
        campaign.note(fault and f"at change {at} of {count} (torn {tears}, read {reads}): {fault}")


@pytest.fixture
def template(tmp_path: Path) -> Path:
    """A folder with a store, and a backup of another."""
    folder = tmp_path / "template"
    folder.mkdir()
    with AdapterStore(folder / "fleet.db") as store:
        damage.fill(store)
    with AdapterStore(folder / "other.db") as store:
        store.add_many(damage.layout(), [(f"o{k}", damage.numbers(k)) for k in range(30)])
    return folder


@pytest.mark.parametrize("what", STEPS)
def test_kills_at_a_change_of_a_file(campaign: Campaign, template: Path, tmp_path: Path, what: str) -> None:
    halt_at_each(campaign, template, tmp_path / "work", STEPS[what], campaign.count(6, 400))


@pytest.mark.parametrize("what", NEW)
def test_kills_at_a_change_of_a_new_file(campaign: Campaign, template: Path, tmp_path: Path, what: str) -> None:
    (template / "fleet.db").unlink()
    halt_at_each(campaign, template, tmp_path / "work", NEW[what], campaign.count(4, 400))


@pytest.fixture
def location(template: Path) -> Path:
    """Where a store of format 1 is made."""
    (template / "fleet.db").unlink()
    return template / "fleet.db"


def test_kills_at_a_change_of_a_migration(
    campaign: Campaign,
    old_store: Path,  # noqa: F811
    template: Path,
    tmp_path: Path,
) -> None:
    halt_at_each(campaign, template, tmp_path / "work", OLD, campaign.count(6, 400))
