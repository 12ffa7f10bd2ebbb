"""A store in one SQLite file: write-ahead log, many readers, one writer, commits on disk when acknowledged."""

from __future__ import annotations

import os
import sqlite3
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from fourierft.adapters.store.schema import TABLES
from fourierft.errors import StoreError

Parameters = Mapping[str, Any] | Sequence[Mapping[str, Any]]
Execute = Callable[[str, Parameters], list[tuple[Any, ...]]]
MAGIC = b"SQLite format 3\0"
PAGE_SIZES = (4096, 8192, 16384, 32768, 65536)
_TYPES = {"id": "INTEGER PRIMARY KEY AUTOINCREMENT", "blob": "BLOB", "name": "TEXT"}


class SQLiteFile:
    """The statements of a store, run on a file; each thread has a connection of its own.

    Args:
        path: of the file, which need not be there.
        timeout: seconds to wait for another writer.
    """

    types = _TYPES

    def __init__(self, path: str | Path, timeout: float):
        self.path = Path(path)
        self.timeout = timeout
        self._threads = threading.local()
        self._open: list[sqlite3.Connection] = []

    def __str__(self) -> str:
        return str(self.path)

    def is_made(self) -> bool:
        """Whether the file is there.

        Raises: StoreError, if something else stands there.
        """
        if not self.path.exists():
            return False
        strange = f"{self} is no adapter store; name another file"
        if not self.path.is_file():
            raise StoreError(strange)
        with self._explained():
            with self.path.open("rb") as file:
                if file.read(len(MAGIC)) != MAGIC:
                    raise StoreError(strange)
            found = self._connection().execute("SELECT 1 FROM sqlite_master WHERE name = 'fourierft_store'").fetchone()
        if not found:
            raise StoreError(strange)
        return True

    def make(self, fill: Callable[[Execute], None], row_bytes: int) -> None:
        """Make the file with its tables, beside its place and then linked there; one that is there stays.

        Args:
            fill: writes the first rows.
            row_bytes: size of a typical row, which the page size is chosen for.
        """
        if not self.path.absolute().parent.is_dir():
            raise StoreError(f"there is no folder {self.path.absolute().parent} for the store; make it first")
        with self._explained():
            handle, beside = tempfile.mkstemp(prefix=f".{self.path.name[:100]}-", dir=self.path.absolute().parent)
            os.close(handle)
            try:
                connection = sqlite3.connect(beside, isolation_level=None)
                try:
                    connection.execute(f"PRAGMA page_size = {choose_page_size(row_bytes)}")
                    connection.execute("PRAGMA journal_mode = WAL")
                    connection.execute("BEGIN")
                    for table in TABLES:
                        connection.execute(table.format(**self.types))
                    fill(_executor(connection))
                    connection.execute("COMMIT")
                finally:
                    connection.close()
                os.chmod(beside, 0o644)
                with suppress(FileExistsError):  # another process was first
                    os.link(beside, self.path)
            finally:
                os.unlink(beside)

    def rows(self, statement: str, parameters: Mapping[str, Any] | None = None) -> Iterator[tuple[Any, ...]]:
        """Rows of a query, read as they are asked for."""
        with self._explained():
            yield from self._connection().execute(statement, parameters or {})

    @contextmanager
    def writing(self) -> Iterator[Execute]:
        """A transaction: all that is executed in it is on disk when the block ends well, and nothing of it otherwise.

        Raises: StoreError, if another process writes for too long or the disk is full.
        """
        connection = self._connection()
        with self._explained():
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield _executor(connection)
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise

    def size(self) -> int:
        """Bytes on disk, with the write-ahead log."""
        log = self.path.with_name(f"{self.path.name}-wal")
        return sum(path.stat().st_size for path in (self.path, log) if path.exists())

    def check(self) -> list[str]:
        """What SQLite finds wrong with the file's structure."""
        try:
            found = [row[0] for row in self.rows("PRAGMA integrity_check(10)")]
        except StoreError as error:
            return [str(error)]
        return [] if found == ["ok"] else [f"{self} is damaged: {' '.join(text.split())}" for text in found]

    def close(self) -> None:
        """Close the connections of all threads."""
        while self._open:
            self._open.pop().close()
        self._threads = threading.local()

    def _connection(self) -> sqlite3.Connection:
        connection = getattr(self._threads, "connection", None)
        if connection is None:
            with self._explained():
                connection = sqlite3.connect(
                    self.path.absolute(), timeout=self.timeout, isolation_level=None, check_same_thread=False
                )
            self._open.append(connection)
            self._threads.connection = connection
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute(f"PRAGMA journal_size_limit = {1 << 26}")
        return connection

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            raise StoreError(self._explain(error)) from error

    def _explain(self, error: Exception) -> str:
        text = str(error)
        if "full" in text or getattr(error, "errno", None) == 28:
            return f"no space is left for {self}; make room and try again, what was acknowledged before is kept"
        if "locked" in text:
            return f"another process is writing to {self} (waited {self.timeout:g} s); try again when it is done"
        if "malformed" in text or "not a database" in text:
            return f"{self} is damaged ({text}); `fourierft store verify` names what is lost, a copy brings it back"
        return f"{self} cannot be used ({text}); check the path and its permissions"


def choose_page_size(row_bytes: int) -> int:
    """The page size that takes the least room for rows of this size.

    Rows that fit a page share it, as many as fit; of a larger row SQLite fills whole pages and leaves the rest in one
    that rows share (https://www.sqlite.org/fileformat.html, section 1.6).
    """

    def room(page: int) -> float:
        local, pages = row_bytes, 0
        if row_bytes > page - 35:
            least = (page - 12) * 32 // 255 - 23
            local = least + (row_bytes - least) % (page - 4)
            local = local if local <= page - 35 else least
            pages = -(-(row_bytes - local) // (page - 4))
        return pages * page + page / ((page - 8) // (local + 12))

    return min(PAGE_SIZES, key=room)


def _executor(connection: sqlite3.Connection) -> Execute:
    def execute(statement: str, parameters: Parameters) -> list[tuple[Any, ...]]:
        if isinstance(parameters, Mapping):
            return connection.execute(statement, parameters).fetchall()
        connection.executemany(statement, parameters)
        return []

    return execute
