"""The store under attack: processes that are killed or fork, disks that fill, folders of strangers."""

from __future__ import annotations

import random
import resource
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fourierft.store import AdapterStore
from tests.store.conftest import location, new_schema, server  # noqa: F401

from .conftest import Campaign
from .damage import fill, layout, numbers
from .processes import Child, Location, check_acknowledged, noted, write
from .strangers import import_strangers, spoil


def test_killed_writers(campaign: Campaign, location: Location) -> None:  # noqa: F811
    for k in range(campaign.count(6, 200)):
        child = Child(write(location, f"w{k}"))
        time.sleep(campaign.chance.random() * 0.3)
        child.kill()
        lines = child.lines()
        campaign.note(noted(lambda lines=lines: check_acknowledged(location, lines)))
        if k % 20 == 19:  # stay small
            with AdapterStore(location) as store:
                for name in list(store.names()):
                    store.remove(name)


def test_two_killed_writers_beside_each_other(campaign: Campaign, location: Location) -> None:  # noqa: F811
    for k in range(campaign.count(3, 40)):
        children = [Child(write(location, f"{name}{k}")) for name in "ab"]
        for child in children:
            time.sleep(campaign.chance.random() * 0.3)
            child.kill()
        lines = [line for child in children for line in child.lines()]
        campaign.note(noted(lambda lines=lines: check_acknowledged(location, lines)))


def test_forks(campaign: Campaign, location: Location) -> None:  # noqa: F811
    """The parent rests, reads, writes or has threads that read; it closes, adds or ends while the child adds."""
    with AdapterStore(location) as store:
        fill(store)
    for k in range(campaign.count(8, 100)):
        campaign.note(noted(lambda k=k: fork_once(location, campaign.chance, k)))


def fork_once(place: Location, chance: random.Random, k: int) -> str | None:
    store, shared, done = AdapterStore(place), layout(), threading.Event()
    store.get("t0")
    state = chance.choice(["rests", "reads", "writes", "threads", "threads"])
    reading: Any = iter(store)
    if state == "reads":
        next(reading)

    def read_on() -> None:
        while not done.is_set():
            store.get("t1")

    threads = [threading.Thread(target=read_on) for _ in range(3 if state == "threads" else 0)]
    for thread in threads:
        thread.start()

    def work(tell: Callable[[str], None]) -> None:
        own = store if chance.random() < 0.5 else AdapterStore(place)
        for number in range(20):
            own.put(f"f{k} {number}", shared, numbers(number))
            tell(f"added {number} f{k} {number}")
            time.sleep(chance.random() * 0.002)

    if state == "writes":
        with store._tables.writing() as execute:
            execute("UPDATE fourierft_removed SET version = version", {})
            child = Child(work)
    else:
        child = Child(work)
    time.sleep(chance.random() * 0.05)
    added = []
    if chance.random() < 0.5:
        store.put(f"p{k}", shared, numbers(k))
        added.append(f"added {k} p{k}")
    done.set()
    for thread in threads:
        thread.join()
    reading.close()
    if chance.random() < 0.7:
        store.close()
    lines = child.lines()
    store.close()
    if any(line.startswith("refused") and "fork" in line for line in lines):
        may_refuse = isinstance(place, Path) and state in ("reads", "writes")
        return check_acknowledged(place, added) if may_refuse else f"{state}: {lines[-1]}"
    if len(lines) != 20:
        return f"{state}: {len(lines)} lines, {lines[-1:]}"
    return check_acknowledged(place, [*lines, *added])


def test_backups_of_a_store_that_is_written(campaign: Campaign, tmp_path: Path) -> None:
    """Each holds all that was acknowledged before it began."""
    path = tmp_path / "fleet.db"
    for k in range(campaign.count(3, 40)):
        child = Child(write(path, f"b{k}"))
        while not path.exists():
            time.sleep(0.01)
        time.sleep(campaign.chance.random() * 0.2)
        with AdapterStore(path, create=False) as store:
            before = {listed.name: listed.version for listed in store.list()}
            store.backup(tmp_path / f"copy{k}.db")
            removed = set(before) - set(store.names())
        child.kill()
        child.lines()
        campaign.note(noted(lambda b=before, r=removed, k=k: check_backup(tmp_path / f"copy{k}.db", set(b) - r)))


def check_backup(path: Path, names: set[str]) -> str | None:
    with AdapterStore(path, create=False) as copy:
        lost, faults = names - set(copy.names()), copy.verify()
    path.unlink()
    return f"{len(lost)} are lost, such as {min(lost)}" if lost else faults[0] if faults else None


def test_killed_restores(campaign: Campaign, location: Location, tmp_path: Path) -> None:  # noqa: F811
    """Of two backups that take turns, while a reader reads."""
    names = {}
    for name, count in (("small", 5), ("large", 150)):
        with AdapterStore(tmp_path / f"{name}.db") as store:
            store.add_many(layout(), [(f"{name}{k}", numbers(k)) for k in range(count)])
            names[name] = set(store.names())
    with AdapterStore(location) as store:
        store.restore(tmp_path / "small.db")
    for k in range(campaign.count(4, 60)):
        which = ("large", "small")[k % 2]

        def work(tell: Callable[[str], None], which: str = which) -> None:
            with AdapterStore(location) as own:
                own.restore(tmp_path / f"{which}.db")
            tell("done")

        child = Child(work)
        time.sleep(campaign.chance.random() * 0.2)
        child.kill()
        done = child.lines() == ["done"]
        campaign.note(noted(lambda done=done, which=which: check_restored(location, names, which if done else None)))


def check_restored(place: Location, names: dict[str, set[str]], which: str | None) -> str | None:
    with AdapterStore(place) as store:
        found, faults = set(store.names()), store.verify()
    wanted = [names[which]] if which else list(names.values())
    return (
        faults[0] if faults else None if found in wanted else f"{len(found)} adapters are neither the old nor the new"
    )


def test_files_that_cannot_grow(campaign: Campaign, tmp_path: Path) -> None:
    """As on a full disk, at a random size, in adds, backups, exports and erasures."""
    path = tmp_path / "fleet.db"
    with AdapterStore(path) as store:
        store.add_many(layout(), [(f"t{k}", numbers(k)) for k in range(200)])
    size, content = path.stat().st_size, path.read_bytes()
    for k in range(campaign.count(6, 200)):
        limit = campaign.chance.randrange(size // 4, size * 3)
        act = campaign.chance.choice(["add", "add", "backup", "export", "erase", "many"])

        def work(tell: Callable[[str], None], limit: int = limit, act: str = act, k: int = k) -> None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
            with AdapterStore(path) as own:
                if act == "backup":
                    own.backup(tmp_path / "copy.db")
                elif act == "export":
                    for number in range(20):
                        own.export(f"t{number}", tmp_path / f"out{number}")
                elif act == "erase":
                    own.remove("t0", erase=True)
                elif act == "many":
                    own.add_many(layout(), [(f"m{number}", numbers(number)) for number in range(3000)])
                else:
                    for number in range(300):
                        own.put(f"a{k} {number}", layout(), numbers(number))
                        tell(f"added {number} a{k} {number}")

        lines = Child(work).lines()
        added = [line for line in lines if line.startswith("added")]
        raised = [line for line in lines if line.startswith("raised") or "\\n" in line]
        campaign.note(raised[0] if raised else noted(lambda added=added: check_acknowledged(path, added)))
        left = [found.name for found in tmp_path.iterdir() if found.name.startswith(".")]
        campaign.note(f"{act} left {left}" if left else None)
        for found in tmp_path.iterdir():
            shutil.rmtree(found) if found.is_dir() else found.unlink()
        path.write_bytes(content)


def test_folders_of_strangers(campaign: Campaign, tmp_path: Path) -> None:
    """One or two things are wrong in a folder; the good one beside it comes in, and what is added can be read."""
    with AdapterStore(tmp_path / "made.db") as store:
        store.put(
            "a", layout(), numbers(1), {"head.weight": numbers(2).view(4, 10)}, metrics={"k": 1}, record='{"k": 1}'
        )
        store.export("a", tmp_path / "good")
    for k in range(campaign.count(25, 300)):
        runs = tmp_path / f"runs{k}"
        for name in ("bad", "good"):
            shutil.copytree(tmp_path / "good", runs / name)
        what = [spoil(runs / "bad", campaign.chance) for _ in range(campaign.chance.choice([1, 1, 2]))]
        fault = noted(lambda runs=runs: import_strangers(runs))
        campaign.note(fault and f"{what}: {fault}")
        shutil.rmtree(runs)
