"""A log that a killed process left never comes back over another file; that of its own file always does."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fourierft.errors import StoreError
from fourierft.store import AdapterStore, Layout


@pytest.fixture
def killed(tmp_path: Path, layout: Layout, row: Any) -> Callable[[Path, range], None]:
    """Adds t<k> to a store in a process that is then killed, so that the log stays."""

    def add(path: Path, numbers: range) -> None:
        child = os.fork()
        if child == 0:
            store = AdapterStore(path)
            for k in numbers:
                store.put(f"t{k}", layout, row(k))
            os.kill(os.getpid(), signal.SIGKILL)
        os.waitpid(child, 0)
        assert path.with_name(f"{path.name}-wal").stat().st_size > 0

    return add


def names(path: Path) -> list[str]:
    with AdapterStore(path) as store:
        assert store.verify() == []
        return sorted(store.names())


def test_log_of_its_own_file_comes_back(killed: Any, tmp_path: Path) -> None:
    path = tmp_path / "fleet.db"
    for start in range(0, 20, 5):
        killed(path, range(start, start + 5))
    assert names(path) == sorted(f"t{k}" for k in range(20))


def test_log_of_a_checkpoint_that_was_killed_comes_back(killed: Any, layout: Layout, row: Any, tmp_path: Path) -> None:
    """The first page is in the file already, which says that there are more pages than there are."""
    path = tmp_path / "fleet.db"
    with AdapterStore(path) as store:
        store.put("first", layout, row(0))
    killed(path, range(150))
    log = path.with_name("fleet.db-wal").read_bytes()
    page_size = int.from_bytes(log[8:12], "big")
    frames = [log[start : start + 24 + page_size] for start in range(32, len(log), 24 + page_size)]
    newest = [frame[24:] for frame in frames if frame[:4] == b"\0\0\0\1"][-1]
    with path.open("rb+") as file:
        file.write(newest)
    assert int.from_bytes(newest[28:32], "big") * page_size > path.stat().st_size
    assert names(path) == sorted(["first", *(f"t{k}" for k in range(150))])


def test_new_store_beside_an_old_log_starts_clean(killed: Any, layout: Layout, row: Any, tmp_path: Path) -> None:
    path = tmp_path / "fleet.db"
    killed(path, range(5))
    path.unlink()
    with AdapterStore(path) as store:
        for k in range(10, 15):
            store.put(f"t{k}", layout, row(k))
    assert names(path) == [f"t{k}" for k in range(10, 15)]


@pytest.mark.parametrize("how", ["copied over", "moved over", "with journal mode DELETE"])
def test_log_of_the_file_before_is_not_read_into_another(
    killed: Any, layout: Layout, row: Any, tmp_path: Path, how: str
) -> None:
    path, other = tmp_path / "fleet.db", tmp_path / "other.db"
    with AdapterStore(other) as store:
        for k in range(10, 15):
            store.put(f"t{k}", layout, row(k))
    if how == "with journal mode DELETE":
        connection = sqlite3.connect(other)
        connection.execute("PRAGMA journal_mode = DELETE")
        connection.close()
    killed(path, range(5))
    before = other.read_bytes()
    shutil.move(other, path) if how == "moved over" else shutil.copyfile(other, path)
    with pytest.raises(
        StoreError, match=r"fleet\.db was replaced, but fleet\.db-wal beside it is the log of the old file"
    ) as told:
        AdapterStore(path)
    assert "\n" not in str(told.value)
    assert path.read_bytes() == before
    path.with_name("fleet.db-wal").unlink()
    assert names(path) == [f"t{k}" for k in range(10, 15)]


def test_old_copy_of_the_same_store_is_not_undone(killed: Any, tmp_path: Path) -> None:
    path, copy = tmp_path / "fleet.db", tmp_path / "copy.db"
    killed(path, range(5))
    names(path)  # the log is written into the file, and removed
    shutil.copyfile(path, copy)
    killed(path, range(5, 10))
    names(path)
    killed(path, range(10, 15))
    shutil.copyfile(copy, path)
    with pytest.raises(StoreError, match="was replaced"):
        AdapterStore(path)


def test_live_log_is_never_taken_for_another(killed: Any, layout: Layout, row: Any, tmp_path: Path) -> None:
    """New connections look at the log while a writer writes, checkpoints and starts it again."""
    path = tmp_path / "fleet.db"
    with AdapterStore(path) as store:
        store.put("first", layout, row(0))
        looked, tell = os.pipe()
        child = os.fork()
        if child == 0:
            status = 1
            os.close(tell)
            try:
                with AdapterStore(path) as own:
                    for k in range(150):
                        own.put(f"t{k}", layout, row(k))
                        if k % 10 == 9:
                            own._tables.backend._connections.close()
                            os.read(looked, 1)  # at least one look each time
                status = 0
            finally:
                os._exit(status)
        tries = 0
        while (ended := os.waitpid(child, os.WNOHANG)) == (0, 0):
            with AdapterStore(path) as reader:
                assert "first" in reader
            os.write(tell, b".")
            tries += 1
            if tries % 7 == 0:
                store._tables.backend.close()
        assert tries >= 15
        assert ended == (child, 0)
        for end in (looked, tell):
            os.close(end)
    assert len(names(path)) == 151


def test_a_log_that_is_none_is_left_to_sqlite(layout: Layout, row: Any, tmp_path: Path) -> None:
    path = tmp_path / "fleet.db"
    with AdapterStore(path) as store:
        store.put("a", layout, row(0))
    for content in (b"x", b"x" * 5000, b"\x37\x7f\x06\x82" + b"\0" * 28):
        path.with_name("fleet.db-wal").write_bytes(content)
        assert names(path) == ["a"]
