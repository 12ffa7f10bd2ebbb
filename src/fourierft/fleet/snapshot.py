"""What a batch needs of a bank: the coefficients and heads of each of its rows, copied at one moment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from fourierft.fleet.images import Size
from fourierft.rows.slots import Slot
from fourierft.rows.terms import group_rows
from fourierft.spectral import Draw


class Part(NamedTuple):
    """Rows whose adapters are of one draw.

    Fields:
        draw: of the entries.
        rows: which rows of the batch; None for all of them. "__base__" rows among all have zeros.
        coefficients: layer name -> float32 [rows, n], scaling folded in.
        shapes: layer name -> (out_features, in_features), where it is known.
    """

    draw: Draw
    rows: list[int] | None
    coefficients: dict[str, Tensor]
    shapes: Mapping[str, tuple[int, int]]


class Head(NamedTuple):
    """A parameter that some adapters replace.

    Fields:
        rows: which rows of the batch.
        values: [rows, *shape], a parameter each.
    """

    rows: list[int]
    values: Tensor


class Snapshot(NamedTuple):
    """Rows of a batch.

    Fields:
        names: adapter of each row.
        stamps: a number for each row that changes when its adapter does.
        parts: a part for each draw.
        heads: parameter name in the base model -> the rows that replace it.
        sizes: adapter -> size of the images it was trained on, where it was on images of one.
    """

    names: tuple[str, ...]
    stamps: tuple[int, ...]
    parts: list[Part]
    heads: dict[str, Head]
    sizes: dict[str, Size]


class Entry(NamedTuple):
    """Where an adapter is in a bank.

    Fields:
        slot: in the tables of its draw.
        stamp: of its last change.
        heads: parameter name in the base model -> tensor.
        is_stored: whether it came from the store, from which it can come again.
        size: of the images it was trained on, if it was on images of one.
    """

    slot: Slot
    stamp: int
    heads: dict[str, Tensor]
    is_stored: bool
    size: Size | None


def gather_rows(names: Sequence[str], stamps: tuple[int, ...], entries: Mapping[str, Entry]) -> Snapshot:
    """Copy the rows of a batch.

    Args:
        names: adapter of each row.
        stamps: of each row.
        entries: of a bank that does not change meanwhile.
    """
    found = [entries.get(name) for name in names]
    draws = group_rows([None if entry is None else entry.slot.tables for entry in found])
    parts = []
    for tables, own_rows in draws.items():
        rows = own_rows if len(draws) > 1 else None
        chosen = found if rows is None else [found[i] for i in rows]
        coefficients = tables.gather([0 if entry is None else entry.slot.row for entry in chosen])
        parts.append(Part(tables.draw, rows, coefficients, dict(tables.shapes)))
    heads = {}
    for key in dict.fromkeys(key for entry in found if entry is not None for key in entry.heads):
        own = [(i, entry.heads[key]) for i, entry in enumerate(found) if entry is not None and key in entry.heads]
        heads[key] = Head([i for i, _ in own], torch.stack([value for _, value in own]))
    sizes = {name: entry.size for name, entry in zip(names, found, strict=True) if entry is not None and entry.size}
    return Snapshot(tuple(names), stamps, parts, heads, sizes)
