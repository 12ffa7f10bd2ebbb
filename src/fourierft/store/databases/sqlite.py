"""A store in one SQLite file: write-ahead log, many readers, one writer, commits on disk when acknowledged."""

from __future__ import annotations

import errno
import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fourierft.errors import FourierFTError, StoreError, UnavailableError
from fourierft.files import as_path, check_place, lock_folder, new_rights, workspace
from fourierft.store.databases.connections import Connections
from fourierft.store.databases.logs import address, check_log, has_log, log_of, new_token, remove_logs, stamp
from fourierft.store.databases.schema import TABLES
from fourierft.store.pages import choose_page_size

Parameters = Mapping[str, Any] | Sequence[Mapping[str, Any]]
Execute = Callable[[str, Parameters], list[tuple[Any, ...]]]
_TYPES = {"id": "INTEGER PRIMARY KEY AUTOINCREMENT", "blob": "BLOB", "name": "TEXT"}
_STRANGE = ("file is not a database", "unsupported file format")
_FULL_PERHAPS = ("disk I/O error", "unable to open database file")  # of a shared memory that finds no room
_LEAST = 1 << 16  # bytes that one page and a shared memory take
_DAMAGED = (
    "database disk image is malformed",
    "malformed database schema",
    "file is not a database",
    "Could not decode to UTF-8",
    "string or blob too big",
)


class SQLiteFile:
    """The statements of a store, run on a file; each thread has a connection of its own.

    Args:
        path: of the file, which need not be there.
        timeout: seconds to wait for another writer.
    """

    types = _TYPES

    def __init__(self, path: str | Path, timeout: float):
        self.path = as_path(path, "the store's place")
        self.timeout = timeout
        self._connections = Connections(self.path, self._open)
        self._frozen: tuple[int, ...] | None = None  # what the file was like when it was opened, where nobody can write

    def __str__(self) -> str:
        return str(self.path)

    def is_made(self) -> bool:
        """Whether the file is there.

        Raises: StoreError, if something else stands there.
        """
        with self.explained():
            if not self.path.exists():
                return False
        strange = f"{self} is not an adapter store; name another file"
        if not self.path.is_file():
            raise StoreError(strange)
        try:
            with self.explained():
                if next(self._read("SELECT 1 FROM sqlite_master WHERE name = 'fourierft_store'", {}), None):
                    return True
        except StoreError as error:
            if str(error.__cause__) not in _STRANGE:
                raise
        self.close()
        raise StoreError(strange)

    def make(self, fill: Callable[[Execute], None], row_bytes: int) -> None:
        """Make the file with its tables, beside its place and then linked there; one that is there stays.

        Args:
            fill: writes the first rows.
            row_bytes: size of a typical row, which the page size is chosen for.
        """

        def begin(connection: sqlite3.Connection) -> None:
            connection.execute(f"PRAGMA page_size = {choose_page_size(row_bytes)}")
            connection.execute("PRAGMA journal_mode = WAL")

        with self.made_beside(begin) as connection:
            connection.execute("BEGIN")
            for table in TABLES:
                connection.execute(table.format(**self.types))
            fill(_executor(lambda: connection))
            connection.execute(f"PRAGMA user_version = {new_token()}")
            connection.execute("COMMIT")

    @contextmanager
    def made_beside(self, begin: Callable[[sqlite3.Connection], None]) -> Iterator[sqlite3.Connection]:
        """A new file to fill, which is linked into its place, if there is none, when the block ends well.

        Args:
            begin: what to do first with the connection.
        """
        parent = self.path.absolute().parent
        if not parent.is_dir():
            raise StoreError(f"there is no folder {parent} for the store; make it first")
        with self.explained(), workspace(self.path) as folder:
            made = folder / "store"

            def open_one() -> sqlite3.Connection:
                connection = sqlite3.connect(made, isolation_level=None, check_same_thread=False)
                begin(connection)
                return connection

            connections = Connections(made, open_one)
            try:
                with connections.use() as held:
                    yield held.connection
            finally:
                connections.close()
            self.install(made)

    def install(self, made: Path) -> bool:
        """Link a file that was made beside it into its place; False if there is one, which stays."""
        made.chmod(new_rights())
        with lock_folder(self.path.absolute().parent) as opened:
            if self.path.exists():
                return False
            remove_logs(self.path)  # nobody's
            os.link(made, self.path)
            if opened is not None:
                os.fsync(opened)
        return True

    def copy(self, made: Path) -> None:
        """Write all that is committed at one moment into a new file, which is on disk then, while writers go on."""
        with self.explained(), self._connections.use() as held:
            held.connection.execute("VACUUM INTO :file", {"file": str(made)})
            copied = sqlite3.connect(made, isolation_level=None)
            try:
                copied.execute(f"PRAGMA user_version = {new_token()}")  # a file of its own
                copied.execute("PRAGMA journal_mode = WAL")
            finally:
                copied.close()
            with made.open("rb+") as file:
                os.fsync(file.fileno())

    def scrub(self) -> None:
        """Leave no bytes of what was removed in the file or its log.

        Raises: StoreError, if others still read them.
        """
        with self.explained(), self._connections.use() as held:
            held.connection.execute("VACUUM")
            busy, *_ = held.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            if busy:
                raise StoreError(f"other processes still read what was removed from {self} (waited {self.timeout:g} s)")

    def check_writable(self) -> None:
        """See whether rows can be added.

        Raises: PlaceError or StoreError, if not.
        """
        check_place(self.path.absolute().parent)
        if self.is_made():
            with self.writing():
                pass

    def rows(self, statement: str, parameters: Mapping[str, Any] | None = None) -> Iterator[tuple[Any, ...]]:
        """Rows of a query, read as they are asked for."""
        with self.explained():
            yield from self._read(statement, parameters or {})

    @contextmanager
    def writing(self) -> Iterator[Execute]:
        """A transaction: all that is executed in it is on disk when the block ends well, and nothing of it otherwise.

        Raises: StoreError, if another process writes for too long or the disk is full.
        """
        with self.explained(), self._connections.use() as held:
            if held.connection.in_transaction:  # of a call that Ctrl-C ended
                held.connection.execute("ROLLBACK")
            try:
                held.connection.execute("BEGIN IMMEDIATE")
                stamp(held.connection)
                yield _executor(lambda: held.connection)
                held.connection.execute("COMMIT")
            except BaseException:
                if not held.is_lost and held.connection.in_transaction:
                    held.connection.execute("ROLLBACK")
                raise

    def size(self) -> int:
        """Bytes on disk, with the write-ahead log."""
        return sum(path.stat().st_size for path in (self.path, log_of(self.path)) if path.exists())

    def check(self) -> list[str]:
        """What SQLite finds wrong with the file's structure."""
        try:
            found = [str(row[0]) for row in self.rows("PRAGMA integrity_check(10)")]
        except StoreError as error:
            return [str(error)]
        return [] if found == ["ok"] else [f"{self} is damaged: {' '.join(text.split())}" for text in found]

    def close(self) -> None:
        self._connections.close()

    def _read(self, statement: str, parameters: Mapping[str, Any]) -> Iterator[tuple[Any, ...]]:
        if self._frozen is not None and self._frozen != self._look():
            self.close()
        with self._connections.use() as held:
            cursor = held.connection.execute(statement, parameters)
            held.cursors.add(cursor)
            try:
                for row in cursor:
                    yield row
                    held.check()
            finally:
                held.cursors.discard(cursor)

    def _open(self) -> sqlite3.Connection:
        check_log(self.path)
        connection = self._connect(mode="rw")
        try:
            connection.execute("SELECT 1 FROM sqlite_master").fetchone()
        except sqlite3.OperationalError:
            connection.close()
            if os.access(self.path.absolute().parent, os.W_OK) or not os.access(self.path, os.R_OK):
                raise
            connection = self._open_frozen()
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA secure_delete = ON")
        connection.execute(f"PRAGMA journal_size_limit = {1 << 26}")
        return connection

    def _open_frozen(self) -> sqlite3.Connection:
        """Open a file whose log nobody here can make; `_look` tells a process that can write it."""
        if has_log(self.path):
            raise StoreError(
                f"{self} has a log, {log_of(self.path).name}, which can be read only in "
                "a writable folder; copy both to one"
            )
        self._frozen = self._look()
        return self._connect(immutable=1)

    def _connect(self, **options: object) -> sqlite3.Connection:
        where = address(self.path, **options)
        return sqlite3.connect(where, self.timeout, isolation_level=None, check_same_thread=False, uri=True)

    def _look(self) -> tuple[int, ...]:
        found = self.path.stat()
        return found.st_ino, found.st_size, found.st_mtime_ns, has_log(self.path)

    @contextmanager
    def explained(self) -> Iterator[None]:
        """Errors of SQLite and of the system as one sentence of a StoreError."""
        try:
            yield
        except FourierFTError:
            raise
        except (sqlite3.Error, OSError, UnicodeError, OverflowError) as error:
            raise self._explain(error) from error

    def _explain(self, error: Exception) -> StoreError:
        text = " ".join(str(error).split())
        is_full = text == "database or disk is full" or getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT)
        if is_full or (text in _FULL_PERHAPS and self._has_no_space()):
            return UnavailableError(f"no space is left for {self}; make room and try again; confirmed writes are kept")
        if text.startswith(("database is locked", "database table is locked")):
            return UnavailableError(
                f"another process is writing to {self} (waited {self.timeout:g} s); try again when it is done"
            )
        if text.startswith(_DAMAGED):
            return StoreError(
                f"{self} is damaged ({text}); `fourierft store verify` names what is lost; restore it from a backup"
            )
        if text.startswith("Cannot operate on a closed"):
            return StoreError(f"{self} was closed while it was in use; open it again")
        if isinstance(error, UnicodeEncodeError):
            return StoreError(f"{error.object!r:.200} has a character that is not valid text; choose another name")
        if text.startswith("Error binding parameter"):
            return StoreError(f"{self} takes text for names and whole numbers for versions ({text})")
        return StoreError(f"{self} cannot be used ({text}); check the disk, the path and its permissions")

    def _has_no_space(self) -> bool:
        try:
            return shutil.disk_usage(self.path.absolute().parent).free < _LEAST
        except OSError:
            return False


def _executor(connection: Callable[[], sqlite3.Connection]) -> Execute:
    def execute(statement: str, parameters: Parameters) -> list[tuple[Any, ...]]:
        if isinstance(parameters, Mapping):
            return connection().execute(statement, parameters).fetchall()
        connection().executemany(statement, parameters)
        return []

    return execute
