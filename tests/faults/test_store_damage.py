"""The store's bytes under attack: bits that flip, sectors that go, columns that change."""

from __future__ import annotations

import os
import random
import signal
from pathlib import Path
from typing import Any

import pytest

from fourierft.errors import StoreError
from fourierft.store import AdapterStore
from tests.store.conftest import location, new_schema, server  # noqa: F401

from .conftest import Campaign
from .damage import describe, fill, judge, layout, numbers
from .processes import Location


@pytest.fixture
def made(tmp_path: Path) -> tuple[bytes, dict[str, Any]]:
    """The bytes of a store and what is true of it."""
    with AdapterStore(tmp_path / "made.db") as store:
        truth = fill(store)
    return (tmp_path / "made.db").read_bytes(), truth


def judge_bytes(content: bytes | bytearray, truth: dict[str, Any], path: Path) -> str | None:
    path.write_bytes(content)
    fault = judge(lambda: AdapterStore(path, create=False), truth)
    for left in path.parent.glob(f"{path.name}*"):
        left.unlink()
    return fault


def test_flipped_bits(campaign: Campaign, made: tuple[bytes, dict[str, Any]], tmp_path: Path) -> None:
    content, truth = made
    for _ in range(campaign.count(120, 3000)):
        place, bit = campaign.chance.randrange(len(content)), 1 << campaign.chance.randrange(8)
        changed = bytearray(content)
        changed[place] ^= bit
        fault = judge_bytes(changed, truth, tmp_path / "flipped.db")
        campaign.note(fault and f"bit {bit} of byte {place}: {fault}")


def test_damaged_sectors(campaign: Campaign, made: tuple[bytes, dict[str, Any]], tmp_path: Path) -> None:
    """512 bytes of zeros, of noise, or of another place."""
    content, truth = made
    for _ in range(campaign.count(40, 1000)):
        changed, chance = bytearray(content), campaign.chance
        place, other = (512 * chance.randrange(len(content) // 512) for _ in range(2))
        kind = chance.choice(["zeros", "noise", "another"])
        new = {"zeros": bytes(512), "noise": chance.randbytes(512), "another": content[other : other + 512]}[kind]
        changed[place : place + 512] = new
        fault = judge_bytes(changed, truth, tmp_path / "sector.db")
        campaign.note(fault and f"{kind} at {place} of {other}: {fault}")


def test_truncations(campaign: Campaign, made: tuple[bytes, dict[str, Any]], tmp_path: Path) -> None:
    content, truth = made
    for _ in range(campaign.count(30, 500)):
        length = campaign.chance.randrange(len(content))
        fault = judge_bytes(content[:length], truth, tmp_path / "short.db")
        campaign.note(fault and f"{length} bytes: {fault}")


def test_flipped_bits_of_a_log(campaign: Campaign, tmp_path: Path) -> None:
    """SQLite passes over what follows a damaged commit, so the last ones may be missing; nothing else may be wrong."""
    path = tmp_path / "killed.db"
    with AdapterStore(path) as store:
        store.put("first", layout(), numbers(0))
    child = os.fork()
    if child == 0:
        fill(AdapterStore(path))
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)
    file, log = path.read_bytes(), path.with_name("killed.db-wal").read_bytes()
    (tmp_path / "copy.db").write_bytes(file)
    (tmp_path / "copy.db-wal").write_bytes(log)
    with AdapterStore(tmp_path / "copy.db") as store:
        found = [(listed.name, listed.version) for listed in store.list(versions=True)]
        adapters = {key: describe(store.get(*key)) for key in found if key[0] != "first"}
    truth: dict[str, Any] = {"adapters": adapters, "latest": {}, "aliases": {}, "listed": []}
    for k in range(campaign.count(40, 1000)):
        copy = tmp_path / f"log{k}.db"
        changed = bytearray(log)
        changed[campaign.chance.randrange(len(log))] ^= 1 << campaign.chance.randrange(8)
        copy.write_bytes(file)
        copy.with_name(f"{copy.name}-wal").write_bytes(changed)
        campaign.note(judge(lambda copy=copy: AdapterStore(copy, create=False), truth, may_lose=True))
        for left in tmp_path.glob(f"{copy.name}*"):
            left.unlink()


COLUMNS = {
    "fourierft_store": ["key", "value"],
    "fourierft_layouts": ["digest", "basis", "n", "scaling", "config", "layers", "shapes", "seal"],
    "fourierft_adapters": [
        *("name", "version", "layout", "dtype", "created", "seal", "metrics", "record", "coefficients", "heads")
    ],
    "fourierft_removed": ["name", "version", "seal"],
    "fourierft_aliases": ["name", "alias", "version", "seal"],
}

KEYS = {"fourierft_store": "key", "fourierft_removed": "name", "fourierft_aliases": "alias"}


def test_changed_columns(campaign: Campaign, location: Location) -> None:  # noqa: F811
    """One column of one row becomes another's, or is changed in one place; then it is put back."""
    with AdapterStore(location) as store:
        truth = fill(store)
    store = AdapterStore(location)
    for _ in range(campaign.count(40, 400)):
        table = campaign.chance.choice(["fourierft_adapters", "fourierft_adapters", *COLUMNS])
        column = campaign.chance.choice(COLUMNS[table])
        key = "key" if table == "fourierft_store" else "name" if table[-1] == "d" else "id"
        key = key if table not in ("fourierft_aliases",) else "alias"
        rows = list(store._tables.backend.rows(f"SELECT {key}, {column} FROM {table} ORDER BY {key}"))
        where, old = campaign.chance.choice(rows)
        new = campaign.chance.choice([other for _, other in rows] + [change(old, campaign.chance)] * 3)
        if new == old or new is None:
            continue
        if not put_column(store, table, column, key, where, new):
            continue  # a constraint of the database refuses it
        fault = judge(lambda: AdapterStore(location, create=False), truth)
        campaign.note(fault and f"{table}.{column} of {where!r}, {old!r:.80} to {new!r:.80}: {fault}")
        put_column(store, table, column, key, new if key == column else where, old)
    store.close()


def change(value: Any, chance: random.Random) -> Any:
    """A value of the same kind that differs in one place."""
    if isinstance(value, bytes):
        place = chance.randrange(len(value))
        return value[:place] + bytes([value[place] ^ (1 << chance.randrange(8))]) + value[place + 1 :]
    if isinstance(value, str):
        place = chance.randrange(len(value))
        return value[:place] + chance.choice("x0{2") + value[place + 1 :]
    return None if value is None else value + chance.choice([-1, 1, 7])


def put_column(store: AdapterStore, table: str, column: str, key: str, where: Any, value: Any) -> bool:
    try:
        with store._tables.backend.writing() as execute:
            execute(f"UPDATE {table} SET {column} = :value WHERE {key} = :where", {"value": value, "where": where})
    except StoreError:
        return False
    return True
