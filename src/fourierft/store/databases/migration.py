"""From format 1, whose SHA-256 covers the numbers alone, to format 2, in one transaction: a kill leaves the old one."""

from __future__ import annotations

import hashlib
from typing import Any

from fourierft.bars import bar
from fourierft.format.layout import read_layout
from fourierft.store.databases import schema
from fourierft.store.databases.postgres import PostgresDatabase
from fourierft.store.databases.sqlite import Execute, SQLiteFile
from fourierft.store.rows import Row
from fourierft.store.seals import seal, seal_blobs, seal_facts, seal_layout, seal_row


def upgrade(backend: SQLiteFile | PostgresDatabase) -> None:
    """Make a store of format 1 one of format 2; one that another process has made so stays.

    What is damaged is not sealed, and told when it is read. An older release of this package that has the store open
    can neither read nor write it any more, and says so.

    Raises: StoreError, if it cannot be written.
    """
    with backend.writing() as execute:
        facts = dict(execute(schema.READ_STORE, {}))
        if facts.get("format") != "1":
            return
        for statement in schema.UPGRADE:
            execute(statement.format(**backend.types), {})
        seals = {found: _seal_layout(execute, found) for (found,) in execute(schema.LAYOUT_IDS, {})}
        ids = [found for (found,) in execute(schema.IDS, {})]
        for found in bar(ids, "sealing", "adapters", delay=1):
            row = Row(*execute(schema.GET_ID, {"id": found})[0])
            is_whole = row.seal == hashlib.sha256(row.coefficients + (row.heads or b"")).digest()
            if is_whole and seals.get(row.layout):
                new = seal_row(row._asdict(), seals[row.layout], seal_blobs(row.coefficients, row.heads))
                execute(schema.SEAL_ID, {"id": found, "seal": new})
        for name, version, _ in execute(schema.ALL_REMOVED, {}):
            mark = {"name": name, "version": version, "seal": seal(name, version)}
            execute(schema.REMEMBER_REMOVED, mark)
        facts["format"] = str(schema.FORMAT)
        facts["seal"] = seal_facts(facts)
        execute(schema.ADD_STORE, [{"key": key, "value": facts[key]} for key in ("format", "seal")])


def _seal_layout(execute: Execute, layout_id: int) -> bytes:
    config, layers, shapes, digest, *_ = _only(execute(schema.READ_LAYOUT, {"id": layout_id}))
    layout = read_layout(config, layers, shapes)
    if layout.digest != digest:
        return b""
    execute(schema.SEAL_LAYOUT, {"id": layout_id, "seal": seal_layout(layout)})
    return seal_layout(layout)


def _only(rows: list[tuple[Any, ...]]) -> tuple[Any, ...]:
    (row,) = rows
    return row
