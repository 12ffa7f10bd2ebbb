"""Forks: neither process uses, closes or unlocks what the other has open, and nothing acknowledged is lost."""

from __future__ import annotations

import itertools
import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from fourierft.errors import StoreError
from fourierft.store import AdapterStore, Layout
from fourierft.store.databases import connections


def in_child(work: Callable[[], object]) -> int:
    """Start a forked process that does the work; its status is 0 if nothing was raised."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            work()
            status = 0
        finally:
            os._exit(status)
    return child


def status_of(child: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def refusal(work: Callable[[], object]) -> str:
    """The sentence that a forked process is refused with."""
    reader, writer = os.pipe()

    def tell() -> None:
        try:
            work()
        except StoreError as error:
            os.write(writer, str(error).encode())

    child = in_child(tell)
    os.close(writer)
    with os.fdopen(reader) as stream:
        text = stream.read()
    assert status_of(child) == 0
    return text


@pytest.mark.parametrize("closes", ["before", "while", "after"])
def test_what_a_child_adds_is_kept_when_the_parent_closes(
    open_store: Callable[..., AdapterStore], location: str | Path, layout: Layout, row: Any, closes: str
) -> None:
    """The parent has read, forks and closes; by SQLite's memory of its locks it would remove the child's log."""
    store = open_store()
    store.put("first", layout, row(0))
    store.get("first")
    begun, writer = os.pipe()

    def add() -> None:
        with AdapterStore(location) as own:
            for k in range(20):
                if k == 10:
                    os.write(writer, b".")
                    time.sleep(0.05)
                own.put(f"t{k}", layout, row(k))

    child = in_child(add)
    if closes == "while":
        os.read(begun, 1)
    if closes == "after":
        assert status_of(child) == 0
    store.close()
    if closes != "after":
        assert status_of(child) == 0
    os.close(begun)
    os.close(writer)
    with AdapterStore(location) as fresh:
        assert len(fresh) == 21
        assert fresh.verify() == []


def test_both_go_on_with_the_store_they_had(store: AdapterStore, layout: Layout, row: Any) -> None:
    store.put("first", layout, row(0))

    def add() -> None:
        for k in range(10):
            store.put(f"child{k}", layout, row(k))

    child = in_child(add)
    for k in range(10):
        store.put(f"parent{k}", layout, row(k))
    assert status_of(child) == 0
    assert len(store) == 21
    assert store.verify() == []


def test_a_child_that_ends_takes_no_lock_along(
    open_store: Callable[..., AdapterStore], location: str | Path, layout: Layout, row: Any
) -> None:
    """The child reads and ends while the parent writes, and a third process closes as if it were the last."""
    store = open_store()
    store.put("first", layout, row(0))
    for k in range(5):
        assert status_of(in_child(lambda: store.get("first"))) == 0
        assert status_of(in_child(lambda: AdapterStore(location).close())) == 0
        store.put(f"t{k}", layout, row(k))
    with AdapterStore(location) as fresh:
        assert len(fresh) == 6


def test_a_row_being_read_stays_the_parents(
    open_store: Callable[..., AdapterStore], location: str | Path, layout: Layout, row: Any
) -> None:
    store = open_store()
    store.add_many(layout, [(f"t{k}", row(k)) for k in range(5)])
    adapters = iter(store)
    assert next(adapters).name == "t0"
    assert "cannot be shared across a fork" in refusal(lambda: list(adapters))
    if isinstance(location, Path):
        assert "was in use when this process was forked" in refusal(lambda: AdapterStore(location))
        assert "was in use when this process" in refusal(lambda: store.get("t0"))
    else:
        assert status_of(in_child(lambda: AdapterStore(location).get("t0"))) == 0
    assert [adapter.name for adapter in adapters] == ["t1", "t2", "t3", "t4"]
    assert status_of(in_child(lambda: AdapterStore(location).get("t0"))) == 0


def test_a_transaction_stays_the_parents(store: AdapterStore, layout: Layout, row: Any) -> None:
    store.put("a", layout, row(0))
    with store._tables.writing() as execute:
        execute("UPDATE fourierft_adapters SET created = 'x'", {})

        def end() -> None:
            execute("UPDATE fourierft_adapters SET created = 'y'", {})

        assert "cannot be shared across a fork" in refusal(end)
    assert next(store._tables.rows("SELECT created FROM fourierft_adapters")) == ("x",)


def test_a_child_that_leaves_a_transaction_ends_nothing(store: AdapterStore, layout: Layout, row: Any) -> None:
    store.put("a", layout, row(0))
    reader, writer = os.pipe()
    try:
        with store._tables.writing() as execute:
            execute("UPDATE fourierft_adapters SET created = 'x'", {})
            child = os.fork()
    except StoreError as error:  # in the child
        os.write(writer, str(error).encode())
        os._exit(0)
    assert status_of(child) == 0
    assert b"cannot be shared across a fork" in os.read(reader, 1000)
    os.close(reader)
    os.close(writer)
    assert next(store._tables.rows("SELECT created FROM fourierft_adapters")) == ("x",)
    assert store.put("b", layout, row(1)) == 1


def test_a_fork_waits_for_other_threads(
    open_store: Callable[..., AdapterStore], location: str | Path, layout: Layout, row: Any
) -> None:
    store = open_store()
    store.put("a", layout, row(0))
    done, wrong = threading.Event(), []

    def read() -> None:
        while not done.is_set():
            if not torch.equal(store.get("a").values, row(0)):
                wrong.append("a")

    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()

    def add(k: int) -> None:
        with AdapterStore(location) as own:
            own.put(f"t{k}", layout, row(k))

    statuses = [status_of(in_child(lambda k=k: add(k))) for k in range(8)]
    done.set()
    for thread in threads:
        thread.join()
    assert (statuses, wrong) == ([0] * 8, [])
    assert len(store) == 9


def test_a_thread_that_reads_on_and_on_costs_the_child_the_file_alone(
    tmp_path: Path, layout: Layout, row: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "PATIENCE", 0.1)
    for name in ("one.db", "other.db"):
        with AdapterStore(tmp_path / name) as made:
            made.add_many(layout, [(f"t{k}", row(k)) for k in range(3)])
    store = AdapterStore(tmp_path / "one.db")
    started, done, names = threading.Event(), threading.Event(), []

    def read() -> None:
        for adapter in store:
            names.append(adapter.name)
            started.set()
            done.wait()

    thread = threading.Thread(target=read)
    thread.start()
    started.wait()
    os.link(tmp_path / "one.db", tmp_path / "another name.db")
    for name in ("one.db", "another name.db"):
        assert "was in use when this process" in refusal(lambda name=name: AdapterStore(tmp_path / name))
    assert status_of(in_child(lambda: AdapterStore(tmp_path / "other.db").get("t0"))) == 0
    done.set()
    thread.join()
    assert names == ["t0", "t1", "t2"]
    store.close()


def test_threads_that_ended_leave_no_files_open(store: AdapterStore, layout: Layout, row: Any) -> None:
    store.put("a", layout, row(0))
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(30):
        thread = threading.Thread(target=lambda: store.get("a"))
        thread.start()
        thread.join()
    assert len(os.listdir("/proc/self/fd")) <= before + 6


def test_a_killed_child_costs_nothing(
    open_store: Callable[..., AdapterStore], location: str | Path, layout: Layout, row: Any
) -> None:
    store = open_store()
    store.put("first", layout, row(0))
    reader, writer = os.pipe()

    def add() -> None:
        for k in itertools.count():  # until it is killed
            store.put(f"t{k}", layout, row(k))
            os.write(writer, b"%d\n" % k)

    child = in_child(add)
    first = os.read(reader, 2)
    time.sleep(0.3)
    os.kill(child, signal.SIGKILL)
    assert status_of(child) == -signal.SIGKILL
    os.close(writer)
    with os.fdopen(reader) as stream:
        acknowledged = (first.decode() + stream.read()).split()
    assert acknowledged[0] == "0"
    store.close()
    with AdapterStore(location) as fresh:
        assert set(fresh.names()) >= {f"t{k}" for k in acknowledged}
        assert fresh.verify() == []


def test_a_store_that_is_closed_while_others_read_ends_no_process(tmp_path: Path, layout: Layout, row: Any) -> None:
    """Each read is right, or told that the store was closed; what another thread writes is kept or told."""
    path, wanted = tmp_path / "fleet.db", [row(k) for k in range(100)]
    with AdapterStore(path) as store:
        store.add_many(layout, [(f"t{k}", row(k)) for k in range(100)])

    def attack() -> None:
        store, done = AdapterStore(path), threading.Event()
        wrong: list[str] = []

        def use(number: int) -> None:
            added = 0
            while not done.is_set():
                try:
                    if number:
                        wrong.extend(
                            a.name
                            for a in store
                            if a.name[0] == "t" and not torch.equal(a.values, wanted[int(a.name[1:])])
                        )
                    else:
                        store.put(f"w{added}", layout, wanted[0])
                        added += 1
                except StoreError as error:
                    if "was closed while it was in use" not in str(error):
                        wrong.append(str(error))
            if not number:
                wrong.extend(f"w{k} is lost" for k in range(added) if f"w{k}" not in store)

        threads = [threading.Thread(target=use, args=(number,)) for number in range(5)]
        for thread in threads:
            thread.start()
        for _ in range(80):
            store.close()
            time.sleep(0.005)
        done.set()
        for thread in threads:
            thread.join()
        assert not wrong, wrong[:3]
        assert store.verify() == []

    assert status_of(in_child(attack)) == 0


def test_a_connection_that_was_closed_in_use_is_gone_when_that_ends(tmp_path: Path, layout: Layout, row: Any) -> None:
    with AdapterStore(tmp_path / "fleet.db") as store:
        store.add_many(layout, [(f"t{k}", row(k)) for k in range(3)])
        before, begun, closed = len(os.listdir("/proc/self/fd")), threading.Event(), threading.Event()
        told: list[str] = []

        def read() -> None:
            adapters = iter(store)
            next(adapters)
            begun.set()
            closed.wait()
            try:
                next(adapters)
            except StoreError as error:
                told.append(str(error))

        thread = threading.Thread(target=read)
        thread.start()
        begun.wait()
        store.close()
        closed.set()
        thread.join()
        assert len(told) == 1
        assert "was closed while it was in use; open it again" in told[0]
        assert len(os.listdir("/proc/self/fd")) <= before
        assert len(store) == 3
