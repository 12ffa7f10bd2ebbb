"""Stores of format 1, as releases before wrote them, become stores of format 2, whenever they are killed."""

from __future__ import annotations

import hashlib
import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from fourierft.errors import StoreError
from fourierft.store import AdapterStore, Layout
from fourierft.store.databases.postgres import PostgresDatabase
from fourierft.store.databases.sqlite import SQLiteFile

TABLES = (  # of format 1, word for word
    "CREATE TABLE fourierft_store (key TEXT PRIMARY KEY, value TEXT NOT NULL)",
    "CREATE TABLE fourierft_layouts (id {id}, digest TEXT NOT NULL UNIQUE, basis TEXT NOT NULL, n INTEGER NOT NULL, "
    "scaling DOUBLE PRECISION NOT NULL, config TEXT NOT NULL, layers TEXT NOT NULL, shapes TEXT)",
    "CREATE TABLE fourierft_adapters (id {id}, name {name} NOT NULL, version INTEGER NOT NULL, layout INTEGER NOT NULL "
    "REFERENCES fourierft_layouts (id), dtype TEXT NOT NULL, created TEXT NOT NULL, sha256 {blob} NOT NULL, "
    "metrics TEXT, record TEXT, coefficients {blob} NOT NULL, heads {blob}, UNIQUE (name, version))",
    "CREATE TABLE fourierft_removed (name {name} PRIMARY KEY, version INTEGER NOT NULL)",
)
NAMES = [f"t{k}" for k in range(12)]


def backend_of(location: str | Path) -> SQLiteFile | PostgresDatabase:
    return PostgresDatabase(location, 30) if isinstance(location, str) else SQLiteFile(location, 30)


@pytest.fixture
def old_store(location: str | Path, layout: Layout, row: Any, monkeypatch: pytest.MonkeyPatch) -> str | Path:
    """A store of format 1: twelve adapters, `t3` with a head and version 2, versions 1 to 4 of `gone` removed."""
    backend = backend_of(location)
    for module in ("sqlite", "postgres"):
        monkeypatch.setattr(f"fourierft.store.databases.{module}.TABLES", TABLES)
    shared = {"layout": 1, "dtype": "float32", "created": "2026-01-01T00:00:00Z", "metrics": None, "record": None}

    def fill(execute: Callable[..., Any]) -> None:
        facts = [{"key": "format", "value": "1"}, {"key": "base_model", "value": "org/base"}]
        execute("INSERT INTO fourierft_store (key, value) VALUES (:key, :value)", facts)
        digest = hashlib.sha256(f"{layout.config_text}\n{layout.layers_text}".encode()).hexdigest()
        columns = {"digest": digest, "basis": "uniform:5", "n": 60, "scaling": 8.0, "config": layout.config_text}
        columns |= {"layers": layout.layers_text, "shapes": layout.shapes_text}
        execute(
            "INSERT INTO fourierft_layouts (digest, basis, n, scaling, config, layers, shapes) "
            "VALUES (:digest, :basis, :n, :scaling, :config, :layers, :shapes)",
            columns,
        )
        for k, name in enumerate([*NAMES, "t3"]):
            blob, heads = row(k).numpy().tobytes(), b"" if name != "t3" else None
            given = {**shared, "name": name, "version": 1 + (k == 12), "coefficients": blob, "heads": heads}
            given |= {"sha256": hashlib.sha256(blob).digest(), "metrics": json.dumps({"k": k})}
            execute(
                "INSERT INTO fourierft_adapters (name, version, layout, dtype, created, sha256, metrics, record, "
                "coefficients, heads) VALUES (:name, :version, :layout, :dtype, :created, :sha256, :metrics, :record, "
                ":coefficients, :heads)",
                given,
            )
        execute("INSERT INTO fourierft_removed (name, version) VALUES ('gone', 4)", {})

    backend.make(fill, 300)
    backend.close()
    monkeypatch.undo()
    return location


def test_old_store_is_read_and_written_as_a_new_one(old_store: str | Path, layout: Layout, row: Any) -> None:
    with AdapterStore(old_store) as store:
        assert dict(store._tables.rows("SELECT key, value FROM fourierft_store"))["format"] == "2"
        assert store.verify() == []
        assert sorted(store.names()) == sorted(NAMES)
        for k, name in enumerate(NAMES):
            assert torch.equal(store.get(name, 1).values, row(k))
        assert torch.equal(store.get("t3").values, row(12))
        assert store.get("t3").metrics == {"k": 12}
        assert store.base.name == "org/base"
        assert store.put("gone", layout, row(0)) == 5
        assert store.put("t3", layout, row(0)) == 3
        store.set_alias("t3", "live", 1)
    with AdapterStore(old_store, create=False) as store:
        assert store.verify() == []
        assert store.resolve("t3@live").version == 1


def test_what_was_damaged_before_is_not_sealed(old_store: str | Path, row: Any) -> None:
    backend = backend_of(old_store)
    with backend.writing() as execute:
        execute("UPDATE fourierft_adapters SET coefficients = :blob WHERE name = 't5'", {"blob": b"\0" * 240})
    backend.close()
    with AdapterStore(old_store) as store:
        with pytest.raises(StoreError, match="'t5' version 1 is damaged"):
            store.get("t5")
        assert len(store.verify()) == 1
        assert torch.equal(store.get("t6").values, row(6))


def test_layout_that_was_damaged_before_is_not_sealed(old_store: str | Path) -> None:
    backend = backend_of(old_store)
    with backend.writing() as execute:
        execute("UPDATE fourierft_layouts SET config = REPLACE(config, '8.0', '9.0')", {})
    backend.close()
    with AdapterStore(old_store) as store, pytest.raises(StoreError, match="the SHA-256 of the layout 1 has changed"):
        store.get("t0")


def test_older_process_is_told_and_adds_nothing_unsealed(old_store: str | Path) -> None:
    old = backend_of(old_store)
    assert next(old.rows("SELECT COUNT(sha256) FROM fourierft_adapters"))[0] == 13
    AdapterStore(old_store).close()
    with pytest.raises(StoreError, match="sha256"):
        next(old.rows("SELECT sha256 FROM fourierft_adapters"))
    with pytest.raises(StoreError, match="sha256"), old.writing() as execute:
        execute(
            "INSERT INTO fourierft_adapters (name, version, layout, dtype, created, sha256, coefficients) "
            "SELECT 'x', 1, layout, dtype, created, sha256, coefficients FROM fourierft_adapters WHERE name = 't0'",
            {},
        )
    old.close()


@pytest.mark.parametrize("seed", range(4))
def test_migration_may_be_killed_at_any_statement(old_store: str | Path, row: Any, seed: int) -> None:
    """A child is killed before its n-th statement, again and again, until one comes through."""
    kills, most = 0, 40
    for n in torch.randperm(most, generator=torch.Generator().manual_seed(seed)).tolist()[:10]:
        if not migrate_until(old_store, n):
            break
        kills += 1
        with_old = backend_of(old_store)
        facts = dict(with_old.rows("SELECT key, value FROM fourierft_store"))
        with_old.close()
        assert facts["format"] == "1"
    assert kills > 0
    with AdapterStore(old_store) as store:
        assert store.verify() == []
        assert all(torch.equal(store.get(name, 1).values, row(k)) for k, name in enumerate(NAMES))


def migrate_until(location: str | Path, n: int) -> bool:
    """Open the store in a child that kills itself before the n-th statement; whether it came to that."""
    child = os.fork()
    if child == 0:
        count = 0

        def counted(execute: Callable[..., Any]) -> Callable[..., Any]:
            def call(*arguments: Any) -> Any:
                nonlocal count
                if count == n:
                    os.kill(os.getpid(), signal.SIGKILL)
                count += 1
                return execute(*arguments)

            return call

        kind: Any = PostgresDatabase if isinstance(location, str) else SQLiteFile
        original = kind.writing
        kind.writing = lambda self: counting(original(self), counted)
        try:
            AdapterStore(location)
        finally:
            os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL


class counting:  # noqa: N801
    """A context manager whose `execute` is counted."""

    def __init__(self, inner: Any, counted: Callable[..., Any]) -> None:
        self.inner, self.counted = inner, counted

    def __enter__(self) -> Any:
        return self.counted(self.inner.__enter__())

    def __exit__(self, *exception: object) -> Any:
        return self.inner.__exit__(*exception)
