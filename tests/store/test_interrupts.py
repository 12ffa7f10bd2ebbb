"""Ctrl-C ends a call of a store wherever it comes, and leaves the store to be used."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fourierft.store import AdapterStore
from fourierft.store.databases import sqlite
from fourierft.store.databases.connections import first


@pytest.fixture(autouse=True)
def obeying() -> Iterator[None]:
    """Ctrl-C is obeyed, also where a shell started the tests behind, which ignore it then."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


class Interrupted(set[Any]):
    """What a read keeps its cursor in; Ctrl-C comes when the cursor is taken out."""

    def discard(self, cursor: object) -> None:
        super().discard(cursor)
        signal.raise_signal(signal.SIGINT)


@pytest.mark.parametrize("rows", [0, 1, 3])
def test_ctrl_c_while_the_rest_of_the_rows_is_left_ends_the_call(rows: int) -> None:
    def read() -> Iterator[int]:
        try:
            yield from range(rows)
        finally:
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        first(read(), None)


def test_ctrl_c_at_a_look_up_is_not_lost(adapter: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with AdapterStore(tmp_path / "fleet.db") as store:
        store.add("a", adapter)
        with store._tables.backend._connections.use() as held:
            monkeypatch.setattr(held, "cursors", Interrupted())
        with pytest.raises(KeyboardInterrupt):
            store._tables.row("a", None)
        monkeypatch.undo()
        assert len(store) == 1


def test_a_store_whose_transaction_ctrl_c_cut_off_is_written_to_again(
    adapter: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    with AdapterStore(tmp_path / "fleet.db") as store:
        store.add("a", adapter)
        monkeypatch.setattr(sqlite, "stamp", interrupt)
        with pytest.raises(KeyboardInterrupt):
            store.add("b", adapter)
        monkeypatch.undo()
        with store._tables.backend._connections.use() as held:
            held.connection.execute("BEGIN IMMEDIATE")  # what comes right before Ctrl-C
        store.add("c", adapter)
        assert list(store.names()) == ["a", "c"]
