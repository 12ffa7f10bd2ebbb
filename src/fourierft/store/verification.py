"""Every byte of a store read and checked."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from fourierft.bars import bar
from fourierft.errors import FourierFTError, StoreError
from fourierft.format.layout import Layout
from fourierft.store.databases import schema
from fourierft.store.databases.connections import first
from fourierft.store.references import Alias
from fourierft.store.rows import Row, find_fault
from fourierft.store.tables import StoreTables


def find_faults(tables: StoreTables) -> list[str]:
    """One sentence a fault: of the file's structure, of layouts, of each version of each adapter, of aliases."""
    if not tables.is_made():
        return []
    faults = dict.fromkeys(tables.backend.check())

    def rows(statement: str) -> Iterator[tuple[Any, ...]]:
        try:
            yield from tables.rows(statement)
        except FourierFTError as error:
            faults[str(error)] = None

    def check(find: Callable[..., str | Layout | None], *what: Any) -> None:
        try:
            fault = find(*what)
        except FourierFTError as error:
            fault = str(error)
        if isinstance(fault, str):
            faults[fault] = None

    for (found,) in rows(schema.LAYOUT_IDS):
        check(tables.read_layout, found)
    ids = [found for (found,) in rows(schema.IDS)]
    for found in bar(ids, "verifying", "adapters", delay=1):
        check(_find_fault, tables, found)
    for alias in rows(schema.ALL_ALIASES):
        check(_find_alias_fault, tables, Alias(*alias))
    for removed in rows(schema.ALL_REMOVED):
        check(tables.check_removed, *removed)
    return list(faults)


def _find_fault(tables: StoreTables, found: int) -> str | None:
    columns = first(tables.rows(schema.GET_ID, {"id": found}), None)
    if columns is None:
        return None  # removed since
    row = Row(*columns)
    fault = find_fault(row, tables.layout(row.layout))
    if fault is None and tables.id_of(row.name, row.version) != found and tables.has_id(found):
        raise StoreError(f"{tables} is damaged: adapter {row.name!r} version {row.version} cannot be found by its name")
    return fault


def _find_alias_fault(tables: StoreTables, alias: Alias) -> str | None:
    tables.check_alias(alias)
    if tables.id_of(alias.name, alias.version) is None and tables.alias(alias.name, alias.alias) == alias.version:
        who = f"the alias {alias.alias!r} of {alias.name!r}"
        return f"{tables} is damaged: {who} is version {alias.version}, which is gone"
    return None
