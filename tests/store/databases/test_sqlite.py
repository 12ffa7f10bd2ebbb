"""The file: made whole, never in place of something else, full or damaged without loss of what was acknowledged."""

from __future__ import annotations

import os
import resource
import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from fourierft.errors import StoreError
from fourierft.store import AdapterStore, Layout


@pytest.fixture
def filled(layout: Layout, row: Callable[[int], torch.Tensor], tmp_path: Path) -> Path:
    """A file with ten adapters."""
    with AdapterStore(tmp_path / "fleet.db") as store:
        store.add_many(layout, [(f"t{k}", row(k)) for k in range(10)])
    return tmp_path / "fleet.db"


def refused(path: Path) -> str:
    """The sentence a store is refused with."""
    with pytest.raises(StoreError) as caught:
        AdapterStore(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def read_all(path: Path) -> list[str]:
    """Names of all adapters, each read and checked."""
    with AdapterStore(path) as store:
        return [adapter.name for adapter in store]


@pytest.mark.parametrize("content", [b"", b"a", b"some text that is no database\n" * 100, b"SQLite format 2\0" * 100])
def test_file_that_is_no_store_is_left_as_it_is(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "notes.txt").write_bytes(content)
    assert "notes.txt is not an adapter store; name another file" in refused(tmp_path / "notes.txt")
    assert (tmp_path / "notes.txt").read_bytes() == content
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_database_of_something_else_is_left_as_it_is(tmp_path: Path) -> None:
    connection = sqlite3.connect(tmp_path / "other.db")
    connection.execute("CREATE TABLE adapters (name TEXT)")
    connection.close()
    before = (tmp_path / "other.db").read_bytes()
    assert "is not an adapter store" in refused(tmp_path / "other.db")
    assert (tmp_path / "other.db").read_bytes() == before


def test_folder_is_no_store(tmp_path: Path) -> None:
    assert "is not an adapter store" in refused(tmp_path)


def test_missing_folder_is_named(layout: Layout, row: Any, tmp_path: Path) -> None:
    with AdapterStore(tmp_path / "gone" / "fleet.db") as store, pytest.raises(StoreError, match="there is no folder"):
        store.put("a", layout, row(0))


@pytest.mark.parametrize("name", [":memory:", "file:x?mode=memory", "#%3F .db", "müller 🎈.db"])
def test_any_file_name_is_a_file(
    layout: Layout, row: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with AdapterStore(name) as store:
        store.put("a", layout, row(0))
    assert [path.name for path in tmp_path.iterdir()] == [name]
    with AdapterStore(name, create=False) as store:
        assert list(store.names()) == ["a"]


def test_file_is_made_with_the_first_adapter(layout: Layout, row: Any, tmp_path: Path) -> None:
    with AdapterStore(tmp_path / "fleet.db") as store:
        assert list(tmp_path.iterdir()) == []
        store.put("a", layout, row(0))
    assert [path.name for path in tmp_path.iterdir()] == ["fleet.db"]


def test_two_that_make_the_same_store_both_keep_what_they_add(layout: Layout, row: Any, tmp_path: Path) -> None:
    with AdapterStore(tmp_path / "fleet.db") as first, AdapterStore(tmp_path / "fleet.db") as second:
        first.put("a", layout, row(0))
        second._tables.backend.make(lambda execute: None, 100)
        second.put("b", layout, row(1))
        assert list(first.names()) == ["a", "b"]


@pytest.mark.parametrize("kept", [5, 5000, 70_000])
def test_truncated_file_is_told_of(filled: Path, kept: int) -> None:
    filled.write_bytes(filled.read_bytes()[:kept])
    with pytest.raises(StoreError, match=r"fleet\.db is (damaged|not an adapter store)") as caught:
        read_all(filled)
    assert "\n" not in str(caught.value)


def test_damaged_page_costs_what_is_on_it_alone(layout: Layout, tmp_path: Path) -> None:
    large = Layout.make(layout.config | {"n_frequency": 3000}, {"a.query": (64, 64)})
    with AdapterStore(tmp_path / "fleet.db") as store:
        store.add_many(large, [(f"t{k}", torch.full((3000,), float(k))) for k in range(10)])
    data = bytearray((tmp_path / "fleet.db").read_bytes())
    place = data.index(torch.full((100,), 4.0).numpy().tobytes())
    data[place + 50] ^= 255
    (tmp_path / "fleet.db").write_bytes(data)
    with AdapterStore(tmp_path / "fleet.db") as store:
        (fault,) = store.verify()
        assert "adapter 't4' version 1 is damaged" in fault
        assert all(store.get(f"t{k}").values[0] == k for k in range(10) if k != 4)


def test_structure_that_is_damaged_is_found(filled: Path) -> None:
    data = bytearray(filled.read_bytes())
    page = int.from_bytes(data[16:18], "big") or 0
    page = 65536 if page == 1 else page
    data[-page + 3 : -page + 8] = b"\xff" * 5  # the header of the last page of a tree
    filled.write_bytes(data)
    with AdapterStore(filled) as store:
        faults = store.verify()
    assert faults
    assert all("\n" not in fault for fault in faults)


def test_layout_that_is_gone_is_told_of(filled: Path) -> None:
    """A server's foreign key keeps it; in a file any tool can remove it."""
    connection = sqlite3.connect(filled)
    connection.execute("DELETE FROM fourierft_layouts")
    connection.commit()
    connection.close()
    with AdapterStore(filled) as store:
        with pytest.raises(StoreError, match="the layout 1 of some adapters is missing"):
            store.get("t0")
        assert "the layout 1 of some adapters is missing" in store.verify()[0]


def test_full_disk_keeps_what_was_acknowledged(filled: Path, layout: Layout, row: Any) -> None:
    with AdapterStore(filled) as store:
        store.get("t0")
        with store._tables.backend._connections.use() as held:
            connection = held.connection
        (pages,) = connection.execute("PRAGMA page_count").fetchone()
        connection.execute(f"PRAGMA max_page_count = {pages + 2}")
        with pytest.raises(StoreError, match=r"no space is left for .*fleet\.db; make room and try again"):
            store.add_many(layout, [(f"more{k}", row(k)) for k in range(2000)])
        assert len(store) == 10
        assert store.verify() == []
        connection.execute("PRAGMA max_page_count = 1000000")
        assert store.put("t10", layout, row(10)) == 1


def test_every_commit_is_flushed(filled: Path) -> None:
    with AdapterStore(filled) as store:
        with store._tables.backend._connections.use() as held:
            connection = held.connection
        assert connection.execute("PRAGMA synchronous").fetchone() == (2,)  # FULL
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_shared_facts_are_kept_once(filled: Path, make_layout: Any, row: Any) -> None:
    with AdapterStore(filled) as store:
        store.put("other", make_layout(scaling=9.0), row(0))
        assert next(store._tables.rows("SELECT COUNT(*) FROM fourierft_layouts"))[0] == 2
        assert next(store._tables.rows("SELECT n, scaling, basis FROM fourierft_layouts")) == (60, 8.0, "uniform:5")


def test_bytes_on_disk_are_hardly_more_than_the_numbers(tmp_path: Path, layout: Layout) -> None:
    for dtype, n, raw, rows in (("float32", 2000, 3 * 8000, 300), ("int8", 800, 3 * 804, 10_000)):
        wide = Layout.make(layout.config | {"n_frequency": n}, dict.fromkeys(("a", "b", "c"), (64, 64)))
        path = tmp_path / f"{dtype}.db"
        with AdapterStore(path) as store:
            store.add_many(wide, ((f"tenant-{k:06d}", torch.randn(3 * n)) for k in range(rows)), dtype)
        assert path.stat().st_size <= 1.10 * rows * raw


def test_folder_that_is_called_full_is_not_full(layout: Layout, row: Any, tmp_path: Path) -> None:
    """The cause is told by what SQLite says, not by words of the path."""
    folder = tmp_path / "half full locked malformed"
    folder.mkdir()
    with AdapterStore(folder / "fleet.db") as store:
        store.put("a", layout, row(0))
        with pytest.raises(StoreError, match="cannot be used"), store._tables.writing() as execute:
            execute("SELECT nothing", {})
    (folder / "fleet.db").rename(folder / "gone")
    (folder / "fleet.db").mkdir()
    with pytest.raises(StoreError, match="is not an adapter store"):
        AdapterStore(folder / "fleet.db")


def as_somebody(work: Callable[[], object]) -> str:
    """Do the work in a process without root's rights; the sentence that it is refused with."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        if os.geteuid() == 0:
            os.setuid(65534)
        try:
            work()
            os.write(writer, b"done")
        except BaseException as error:
            os.write(writer, f"{type(error).__name__}: {error}".encode())
        os._exit(0)
    os.waitpid(child, 0)
    os.close(writer)
    with os.fdopen(reader) as stream:
        return stream.read()


@pytest.fixture
def locked() -> Iterator[Path]:
    """A folder that others can look into."""
    folder = Path(tempfile.mkdtemp())
    yield folder
    folder.chmod(0o755)
    shutil.rmtree(folder)


def test_store_in_a_folder_that_cannot_be_written_is_read(
    locked: Path, layout: Layout, row: Callable[[int], torch.Tensor]
) -> None:
    path = locked / "fleet.db"
    with AdapterStore(path) as store:
        store.put("a", layout, row(0))
    path.chmod(0o444)
    locked.chmod(0o555)
    wanted = row(0)

    def read() -> None:
        with AdapterStore(path, create=False) as store:
            assert torch.equal(store.get("a").values, wanted)
            assert store.verify() == []
            with pytest.raises(StoreError, match=r"cannot be used \(attempt to write a readonly database\)"):
                store.remove("a")

    assert as_somebody(read) == "done"
    assert sorted(found.name for found in locked.iterdir()) == ["fleet.db"]


def test_what_is_read_as_it_stands_is_read_anew_when_it_changes(locked: Path, layout: Layout, row: Any) -> None:
    path, turn, answer = locked / "fleet.db", os.pipe(), os.pipe()
    with AdapterStore(path) as store:
        store.put("a", layout, row(0))
    path.chmod(0o644)
    locked.chmod(0o755)
    child = os.fork()
    if child == 0:
        if os.geteuid() == 0:
            os.setuid(65534)
        try:
            with AdapterStore(path, create=False) as store:
                for _ in range(3):
                    os.write(answer[1], b"%d" % len(store))
                    os.read(turn[0], 1)
        finally:
            os._exit(0)
    assert os.read(answer[0], 1) == b"1"
    with AdapterStore(path) as store:
        store.put("b", layout, row(1))
        os.write(turn[1], b".")
        assert os.read(answer[0], 1) == b"2"  # while a writer has it open
        store.put("c", layout, row(2))
    os.write(turn[1], b".")
    assert os.read(answer[0], 1) == b"3"
    os.write(turn[1], b".")
    os.waitpid(child, 0)
    for end in (*turn, *answer):
        os.close(end)


def test_log_in_a_folder_that_cannot_be_written_is_told_of(locked: Path, layout: Layout, row: Any) -> None:
    path = locked / "fleet.db"
    child = os.fork()
    if child == 0:
        AdapterStore(path).put("a", layout, row(0))
        os.kill(os.getpid(), 9)
    os.waitpid(child, 0)
    path.with_name("fleet.db-shm").unlink()
    locked.chmod(0o555)
    assert "StoreError" in as_somebody(lambda: AdapterStore(path).get("a"))
    assert "in a writable folder; copy both" in as_somebody(lambda: AdapterStore(path).get("a"))


@pytest.mark.parametrize("limit", [30_000, 60_000, 100_000])
def test_file_that_cannot_grow_keeps_what_was_acknowledged(filled: Path, layout: Layout, row: Any, limit: int) -> None:
    """The system refuses to let files grow, as a full disk does, wherever the limit hits."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
        try:
            with AdapterStore(filled) as store:
                for k in range(10, 2000):
                    store.put(f"t{k}", layout, row(k))
                    os.write(writer, b"%d\n" % k)
        except StoreError as error:
            os.write(writer, b"told\n" if "\n" not in str(error) else b"wrong\n")
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as stream:
        *added, told = stream.read().split()
    os.waitpid(child, 0)
    assert told == "told"
    with AdapterStore(filled) as store:
        assert store.verify() == []
        assert {f"t{k}" for k in (*range(10), *added)} <= set(store.names())
