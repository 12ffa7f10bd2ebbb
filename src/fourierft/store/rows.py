"""A row of the table of adapters: checked, and turned into numbers."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import torch

from fourierft.errors import StoreError
from fourierft.format.encoding import decode, encoded_bytes
from fourierft.format.layout import Layout
from fourierft.store.adapter import Adapter, unpack_heads
from fourierft.store.seals import HALF, seal_blobs, seal_layout, seal_row

_BLOCK_BYTES = 1 << 24


class Row(NamedTuple):
    """The columns of the table, in the order in which they are selected; `layout` is an id."""

    name: str
    version: int
    layout: int
    dtype: str
    created: str
    seal: bytes
    metrics: str | None
    record: str | None
    coefficients: bytes
    heads: bytes | None


class Listed(NamedTuple):
    """A line of `list`.

    Fields:
        name, version, dtype, created: as of `Adapter`.
        n: coefficients of all layers.
        scaling: of all layers.
        metrics: scores and whatever else was given with it.
        bytes: of coefficients and heads, as kept.
    """

    name: str
    version: int
    dtype: str
    created: str
    n: int
    scaling: float
    metrics: dict[str, Any]
    bytes: int


class Block(NamedTuple):
    """Adapters that follow one another and share a layout.

    Fields:
        names: of the adapters.
        layout: of all of them.
        values: float32 [adapters, total n], without the scaling.
    """

    names: tuple[str, ...]
    layout: Layout
    values: torch.Tensor


def find_fault(row: Row, layout: Layout) -> str | None:
    """What is wrong with a row, in one sentence; None if nothing is."""
    if not isinstance(row.coefficients, bytes) or not isinstance(row.heads, bytes | None):
        return _damaged(row.name, row.version)
    if row.seal != seal_row(row._asdict(), seal_layout(layout), seal_blobs(row.coefficients, row.heads)):
        return _damaged(row.name, row.version)
    expected = encoded_bytes(row.dtype, layout.sizes)
    if len(row.coefficients) != expected:
        return (
            f"adapter {row.name!r} version {row.version} has {len(row.coefficients)} bytes of coefficients, but "
            f"{layout.total} of them in {row.dtype} take {expected}; remove it and add it again"
        )
    return None


def _damaged(name: str, version: int) -> str:
    return (
        f"adapter {name!r} version {version} is damaged: it has another SHA-256 than when it was added; remove it and "
        "add it again"
    )


def read_listed(columns: tuple[Any, ...], layout_of: Callable[[int], Layout]) -> Listed:
    """A line of `list` from the columns of `schema.LIST_LATEST`.

    Raises: StoreError, if it is damaged.
    """
    name, version, layout_id, dtype, created, kept, metrics, record, size = columns
    row = {"name": name, "version": version, "dtype": dtype, "created": created, "metrics": metrics, "record": record}
    layout = layout_of(layout_id)
    if not isinstance(kept, bytes) or kept != seal_row(row, seal_layout(layout), kept[:HALF]):
        raise StoreError(_damaged(name, version))
    scores = json.loads(metrics) if metrics else {}
    return Listed(name, version, dtype, created, layout.total, layout.scaling, scores, size)


def check_row(row: Row, layout: Layout) -> None:
    """Raise StoreError if a row is damaged."""
    fault = find_fault(row, layout)
    if fault:
        raise StoreError(fault)


def read_adapter(row: Row, layout: Layout) -> Adapter:
    """The adapter of a row.

    Raises: StoreError, if the row is damaged.
    """
    check_row(row, layout)
    return Adapter(
        name=row.name,
        version=row.version,
        layout=layout,
        values=decode([row.coefficients], row.dtype, layout.sizes)[0],
        dtype=row.dtype,
        heads=unpack_heads(row.heads),
        metrics=json.loads(row.metrics) if row.metrics else {},
        record=row.record,
        created=row.created,
    )


def read_blocks(rows: Iterable[Row], layout_of: Callable[[int], Layout]) -> Iterator[Block]:
    """The numbers of many rows, decoded together where they follow one another in one layout and dtype.

    Raises: StoreError, if a row is damaged.
    """
    for (layout_id, dtype), group in itertools.groupby(rows, key=lambda row: (row.layout, row.dtype)):
        layout = layout_of(layout_id)
        most = max(1, _BLOCK_BYTES // (4 * layout.total))
        while block := list(itertools.islice(group, most)):
            for row in block:
                check_row(row, layout)
            values = decode([row.coefficients for row in block], dtype, layout.sizes)
            yield Block(tuple(row.name for row in block), layout, values)
