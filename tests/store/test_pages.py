"""Page sizes, against files that SQLite makes."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from fourierft.store.pages import PAGE_SIZES, choose_page_size


@pytest.mark.parametrize("row_bytes", [500, 2548, 10_000, 48_100, 100_000, 240_100, 1_000_000])
def test_page_size_is_the_one_that_takes_the_least_room(row_bytes: int, tmp_path: Path) -> None:
    sizes = {}
    for page in PAGE_SIZES:
        connection = sqlite3.connect(tmp_path / f"{page}.db", isolation_level=None)
        connection.execute(f"PRAGMA page_size = {page}")
        connection.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, blob BLOB)")
        connection.execute("BEGIN")
        rows = max(40, 10_000_000 // row_bytes)
        connection.executemany("INSERT INTO t (blob) VALUES (?)", ((b"x" * (row_bytes - 4),) for _ in range(rows)))
        connection.execute("COMMIT")
        connection.close()
        sizes[page] = (tmp_path / f"{page}.db").stat().st_size
    assert sizes[choose_page_size(row_bytes)] <= 1.05 * min(sizes.values())
