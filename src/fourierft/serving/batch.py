"""One step of an engine: which adapter each token has, and what that adds to the outputs of its linear layers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from fourierft.rows.slots import Slot
from fourierft.rows.tables import DrawTables
from fourierft.rows.terms import Columns, add_into
from fourierft.spectral import PreparedUpdate, spectral_linear

_MANY = 16  # tokens of one adapter from which they are carried by themselves


class Place(NamedTuple):
    """Where an adapted layer is in a linear layer of the engine, which may pack several, or have a part of one.

    Fields:
        name: of the adapted layer.
        shape: (out_features, in_features) of all of it.
        inputs: which of the in_features the engine's layer sees.
        outputs: pairs: which of the out_features it gives, and where in its output they stand.
    """

    name: str
    shape: tuple[int, int]
    inputs: slice
    outputs: Columns

    def whole_input(self, x: Tensor) -> Tensor:
        """x [tokens, inputs] as the adapted layer takes it, [tokens, in]: dW is linear, so zeros stand for the rest."""
        if x.shape[1] == self.shape[1]:
            return x
        whole = x.new_zeros(len(x), self.shape[1])
        whole[:, self.inputs] = x
        return whole


class Group(NamedTuple):
    """Tokens that are carried together.

    Fields:
        tables: of their draw.
        tokens: which they are.
        rows: of the tables: one for all of them, or one each.
    """

    tables: DrawTables
    tokens: slice | Tensor
    rows: Tensor


class Batch:
    """The tokens of a step, on the CPU. Steps with the same adapters use it again: its updates are prepared once.

    Args:
        keys: adapter of each token, 0 for none.
        find: where an adapter is.
    """

    def __init__(self, keys: np.ndarray, find: Callable[[int], Slot | None]) -> None:
        self._groups = list(_group(keys, find))
        self._updates: dict[str, list[tuple[slice | Tensor, PreparedUpdate]]] = {}

    def add(self, place: Place, x: Tensor, y: Tensor) -> None:
        """Add the updates to y [tokens, ...], the output of a layer for x [tokens, ...]."""
        if not self._groups:
            return
        if place.name not in self._updates:
            self._updates[place.name] = [_prepare(group, place) for group in self._groups if _has(group, place)]
        for tokens, update in self._updates[place.name]:
            add_into(y, update(place.whole_input(x[tokens])), tokens, place.outputs)


class StaticBatch:
    """The tokens of a step where graphs are recorded: rows of the tables in memory that stays where it is.

    Args:
        draws: all tables.
        places: all adapted layers.
        tokens: most of them in a step.
        device: of the tables.
    """

    def __init__(self, draws: Sequence[DrawTables], places: Iterable[Place], tokens: int, device: torch.device) -> None:
        self._rows = [(tables, torch.zeros(tokens, dtype=torch.int64, device=device)) for tables in draws]
        self._tables = {
            place.name: [
                (tables, rows, tables.basis(place.name, place.shape))
                for tables, rows in self._rows
                if place.name in tables.layers
            ]
            for place in places
        }

    def fill(self, keys: np.ndarray, find: Callable[[int], Slot | None]) -> None:
        """Set the adapter of each token, 0 for none; `find` says where an adapter is."""
        slots = {key: find(key) for key in np.unique(keys).tolist() if key}
        for tables, rows in self._rows:
            here = {key: slot.row for key, slot in slots.items() if slot is not None and slot.tables is tables}
            rows[: len(keys)] = torch.tensor([here.get(key, 0) for key in keys.tolist()])

    def add(self, place: Place, x: Tensor, y: Tensor) -> None:
        """Add the updates to y [tokens, ...], the output of a layer for x [tokens, ...]."""
        for tables, rows, basis in self._tables.get(place.name, []):
            term = tables.term(place.name, rows[: len(x)], basis)
            delta = spectral_linear(place.whole_input(x), term.coefficients, basis, term.scaling)
            add_into(y, delta, slice(None), place.outputs)


def _group(keys: np.ndarray, find: Callable[[int], Slot | None]) -> list[Group]:
    few: dict[int, tuple[DrawTables, list[tuple[int, int]]]] = {}
    groups = []
    for key in np.unique(keys).tolist():
        slot = find(key) if key else None
        if slot is None:
            continue
        tokens = np.flatnonzero(keys == key)
        if len(tokens) < _MANY:
            few.setdefault(id(slot.tables), (slot.tables, []))[1].extend((t, slot.row) for t in tokens.tolist())
        else:
            groups.append(Group(slot.tables, _indices(tokens), torch.tensor([slot.row])))
    for tables, pairs in few.values():
        few_tokens, rows = zip(*sorted(pairs), strict=True)
        groups.append(Group(tables, _indices(np.array(few_tokens)), torch.tensor(rows)))
    return groups


def _indices(tokens: np.ndarray) -> slice | Tensor:
    first, last = int(tokens[0]), int(tokens[-1])
    return slice(first, last + 1) if last - first + 1 == len(tokens) else torch.from_numpy(tokens)


def _has(group: Group, place: Place) -> bool:
    return place.name in group.tables.layers


def _prepare(group: Group, place: Place) -> tuple[slice | Tensor, PreparedUpdate]:
    basis = group.tables.basis(place.name, place.shape)
    return group.tokens, group.tables.term(place.name, group.rows, basis).prepared()
