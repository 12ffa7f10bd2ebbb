"""Damage is found when it is read, named, and costs nothing else."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from typing import Any

import pytest
import torch

from fourierft.errors import StoreError
from fourierft.store import AdapterStore, Layout


@pytest.mark.parametrize("column", ["coefficients", "heads"])
def test_flipped_byte_is_found_when_it_is_read(store: AdapterStore, layout: Layout, row: Any, column: str) -> None:
    for k, name in enumerate(["a", "b", "c"]):
        store.put(name, layout, row(k), heads={"head.weight": row(k).view(2, 30)})
    blob = next(store._tables.rows(f"SELECT {column} FROM fourierft_adapters WHERE name = 'b'"))[0]
    with store._tables.writing() as execute:
        changed = bytes([*blob[:-1], blob[-1] ^ 4])
        execute(f"UPDATE fourierft_adapters SET {column} = :blob WHERE name = 'b'", {"blob": changed})
    message = "adapter 'b' version 1 is damaged: it has another SHA-256 than when it was added"
    for read in (lambda: store.get("b"), store.coefficients, lambda: list(store)):
        with pytest.raises(StoreError, match=message):
            read()
    assert len(store.verify()) == 1
    assert message in store.verify()[0]
    assert torch.equal(store.get("a").values, row(0))
    assert torch.equal(store.get("c").heads["head.weight"], row(2).view(2, 30))


CHANGES = [  # of one column each, and of two rows or layouts swapped
    "UPDATE fourierft_adapters SET name = 'x' WHERE name = 'b'",
    "UPDATE fourierft_adapters SET version = 2 WHERE name = 'b'",
    "UPDATE fourierft_adapters SET layout = (SELECT MAX(id) FROM fourierft_layouts) WHERE name = 'b'",
    "UPDATE fourierft_adapters SET dtype = 'int8' WHERE name = 'b'",
    "UPDATE fourierft_adapters SET dtype = 'none' WHERE name = 'b'",
    "UPDATE fourierft_adapters SET created = '2020-01-01T00:00:00Z' WHERE name = 'b'",
    "UPDATE fourierft_adapters SET metrics = NULL WHERE name = 'b'",
    "UPDATE fourierft_adapters SET metrics = '{' WHERE name = 'b'",
    "UPDATE fourierft_adapters SET record = '{}' WHERE name = 'b'",
    "UPDATE fourierft_adapters SET heads = NULL WHERE name = 'b'",
    "UPDATE fourierft_adapters SET seal = coefficients WHERE name = 'b'",
    "UPDATE fourierft_layouts SET n = n + 1 WHERE id = 1",
    "UPDATE fourierft_layouts SET scaling = 800.0 WHERE id = 1",
    "UPDATE fourierft_layouts SET basis = 'uniform:6' WHERE id = 1",
    "UPDATE fourierft_layouts SET digest = 'x' WHERE id = 1",
    "UPDATE fourierft_layouts SET config = REPLACE(config, '8.0', '9.0') WHERE id = 1",
    "UPDATE fourierft_layouts SET config = 'null' WHERE id = 1",
    "UPDATE fourierft_layouts SET layers = REPLACE(layers, '20', '21') WHERE id = 1",
    "UPDATE fourierft_layouts SET shapes = REPLACE(shapes, '16', '17') WHERE id = 1",
    "UPDATE fourierft_layouts SET shapes = NULL WHERE id = 1",
]


@pytest.mark.parametrize("change", CHANGES)
def test_change_of_any_column_is_found_by_all_who_read(
    open_store: Callable[..., AdapterStore], make_layout: Any, row: Any, change: str
) -> None:
    store = open_store()
    store.put("b", make_layout(), row(0), heads={"head": row(1)}, metrics={"accuracy": 0.5})
    store.put("other", make_layout(random_loc_seed=6), row(2), heads={"head": row(1)})
    assert store.verify() == []
    with store._tables.writing() as execute:
        execute(change, {})
    fresh = open_store()
    (name,) = set(fresh.names()) - {"other"}
    for read in (lambda: fresh.get(name), lambda: list(fresh), lambda: list(fresh.blocks([name]))):
        with pytest.raises(StoreError, match=r"(damaged|gone)"):
            read()
    faults = fresh.verify()
    assert faults
    assert all("damaged" in fault and "\n" not in fault for fault in faults)
    if "heads" not in change:  # a list reads no blobs
        with pytest.raises(StoreError, match="damaged"):
            list(fresh.list())


def test_swapped_names_are_found(store: AdapterStore, layout: Layout, row: Any) -> None:
    for k, name in enumerate("ab"):
        store.put(name, layout, row(k))
    with store._tables.writing() as execute:
        for old, new in (("a", "x"), ("b", "a"), ("x", "b")):
            execute("UPDATE fourierft_adapters SET name = :new WHERE name = :old", {"old": old, "new": new})
    assert len(store.verify()) == 2
    with pytest.raises(StoreError, match="'a' version 1 is damaged"):
        store.get("a")


def test_changed_alias_is_found(store: AdapterStore, layout: Layout, row: Any) -> None:
    for k in range(2):
        store.put("a", layout, row(k))
    store.set_alias("a", "live", 2)
    with store._tables.writing() as execute:
        execute("UPDATE fourierft_aliases SET version = 1", {})
    with pytest.raises(StoreError, match="the SHA-256 of the alias 'live' of 'a' has changed"):
        store.resolve("a@live")
    assert len(store.verify()) == 1
    store.set_alias("a", "live", 1)
    with store._tables.writing() as execute:
        execute("DELETE FROM fourierft_adapters WHERE version = 1", {})
    with pytest.raises(StoreError, match="the alias 'live' of 'a' names version 1, which is missing"):
        store.resolve("a@live")
    assert len(store.verify()) == 1


def test_changed_note_of_what_was_removed_is_found(store: AdapterStore, layout: Layout, row: Any) -> None:
    for k in range(3):
        store.put("a", layout, row(k))
    store.remove("a", 3)
    with store._tables.writing() as execute:
        execute("UPDATE fourierft_removed SET version = 1", {})
    assert len(store.verify()) == 1
    with pytest.raises(StoreError, match="the SHA-256 of the note of the removed versions of 'a'"):
        store.put("a", layout, row(3))


def test_changed_base_is_found(open_store: Callable[..., AdapterStore], layout: Layout, row: Any) -> None:
    open_store().put("a", layout, row(0))
    with open_store()._tables.writing() as execute:
        execute("UPDATE fourierft_store SET value = 'org/other' WHERE key = 'base_model'", {})
    with pytest.raises(StoreError, match="the SHA-256 of its base's record"):
        open_store()


def test_seals_are_those_of_the_documentation(store: AdapterStore, layout: Layout, row: Any) -> None:
    store.put("ä", layout, row(0), heads={"head": row(1)}, metrics={"accuracy": 0.5})
    coefficients, heads, seal, created, metrics = next(
        store._tables.rows("SELECT coefficients, heads, seal, created, metrics FROM fourierft_adapters")
    )
    *texts, layout_seal = next(store._tables.rows("SELECT config, layers, shapes, seal FROM fourierft_layouts"))
    assert coefficients == row(0).numpy().tobytes()
    assert hashlib.sha256(json.dumps(texts).encode()).digest() == bytes(layout_seal)
    first = hashlib.sha256(coefficients + heads).digest()[:16]
    columns = ["ä", 1, "float32", created, metrics, None, bytes(layout_seal).hex(), first.hex()]
    assert bytes(seal) == first + hashlib.sha256(json.dumps(columns).encode()).digest()[:16]
