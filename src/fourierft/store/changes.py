"""What changes a store, each in one transaction: rows added, versions removed, aliases moved."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from fourierft.errors import StoreError
from fourierft.format.identity import BaseIdentity
from fourierft.format.layout import Layout
from fourierft.store.databases import schema
from fourierft.store.databases.sqlite import Execute
from fourierft.store.layouts import layout_columns
from fourierft.store.references import Alias, check_alias, read_reference
from fourierft.store.seals import seal, seal_layout, seal_row
from fourierft.store.tables import StoreTables

_NAMES_AT_ONCE = 500  # in one statement


def insert(
    tables: StoreTables, layout: Layout, base: BaseIdentity, rows: Sequence[Mapping[str, Any]], exist_ok: bool = True
) -> int:
    """Add rows of one layout in one transaction, with the tables and the layout where they are not there yet.

    Args:
        tables: of the store.
        layout: of all rows.
        base: that they were made for.
        rows: of `additions.make_rows`.
        exist_ok: False refuses names that are there.

    Returns: version that the last row got.

    Raises: StoreError, if the base is another, a name is there that must not, it reads as a version or an alias of
        another, or nothing can be written.
    """
    tables.make(base, len(rows[0]["coefficients"]) + len(rows[0]["heads"] or b""))
    tables.check_base(base, "what is added was made")
    with tables.writing() as execute:
        layout_id, layout_seal = _keep_layout(tables, execute, layout)
        for name in dict.fromkeys(row["name"] for row in rows if not exist_ok or "@" in row["name"]):
            _check_free(tables, execute, name, exist_ok)
        given = _highest(tables, execute, [row["name"] for row in rows])
        sealed = []
        for row in rows:
            given[row["name"]] = version = given.get(row["name"], 0) + 1
            whole = {**row, "version": version, "layout": layout_id}
            sealed.append({**whole, "seal": seal_row(whole, layout_seal, row["seal"])})
        execute(schema.ADD, sealed)
        return version


def remove(tables: StoreTables, name: str, version: int | None = None, forget: bool = False) -> int:
    """Remove a version of an adapter, or all of them with its aliases.

    Args:
        tables: of the store.
        name: of the adapter.
        version: all if None.
        forget: once nothing is left of it, forget the name as well, and with it which numbers were given.

    Returns: how many versions are gone.

    Raises: MissingAdapterError, if there is none. StoreError, if an alias is that version.
    """
    if not tables.versions(name):
        raise tables.missing(name, version)
    with tables.writing() as execute:
        there = execute(schema.LAYOUTS_OF, {"name": name})
        gone = [(number, layout) for number, layout in there if version in (None, number)]
        for alias in _aliases(execute, name):
            if version == alias.version:
                raise StoreError(
                    f"{name!r} version {version} has the alias {name}@{alias.alias}; move or "
                    "remove that alias first (`fourierft store alias`)"
                )
            if version is None:
                execute(schema.REMOVE_ALIAS, {"name": name, "alias": alias.alias})
        highest = _highest(tables, execute, [name])[name] if gone else 0
        for number, layout in gone:
            execute(schema.REMOVE, {"name": name, "version": number})
            execute(schema.REMOVE_LAYOUT, {"id": layout})
        if forget and len(gone) == len(there):
            execute(schema.FORGET_REMOVED, {"name": name})
        elif gone:
            execute(schema.REMEMBER_REMOVED, {"name": name, "version": highest, "seal": seal(name, highest)})
    if not gone:
        raise tables.missing(name, version)
    return len(gone)


def erase(tables: StoreTables, name: str, version: int | None = None) -> int:
    """Remove, and leave no bytes of it in the store; may be called again where it could not be ended.

    Returns: how many versions are gone.

    Raises: StoreError, as `remove`, or if bytes are still there.
    """
    count = 0
    if tables.versions(name):
        count = remove(tables, name, version, forget=True)
    elif tables.is_made():
        with tables.writing() as execute:
            execute(schema.FORGET_REMOVED, {"name": name})
    try:
        tables.backend.scrub()
    except StoreError as error:
        raise StoreError(
            f"{name!r} is removed, but its bytes may still be in the store: {error}; run the command with --erase again"
        ) from error
    return count


def set_alias(tables: StoreTables, name: str, alias: str, version: int) -> None:
    """Let an alias be a version from now on, whatever it was before.

    Raises: MissingAdapterError, if the version is not there. StoreError, if there is an adapter that is called so.
    """
    check_alias(alias)
    if tables.id_of(name, version) is None:
        raise tables.missing(name, version)
    with tables.writing() as execute:
        if not execute(schema.FIND_VERSION, {"name": name, "version": version}):
            raise tables.missing(name, version)
        if execute(schema.VERSIONS, {"name": f"{name}@{alias}"}):
            raise StoreError(f"{tables} has an adapter {name + '@' + alias!r}; choose another alias")
        columns = {"name": name, "alias": alias, "version": version}
        execute(schema.SET_ALIAS, {**columns, "seal": seal(name, alias, version)})


def remove_alias(tables: StoreTables, name: str, alias: str) -> None:
    """Remove an alias; the version stays.

    Raises: MissingAdapterError, if there is none.
    """
    if not tables.versions(name):
        raise tables.missing(name, None)
    with tables.writing() as execute:
        if not execute(schema.ALIAS, {"name": name, "alias": alias}):
            raise tables.no_alias(name, alias)
        execute(schema.REMOVE_ALIAS, {"name": name, "alias": alias})


def _keep_layout(tables: StoreTables, execute: Execute, layout: Layout) -> tuple[int, bytes]:
    """Id and seal of a layout, which is added where it is not there; its shapes are those it came with first."""
    found = execute(schema.FIND_LAYOUT, {"digest": layout.digest})
    if found:
        return found[0][0], seal_layout(tables.layout(found[0][0]))
    execute(schema.ADD_LAYOUT, layout_columns(layout))
    return execute(schema.FIND_LAYOUT, {"digest": layout.digest})[0][0], seal_layout(layout)


def _check_free(tables: StoreTables, execute: Execute, name: str, exist_ok: bool) -> None:
    there = execute(schema.VERSIONS, {"name": name})
    if there and not exist_ok:
        raise StoreError(
            f"{tables} already has an adapter {name!r}, version {there[-1][0]}; choose "
            "another name, or allow the next version"
        )
    reference = read_reference(name)
    if there or reference is None:
        return
    other, version, alias = reference
    statement = schema.ALIAS if version is None else schema.FIND_VERSION
    if execute(statement, {"name": other, "version": version, "alias": alias}):
        raise StoreError(
            f"the name {name!r} means {'the alias ' + alias if alias else f'version {version}'} of {other!r}; choose "
            "another"
        )


def _highest(tables: StoreTables, execute: Execute, names: Sequence[str]) -> dict[str, int]:
    """The highest version that was ever given to each of these names, for those that had one."""
    highest: dict[str, int] = {}
    for part in _parts(dict.fromkeys(names)):
        marks = {f"n{k}": name for k, name in enumerate(part)}
        wanted = ", ".join(f":{mark}" for mark in marks)
        for name, version, kept in execute(schema.REMOVED.format(names=wanted), marks):
            tables.check_removed(name, version, kept)
            highest[name] = version
        for name, version in execute(schema.HIGHEST.format(names=wanted), marks):
            highest[name] = max(version, highest.get(name, 0))
    return highest


def _parts(names: Mapping[str, None]) -> Iterator[list[str]]:
    waiting = iter(names)
    while part := list(itertools.islice(waiting, _NAMES_AT_ONCE)):
        yield part


def _aliases(execute: Execute, name: str) -> list[Alias]:
    return [Alias(*found) for found in execute(schema.ALIASES, {"name": name})]
