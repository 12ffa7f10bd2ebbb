"""Every byte of a store read and checked."""

from __future__ import annotations

from tqdm import tqdm

from fourierft.adapters.store import schema
from fourierft.adapters.store.rows import find_fault
from fourierft.adapters.store.tables import StoreTables
from fourierft.errors import StoreError


def find_faults(tables: StoreTables) -> list[str]:
    """One sentence a fault: of the file's structure, of layouts, of each version of each adapter."""
    if not tables.is_made():
        return []
    faults = tables.backend.check()
    keys = list(tables.rows(schema.KEYS))
    for name, version in tqdm(keys, unit=" adapters", desc="verifying", disable=None, delay=1):
        try:
            row = tables.row(name, version)
            fault = find_fault(row, tables.layout(row.layout))
        except StoreError as error:
            fault = str(error)
        if fault is not None and fault not in faults:
            faults.append(fault)
    return faults
