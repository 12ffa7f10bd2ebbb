"""Seals: the SHA-256 of everything that a row says, which is checked whenever it is read.

A seal is the SHA-256 of a JSON array of the columns, null for what is missing and hexadecimal digits for bytes. That of
an adapter has two halves of 16 bytes, each the beginning of a SHA-256: that of its blobs one behind the other, and that
of its other columns and the first half, so that a list can be checked without reading the numbers.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Mapping
from typing import Any

from fourierft.format.layout import Layout

HALF = 16  # bytes


def seal(*columns: Any) -> bytes:
    """The SHA-256 of columns.

    Args:
        columns: text, numbers, bytes or None; damage may make anything of them.
    """
    return hashlib.sha256(json.dumps(columns, default=_write).encode()).digest()


def seal_facts(facts: Mapping[str, str]) -> str:
    """That of what a store says of itself, in hexadecimal digits: (key, value) in the order of keys."""
    return seal(*sorted((pair for pair in facts.items() if pair[0] != "seal"), key=str)).hex()


@functools.lru_cache(maxsize=4096)
def seal_layout(layout: Layout) -> bytes:
    """That of a layout: of its config, layers and shapes; the other columns follow from them."""
    return seal(*layout.texts)


def seal_blobs(coefficients: bytes, heads: bytes | None) -> bytes:
    """The first half of an adapter's, of its blobs one behind the other."""
    return hashlib.sha256(coefficients + (heads or b"")).digest()[:HALF]


def seal_row(row: Mapping[str, Any], layout: bytes, blobs: bytes) -> bytes:
    """That of an adapter.

    Args:
        row: its columns, without the blobs.
        layout: seal of its layout.
        blobs: `seal_blobs` of it.
    """
    columns = (row[key] for key in ("name", "version", "dtype", "created", "metrics", "record"))
    return blobs + seal(*columns, layout, blobs)[:HALF]


def _write(value: Any) -> str:
    return value.hex() if isinstance(value, bytes) else repr(value)
