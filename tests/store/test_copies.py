"""Backups are of one moment, and come back whole, while others write and read."""

from __future__ import annotations

import os
import signal
import sqlite3
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch

from fourierft.errors import MissingAdapterError, OutputExistsError, StoreError
from fourierft.store import AdapterStore, Layout
from fourierft.store.databases.sqlite import SQLiteFile


def content(store: AdapterStore) -> dict[tuple[str, int], Any]:
    return {
        (one.name, one.version): store.get(one.name, one.version).values.tolist() for one in store.list(versions=True)
    }


@pytest.fixture
def copy(layout: Layout, row: Any, tmp_path: Path) -> Path:
    """A backup: a with two versions and an alias, b; version 3 of a, and c, were removed before it."""
    with AdapterStore(tmp_path / "made.db") as store:
        for k in range(3):
            store.put("a", layout, row(k))
        store.put("b", layout, row(3), metrics={"accuracy": 0.5})
        store.put("c", layout, row(4))
        store.remove("a", 3)
        store.remove("c")
        store.set_alias("a", "live", 1)
        store.backup(tmp_path / "copy.db")
    return tmp_path / "copy.db"


def test_backup_is_a_store_of_its_own(copy: Path, layout: Layout, row: Any) -> None:
    assert sorted(path.name for path in copy.parent.iterdir()) == ["copy.db", "made.db"]
    with AdapterStore(copy, create=False) as store, AdapterStore(copy.parent / "made.db") as made:
        assert content(store) == content(made)
        assert store.verify() == []
        assert store.aliases("a") == {"live": 1}
        assert store.put("a", layout, row(9)) == 4
        assert list(made.versions("a")) == [1, 2]
        assert next(store._tables.rows("PRAGMA journal_mode")) == ("wal",)


def test_restore_brings_back_what_was_there(copy: Path, store: AdapterStore, layout: Layout, row: Any) -> None:
    for k in range(5):
        store.put("a", layout, row(10 + k))
    store.put("new", layout, row(20))
    store.set_alias("a", "live", 5)
    ids = {store.resolve(name).id for name in ("a", "a@1", "a@2", "a@3", "a@4", "new")}
    assert store.restore(copy) == 3
    with AdapterStore(copy) as before:
        assert content(store) == content(before)
    assert store.aliases("a") == {"live": 1}
    assert store.get("b").metrics == {"accuracy": 0.5}
    assert store.verify() == []
    assert not ids & {store.resolve(name).id for name in ("a@1", "a@2", "b")}  # a server's memory of them stays right
    assert store.put("a", layout, row(0)) == 6
    assert store.put("new", layout, row(0)) == 2
    assert store.put("c", layout, row(0)) == 2
    assert store.put("b", layout, row(0)) == 2


def test_restore_makes_a_store_that_is_not_there(copy: Path, open_store: Callable[..., AdapterStore]) -> None:
    store = open_store()
    assert store.restore(copy) == 3
    with AdapterStore(copy) as before:
        assert content(store) == content(before)
        assert store.base.name == before.base.name == "org/base"
    assert open_store(create=False).verify() == []


def test_restore_may_be_of_another_page_size(copy: Path, layout: Layout, row: Any, tmp_path: Path) -> None:
    wide = Layout.make(layout.config | {"n_frequency": 3000}, {"a.query": (64, 64)})
    with AdapterStore(tmp_path / "wide.db") as store, AdapterStore(copy) as before:
        store.put("wide", wide, torch.zeros(3000))
        sizes = [next(each._tables.rows("PRAGMA page_size")) for each in (store, before)]
        assert sizes[0] != sizes[1]
        store.restore(copy)
        assert content(store) == content(before)


def test_damaged_backup_changes_nothing(copy: Path, store: AdapterStore, layout: Layout, row: Any) -> None:
    store.put("mine", layout, row(0))
    before = content(store)
    connection = sqlite3.connect(copy)
    connection.execute("UPDATE fourierft_adapters SET coefficients = zeroblob(240) WHERE name = 'b'")
    connection.commit()
    connection.close()
    with pytest.raises(StoreError, match="adapter 'b' version 1 is damaged"):
        store.restore(copy)
    assert content(store) == before
    copy.write_bytes(copy.read_bytes()[:8000])
    with pytest.raises(StoreError):
        store.restore(copy)
    assert content(store) == before


def test_what_is_no_backup_is_refused(
    copy: Path, store: AdapterStore, make_layout: Any, row: Any, tmp_path: Path
) -> None:
    with pytest.raises(StoreError, match=r"there is no store .*none\.db"):
        store.restore(tmp_path / "none.db")
    (tmp_path / "text").write_text("no store")
    with pytest.raises(StoreError, match="is not an adapter store"):
        store.restore(tmp_path / "text")
    store.put("other", make_layout(base_model_name_or_path="org/other"), row(0))
    with pytest.raises(StoreError, match="keeps adapters of the base org/other, but the backup was made for org/base"):
        store.restore(copy)
    with AdapterStore(copy) as itself, pytest.raises(StoreError, match="is the store itself"):
        itself.restore(copy)


def test_backup_takes_the_place_of_nothing(copy: Path, tmp_path: Path) -> None:
    with AdapterStore(tmp_path / "made.db") as store:
        before = copy.read_bytes()
        with pytest.raises(OutputExistsError, match=r"copy\.db exists"):
            store.backup(copy)
        assert copy.read_bytes() == before
        with pytest.raises(StoreError, match="there is no folder"):
            store.backup(tmp_path / "gone" / "copy.db")
    with AdapterStore(tmp_path / "empty.db") as store, pytest.raises(StoreError, match="has no adapters"):
        store.backup(tmp_path / "more.db")


def test_server_has_a_tool_of_its_own(new_schema: Callable[[], str], tmp_path: Path) -> None:
    with AdapterStore(new_schema()) as store, pytest.raises(StoreError, match="its own tool, such as `pg_dump"):
        store.backup(tmp_path / "copy.db")


def test_backups_while_others_write_are_of_one_moment(layout: Layout, row: Any, tmp_path: Path) -> None:
    """A writer adds pairs in one transaction each, and moves an alias; a backup never holds half of a pair."""
    path = tmp_path / "fleet.db"
    store = AdapterStore(path)
    store.add_many(layout, [("left", row(0)), ("right", row(0))])
    done = threading.Event()

    def write() -> None:
        with AdapterStore(path) as own:
            k = 0
            while not done.is_set():
                k += 1
                own.add_many(layout, [("left", row(k)), ("right", row(k))])

    writers = [threading.Thread(target=write) for _ in range(2)]
    for writer in writers:
        writer.start()
    counts: list[int] = []
    while len(counts) < 6 or counts[-1] == counts[0]:  # however slow the machine
        copy = tmp_path / f"copy{len(counts)}.db"
        store.backup(copy)
        with AdapterStore(copy) as copied:
            assert copied.versions("left") == copied.versions("right")
            assert copied.verify() == []
            counts.append(len(copied.versions("left")))
    done.set()
    for writer in writers:
        writer.join()
    store.close()
    assert counts == sorted(counts)


def test_readers_see_the_old_or_the_new_while_it_is_restored(
    copy: Path, open_store: Callable[..., AdapterStore], location: str | Path, layout: Layout, row: Any
) -> None:
    with AdapterStore(copy.parent / "large.db") as large:
        large.add_many(layout, [(f"t{k}", row(k)) for k in range(30)])
    store = open_store()
    store.restore(copy)
    done, seen = threading.Event(), set()

    def read() -> None:
        with AdapterStore(location) as reader:
            while not done.is_set():
                seen.add(tuple(reader.names()))

    reader = threading.Thread(target=read)
    reader.start()
    for _ in range(4):
        store.restore(copy.parent / "large.db")
        store.restore(copy)
    done.set()
    reader.join()
    assert seen <= {("a", "b"), tuple(sorted(f"t{k}" for k in range(30)))}
    assert list(store.names()) == ["a", "b"]


@pytest.mark.parametrize("seed", range(3))
def test_killed_restore_leaves_the_old_or_the_new(
    copy: Path, open_store: Callable[..., AdapterStore], location: str | Path, layout: Layout, row: Any, seed: int
) -> None:
    store = open_store()
    store.add_many(layout, [(f"t{k}", row(k)) for k in range(30)])
    old = content(store)
    with AdapterStore(copy) as kept:
        new = content(kept)
    store.close()
    count = int(torch.randint(0, 20, (1,), generator=torch.Generator().manual_seed(seed)))
    child = os.fork()
    if child == 0:
        with AdapterStore(location) as own:
            begin = own._tables.backend.writing

            class Killed:
                def __init__(self) -> None:
                    self.inner, self.left = begin(), count

                def __enter__(self) -> Any:
                    execute = self.inner.__enter__()

                    def call(*arguments: Any) -> Any:
                        self.left -= 1
                        if self.left < 0:
                            os.kill(os.getpid(), signal.SIGKILL)
                        return execute(*arguments)

                    return call

                def __exit__(self, *exception: Any) -> Any:
                    return self.inner.__exit__(*exception)

            vars(own._tables.backend)["writing"] = Killed
            own.restore(copy)
        os._exit(0)
    killed = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    with AdapterStore(location) as fresh:
        assert content(fresh) == (old if killed else new)
        assert fresh.verify() == []


def test_killed_backup_leaves_no_file(layout: Layout, row: Any, tmp_path: Path) -> None:
    path = tmp_path / "fleet.db"
    with AdapterStore(path) as store:
        store.put("a", layout, row(0))
    child = os.fork()
    if child == 0:

        def copy_half(made: Path) -> None:
            made.write_bytes(b"half")
            os.kill(os.getpid(), signal.SIGKILL)

        with AdapterStore(path) as own:
            vars(own._tables.backend)["copy"] = copy_half
            own.backup(tmp_path / "copy.db")
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    assert not (tmp_path / "copy.db").exists()
    with AdapterStore(path) as store:
        store.backup(tmp_path / "copy.db")
    assert sorted(found.name for found in tmp_path.iterdir()) == ["copy.db", "fleet.db"]


SECRET = b"customer-4711"


def traces(folder: Path, *secrets: bytes) -> list[str]:
    """Files below a folder that hold one of the byte strings."""
    found = []
    for path in folder.rglob("*"):
        if path.is_file() and "pg_wal" not in path.parts:
            with suppress(FileNotFoundError):  # a server has just removed it
                content = path.read_bytes()
                found += [str(path)] * any(secret in content for secret in secrets)
    return found


def folder_of(location: str | Path) -> Path:
    return location.parent if isinstance(location, Path) else Path(location.partition("host=")[2].partition("&")[0])


def fill(store: AdapterStore, layout: Layout, row: Any) -> tuple[bytes, ...]:
    """Others before and behind, an old version that was removed before; returns what must go."""
    wide = Layout.make(layout.config | {"n_frequency": 3000}, {"a.query": (64, 64)})
    secret = torch.randn(3000, generator=torch.Generator().manual_seed(47_110_077))  # numbers of no other test's store
    name = SECRET.decode()
    for k in range(20):
        store.put(f"t{k}", layout, row(k))
    for _ in range(2):
        store.put(name, layout, row(10_099), metrics={"note": name}, heads={"head": row(10_098)})
    store.remove(name, 1)
    store.put(name, wide, secret)
    for k in range(20, 40):
        store.put(f"t{k}", layout, row(k))
    store.set_alias(name, "live")
    numbers = secret.numpy().tobytes()
    return SECRET, numbers[:64], numbers[-64:], row(10_099).numpy().tobytes()[:64], row(10_098).numpy().tobytes()[:64]


def test_erased_adapter_leaves_no_bytes(
    open_store: Callable[..., AdapterStore], location: str | Path, layout: Layout, row: Any
) -> None:
    store = open_store()
    secrets = fill(store, layout, row)
    checkpoint(store)
    assert traces(folder_of(location), *secrets)
    assert store.remove(SECRET.decode(), erase=True) == 2
    checkpoint(store)
    assert traces(folder_of(location), *secrets) == []
    with pytest.raises(MissingAdapterError):
        store.get(SECRET.decode())
    assert len(store) == 40
    assert store.verify() == []
    assert all(torch.equal(store.get(f"t{k}").values, row(k)) for k in range(40))


def checkpoint(store: AdapterStore) -> None:
    """Let a server write what it has in memory; its files of tables that were written anew go with it."""
    if isinstance(store._tables.backend, SQLiteFile):
        return
    with store._tables.backend._connected() as held:
        held.connection.execution_options(isolation_level="AUTOCOMMIT").execute(
            store._tables.backend._text("CHECKPOINT")
        )


def test_one_version_is_erased_and_its_number_stays_taken(
    open_store: Callable[..., AdapterStore], location: str | Path, layout: Layout, row: Any
) -> None:
    store = open_store()
    store.put("a", layout, row(0))
    store.put("a", layout, row(4711))
    assert store.remove("a", 2, erase=True) == 1
    checkpoint(store)
    assert traces(folder_of(location), row(4711).numpy().tobytes()[:64]) == []
    assert store.put("a", layout, row(2)) == 3


def test_erasing_beside_a_reader_says_what_is_left_and_can_be_ended(layout: Layout, row: Any, tmp_path: Path) -> None:
    path = tmp_path / "fleet.db"
    store = AdapterStore(path, timeout=0.2)
    secrets = fill(store, layout, row)
    other = AdapterStore(path)
    reading: Any = iter(other)
    next(reading)
    name = SECRET.decode()
    with pytest.raises(
        StoreError, match=r"is removed, but its bytes may still be in the store: .* --erase again"
    ) as told:
        store.remove(name, erase=True)
    assert "\n" not in str(told.value)
    assert name not in store
    reading.close()
    assert store.remove(name, erase=True) == 0
    assert traces(tmp_path, *secrets) == []
    other.close()
    store.close()
