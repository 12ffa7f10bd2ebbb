"""A store in a PostgreSQL database, through SQLAlchemy: the same tables and statements, for several machines."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

from fourierft.errors import StoreError, UnavailableError
from fourierft.extras import needs
from fourierft.store.databases.connections import LOST, first, in_use, keep_for_ever
from fourierft.store.databases.schema import TABLE_NAMES, TABLES
from fourierft.store.databases.sqlite import Execute, Parameters

SCHEMES = ("postgresql://", "postgres://")
_TYPES = {
    "id": "BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY",
    "blob": "BYTEA",
    "name": 'TEXT COLLATE "C"',  # in the order of SQLite
}
_UNCOMPRESSED = "ALTER TABLE fourierft_adapters ALTER COLUMN coefficients SET STORAGE EXTERNAL"
# the catalogue is read as tables are: to_regclass() may miss what was made while this transaction waited for a lock
_FOUND = "FROM pg_class WHERE relname = 'fourierft_store' AND pg_table_is_visible(oid)"
_SCHEMA = (  # of the tables, which is not the first of the search path for every user
    f"coalesce((SELECT relnamespace::regnamespace::text {_FOUND}), quote_ident(current_schema()))"
)
_LOCK = f"SELECT pg_advisory_xact_lock(hashtext('fourierft ' || {_SCHEMA}))"
_CLAIM = f"SELECT pg_try_advisory_lock(hashtext('fourierft training ' || {_SCHEMA}))"
_ON_DISK = (  # when acknowledged, whatever the server's or the user's setting
    "SELECT set_config('synchronous_commit', 'local', true) WHERE current_setting('synchronous_commit') = 'off'"
)
_OPTIONS = {  # of connections, unless the address has others
    "client_encoding": "utf8",
    "keepalives_idle": 30,  # seconds until a silent connection is looked after: firewalls forget those
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "prepare_threshold": None,  # a pool such as pgbouncer may give each transaction another connection
}
_ROWS_AT_ONCE = 64
_DISK_FULL, _LOCKED = "53100", "55P03"
_STARTING = ("system is starting up", "system is shutting down", "in recovery mode", "not yet accepting connections")


class _Held:
    """A connection in use.

    Attributes:
        kept: what was made on it, such as rows that are being read.
    """

    def __init__(self, connection: Any) -> None:
        self.connection, self.kept = connection, [connection]
        self._process = os.getpid()

    @property
    def is_ours(self) -> bool:
        """Whether this is the process that began it, not one that was forked meanwhile."""
        return self._process == os.getpid()

    def check(self) -> None:
        """Raise StoreError in a process that was forked meanwhile."""
        if not self.is_ours:
            raise StoreError(LOST)

    def release(self, lost: type[Exception]) -> None:
        """Give it back with nothing begun on it; one whose server is gone is thrown away.

        Args:
            lost: what is raised where the server is gone, which has ended what was begun.
        """
        if not self.is_ours:
            for each in self.kept:
                keep_for_ever(each)
            return
        with suppress(lost):
            self.connection.rollback()  # before rows are closed, which the server would be asked for
        for each in reversed(self.kept):
            with suppress(lost):
                each.close()


class PostgresDatabase:
    """The statements of a store, run on a server.

    Args:
        url: postgresql://user@host/database; `?options=-csearch_path%3DNAME` picks a schema, so that one database
            holds several stores.
        timeout: seconds to wait for the server, and for another writer.

    Raises: MissingExtraError, without SQLAlchemy and psycopg. StoreError, if the URL is none.
    """

    types = _TYPES

    def __init__(self, url: str, timeout: float):
        with needs("postgres", "a store in PostgreSQL"):
            import psycopg  # noqa: F401
            import sqlalchemy
        self._text = sqlalchemy.text
        self._error = sqlalchemy.exc.SQLAlchemyError
        self._away = (sqlalchemy.exc.OperationalError, sqlalchemy.exc.InterfaceError, sqlalchemy.exc.TimeoutError)
        self.timeout = timeout
        try:
            address = sqlalchemy.make_url(url).set(drivername="postgresql+psycopg")
        except (sqlalchemy.exc.ArgumentError, ValueError) as error:
            raise StoreError(f"{url} is not the address of a database; use postgresql://user@host/database") from error
        self._name = address.set(drivername="postgresql", query={}).render_as_string(hide_password=True)
        self._process = os.getpid()
        self._writing = threading.local()
        options = {"connect_timeout": max(2, int(timeout)), **_OPTIONS}
        self._engine = sqlalchemy.create_engine(
            address,
            connect_args={key: value for key, value in options.items() if key not in address.query},
            pool_pre_ping=True,  # replaces what a server that was restarted has closed
            pool_timeout=timeout,
        )

    def __str__(self) -> str:
        return self._name

    def is_made(self) -> bool:
        return first(self.rows(f"SELECT EXISTS (SELECT 1 {_FOUND})"), (False,))[0]

    def make(self, fill: Callable[[Execute], None], row_bytes: int) -> None:
        """Make the tables, all or none; those that are there stay.

        Args:
            fill: writes the first rows.
            row_bytes: has no meaning here.
        """
        with self.writing() as execute:
            if self.is_made():  # another process was first
                return
            for table in TABLES:
                execute(table.format(**self.types), {})
            execute(_UNCOMPRESSED, {})
            fill(execute)

    def check_writable(self) -> None:
        """See whether rows can be added.

        Raises: StoreError, if not.
        """
        kind, name, right = ("schema", "current_schema()", "CREATE")
        if self.is_made():
            kind, name, right = ("table", "'fourierft_adapters'", "INSERT")
        if not first(self.rows(f"SELECT has_{kind}_privilege({name}, '{right}')"), (False,))[0]:
            raise StoreError(f"{self} can't be written to: you have no right to {right} there; ask its owner")
        if first(self.rows("SELECT current_setting('transaction_read_only')"), ("on",))[0] == "on":
            raise StoreError(f"{self} can't be written to: it is a replica, or read-only for you; name the primary")

    @contextmanager
    def alone(self) -> Iterator[bool]:
        """Whether nobody else is in such a block; a connection of its own holds the place, whose end frees it."""
        with self._explained(), self._engine.connect() as connection:
            connection.execution_options(isolation_level="AUTOCOMMIT")
            connection.detach()
            try:
                yield bool(connection.execute(self._text(_CLAIM)).scalar())
            finally:
                with suppress(self._error):  # at once: what a connection held that ends is freed some time later
                    connection.execute(self._text("SELECT pg_advisory_unlock_all()"))

    def rows(self, statement: str, parameters: Mapping[str, Any] | None = None) -> Iterator[tuple[Any, ...]]:
        """Rows of a query, read as they are asked for; of the transaction that this thread is in, if it is in one.

        Who waits to write has a connection, so that who writes must need no second one: there may be none.
        """
        own: _Held | None = getattr(self._writing, "held", None)
        if own is not None and own.is_ours:
            with self._explained():
                found = own.connection.execute(self._text(statement), dict(parameters or {})).all()
            yield from map(tuple, found)
            return
        with self._explained(), self._connected() as held:
            streaming = held.connection.execution_options(stream_results=True, max_row_buffer=_ROWS_AT_ONCE)
            found = streaming.execute(self._text(statement), dict(parameters or {}))
            held.kept.append(found)
            for row in found:
                yield tuple(row)
                held.check()

    @contextmanager
    def writing(self) -> Iterator[Execute]:
        """A transaction: all that is executed in it is kept when the block ends well, and nothing of it otherwise.

        Raises: StoreError, if another process writes for too long or the server's disk is full.
        """
        with self._explained(), self._connected() as held:
            held.kept.append(held.connection.begin())
            held.connection.execute(self._text(f"SET LOCAL lock_timeout = {int(self.timeout * 1000)}"))
            held.connection.execute(self._text(_ON_DISK))
            held.connection.execute(self._text(_LOCK))

            def execute(statement: str, parameters: Parameters) -> list[tuple[Any, ...]]:
                held.check()
                result = held.connection.execute(self._text(statement), parameters)
                return [tuple(row) for row in result] if result.returns_rows else []

            self._writing.held = held
            try:
                yield execute
                held.check()
                held.connection.commit()
            finally:
                self._writing.held = None

    def size(self) -> int:
        """Bytes of the tables, indexes included."""
        tables = " + ".join(f"pg_total_relation_size('{name}')" for name in TABLE_NAMES)
        return int(first(self.rows(f"SELECT {tables}"), (0,))[0])

    def scrub(self) -> None:
        """Leave no bytes of what was removed in the tables.

        Raises: StoreError, if others use them for too long.
        """
        with self._explained(), self._connected() as held:
            alone = held.connection.execution_options(isolation_level="AUTOCOMMIT")
            alone.execute(self._text(f"SET lock_timeout = {int(self.timeout * 1000)}"))
            for name in TABLE_NAMES:
                alone.execute(self._text(f"VACUUM FULL {name}"))
            alone.execute(self._text("RESET lock_timeout"))

    def check(self) -> list[str]:
        """Nothing: the server watches over its own files."""
        return []

    def close(self) -> None:
        self._engine.dispose(close=self._process == os.getpid())

    @contextmanager
    def _connected(self) -> Iterator[_Held]:
        """A connection, given back at the end; that of a process before a fork is neither used nor closed."""
        with in_use():
            if self._process != os.getpid():
                self._engine.dispose(close=False)
                self._process = os.getpid()
            held = _Held(self._engine.connect())
            try:
                yield held
            finally:
                held.release(self._error)

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except UnicodeEncodeError as error:
            raise StoreError(
                f"{error.object!r:.200} has a character that is not valid text; choose another name"
            ) from error
        except self._error as error:
            raise self._explain(error) from error

    def _explain(self, error: Exception) -> StoreError:
        cause = getattr(error, "orig", None) or error
        state = getattr(cause, "sqlstate", None)
        if state == _DISK_FULL:
            return UnavailableError(f"no space is left for {self}; make room and try again; confirmed writes are kept")
        if state == _LOCKED:
            return UnavailableError(
                f"another process is writing to {self} (waited {self.timeout:g} s); try again when it is done"
            )
        if any(word in str(cause) for word in _STARTING):
            return UnavailableError(
                f"{self} is starting or stopping; try again when it is up; confirmed writes are kept"
            )
        told = getattr(getattr(cause, "diag", None), "message_primary", None)
        text = " ".join((told or str(cause)).split())
        if "NUL (0x00)" in text:
            return StoreError("a name cannot contain a NUL character; choose another name")
        kind = UnavailableError if isinstance(error, self._away) else StoreError
        return kind(f"{self} cannot be used ({text}); check the address, the server and your rights there")
