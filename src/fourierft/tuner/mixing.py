"""Several adapters of one layer in one product: one for each row of a batch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from fourierft.rows.terms import Term
from fourierft.tuner.terms import Group, Terms


class RowPlan:
    """Which rows of a batch go together in a layer: all of its terms but the coefficients, which are read each time.

    Args:
        adapters: of the layer.
        names: adapter of each row; rows whose adapter the layer does not have (such as "__base__") are in no term.
    """

    def __init__(self, adapters: Terms, names: Sequence[str]) -> None:
        self._names, self._settings = list(names), tuple(dict(part) for part in adapters[1:])
        self._parts: list[_Part] = []
        for group in adapters.by_draw([name for name in dict.fromkeys(names) if name in adapters.bases]):
            rows = [i for i, name in enumerate(names) if name in group.names]
            device = adapters.coefficients.numbers(group.names[0]).device
            scalings = [adapters.scalings[name] for name in group.names]
            factors, scaling = None, scalings[0]
            if len(set(scalings)) > 1:
                factors = torch.tensor(scalings, dtype=torch.float64).to(device, torch.float32)[:, None]
                scaling = 1.0
            places = None if len(rows) == len(names) else torch.tensor(rows, device=device)
            of = [group.names.index(names[i]) for i in rows]
            order = None if of == list(range(len(group.names))) else torch.tensor(of, device=device)
            self._parts.append(_Part(places, group, order, scaling, factors, device))

    def fits(self, adapters: Terms, names: Sequence[str]) -> bool:
        """Whether it would be the same if it was made now."""
        if self._names != names or self._settings != adapters[1:]:
            return False
        return all(adapters.coefficients.numbers(part.group.names[0]).device == part.device for part in self._parts)

    def terms(self, adapters: Terms) -> Iterator[Term]:
        """The update of each row, a term for each draw."""
        for rows, group, order, scaling, factors, _ in self._parts:
            if len(group.names) == 1:
                yield Term(rows, adapters.coefficients.numbers(group.names[0]), group.basis, scaling)
            else:
                table = adapters.table(group)
                table = table if factors is None else table * factors.to(table.dtype)
                yield Term(rows, table if order is None else table.index_select(0, order), group.basis, scaling)


class _Part(NamedTuple):
    rows: Tensor | None
    group: Group  # of adapters
    order: Tensor | None  # [rows] index of each row's adapter; None if each adapter has one row, in order
    scaling: float
    factors: Tensor | None  # [adapters, 1] scalings, where they differ
    device: torch.device
