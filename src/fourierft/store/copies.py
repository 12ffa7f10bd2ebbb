"""A store as of one moment: copied into a file while others write, and brought back while others read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from fourierft.bars import bar
from fourierft.errors import OutputExistsError, StoreError
from fourierft.files import workspace
from fourierft.format.layout import Layout
from fourierft.store.databases import schema
from fourierft.store.databases.connections import first
from fourierft.store.databases.sqlite import Execute, SQLiteFile
from fourierft.store.layouts import layout_columns
from fourierft.store.references import Alias
from fourierft.store.rows import Row, check_row
from fourierft.store.seals import seal
from fourierft.store.tables import StoreTables

_BATCH_BYTES = 1 << 24


def backup(tables: StoreTables, file: str | Path) -> None:
    if not isinstance(tables.backend, SQLiteFile):
        raise StoreError(
            f"{tables} is a PostgreSQL database; back it up with its own tool, such as `pg_dump --table='fourierft_*'`"
        )
    if not tables.is_made():
        raise StoreError(f"{tables} has no adapters; add some first")
    target = SQLiteFile(file, tables.backend.timeout)
    taken = OutputExistsError(f"{target} exists; name another file")
    if target.path.exists():
        raise taken
    if not target.path.absolute().parent.is_dir():
        raise StoreError(f"there is no folder {target.path.absolute().parent} for the backup; make it first")
    with target.explained(), workspace(target.path) as folder:
        tables.backend.copy(folder / "store")
        if not target.install(folder / "store"):
            raise taken


def restore(tables: StoreTables, file: str | Path) -> int:
    source = StoreTables(file, None, create=False, timeout=tables.backend.timeout)
    try:
        return _restore(tables, source)
    finally:
        source.close()


def _restore(tables: StoreTables, source: StoreTables) -> int:
    if isinstance(source.backend, SQLiteFile) and isinstance(tables.backend, SQLiteFile):
        ours, theirs = tables.backend.path, source.backend.path
        if ours.exists() and ours.samefile(theirs):
            raise StoreError(f"{tables} is the store itself; name a backup of it")
    assert source.base is not None
    count = 0

    def fill(execute: Execute) -> None:
        nonlocal count
        count = _replace(execute, source)

    if tables.is_made():
        tables.check_base(source.base, "the backup was made")
        with tables.writing() as execute:
            fill(execute)
    else:
        row = first(source.rows(schema.ALL_ROWS), None)
        blobs = (Row(*row).coefficients, Row(*row).heads or b"") if row else ()
        tables.backend.make(fill, sum(map(len, blobs)))
        if not count and first(source.rows(schema.COUNT), (0,))[0]:  # another process was first
            raise StoreError(f"another process has just created {tables}; restore again to replace its content")
        tables.is_made()
    return count


def _replace(execute: Execute, source: StoreTables) -> int:
    """Replace all rows, under ids that no row had before."""
    given: dict[str, int] = {}
    for name, version, *_ in (*execute(schema.ALL_REMOVED, {}), *execute(schema.ALL_HIGHEST, {})):
        given[name] = max(version, given.get(name, 0))
    for statement in schema.EMPTY:
        execute(statement, {})
    execute(schema.ADD_STORE, [{"key": key, "value": value} for key, value in source.rows(schema.READ_STORE)])
    ids = {found: _add_layout(execute, source.read_layout(found)) for (found,) in source.rows(schema.LAYOUT_IDS)}
    count = 0
    with bar(None, "restoring", "adapters", delay=1) as progress:
        for batch in _batches(source):
            execute(schema.ADD, [{**row, "layout": ids[row["layout"]]} for row in batch])
            count += len(batch)
            progress.update(len(batch))
    for name, version, kept in source.rows(schema.ALL_REMOVED):
        source.check_removed(name, version, kept)
        given[name] = max(version, given.get(name, 0))
    for name, version in given.items():
        execute(schema.REMEMBER_REMOVED, {"name": name, "version": version, "seal": seal(name, version)})
    for found in source.rows(schema.ALL_ALIASES):
        execute(schema.SET_ALIAS, source.check_alias(Alias(*found))._asdict())
    return count


def _add_layout(execute: Execute, layout: Layout) -> int:
    execute(schema.ADD_LAYOUT, layout_columns(layout))
    return int(execute(schema.FIND_LAYOUT, {"digest": layout.digest})[0][0])


def _batches(source: StoreTables) -> Iterator[list[Mapping[str, Any]]]:
    """Rows of a backup, each checked, up to 16 MiB at once."""
    rows, size = (Row(*found) for found in source.rows(schema.ALL_ROWS)), 0
    batch: list[Mapping[str, Any]] = []
    for row in rows:
        check_row(row, source.layout(row.layout))
        batch.append(row._asdict())
        size += len(row.coefficients) + len(row.heads or b"")
        if size > _BATCH_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch
