"""Damage is found when it is read, named, and costs nothing else."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import pytest
import torch

from fourierft.adapters.store import AdapterStore, Layout
from fourierft.errors import StoreError


@pytest.mark.parametrize("column", ["coefficients", "heads"])
def test_flipped_byte_is_found_when_it_is_read(store: AdapterStore, layout: Layout, row: Any, column: str) -> None:
    for k, name in enumerate(["a", "b", "c"]):
        store.put(name, layout, row(k), heads={"head.weight": row(k).view(2, 30)})
    blob = next(store.tables.rows(f"SELECT {column} FROM fourierft_adapters WHERE name = 'b'"))[0]
    with store.tables.writing() as execute:
        changed = bytes([*blob[:-1], blob[-1] ^ 4])
        execute(f"UPDATE fourierft_adapters SET {column} = :blob WHERE name = 'b'", {"blob": changed})
    message = "adapter 'b' version 1 is damaged: its bytes have another SHA-256 than when it was added"
    for read in (lambda: store.get("b"), store.coefficients, lambda: list(store)):
        with pytest.raises(StoreError, match=message):
            read()
    assert len(store.verify()) == 1
    assert message in store.verify()[0]
    assert torch.equal(store.get("a").values, row(0))
    assert torch.equal(store.get("c").heads["head.weight"], row(2).view(2, 30))


def test_blob_of_another_length_is_found(store: AdapterStore, layout: Layout, row: Any) -> None:
    store.put("a", layout, row(0))
    with store.tables.writing() as execute:
        execute("UPDATE fourierft_adapters SET dtype = 'int8'", {})
    with pytest.raises(StoreError, match="'a' version 1 has 240 bytes of coefficients, but 60 of them in int8 take 72"):
        store.get("a")


def test_changed_layout_is_found(open_store: Callable[..., AdapterStore], layout: Layout, row: Any) -> None:
    open_store().put("a", layout, row(0))
    with open_store().tables.writing() as execute:
        execute("UPDATE fourierft_layouts SET config = REPLACE(config, '8.0', '9.0')", {})
    with pytest.raises(StoreError, match="the layout 1 has another SHA-256"):
        open_store().get("a")
    assert len(open_store().verify()) == 1


def test_digest_is_that_of_the_blobs(store: AdapterStore, layout: Layout, row: Any) -> None:
    store.put("a", layout, row(0), heads={"head": row(1)})
    coefficients, heads, digest = next(
        store.tables.rows("SELECT coefficients, heads, sha256 FROM fourierft_adapters WHERE name = 'a'")
    )
    assert coefficients == row(0).numpy().tobytes()
    assert hashlib.sha256(coefficients + heads).digest() == bytes(digest)
