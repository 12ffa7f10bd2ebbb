"""Several adapters of one layer in one product: one for each row of a batch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from fourierft.rows.terms import Term
from fourierft.spectral import SpectralBasis
from fourierft.tuner.terms import Terms


class RowPlan:
    """Which rows of a batch go together in a layer: all of its terms but the coefficients, which are read each time.

    Args:
        adapters: of the layer.
        names: adapter of each row; rows whose adapter the layer does not have (such as "__base__") are in no term.
    """

    def __init__(self, adapters: Terms, names: Sequence[str]) -> None:
        self._names, self._settings = list(names), [dict(part) for part in adapters[1:]]
        self._parts: list[_Part] = []
        for group, basis in adapters.by_draw([name for name in dict.fromkeys(names) if name in adapters.bases]):
            rows = [i for i, name in enumerate(names) if name in group]
            device = adapters.coefficients.numbers(group[0]).device
            scalings = [adapters.scalings[name] for name in group]
            factors, scaling = None, scalings[0]
            if len(set(scalings)) > 1:
                factors = torch.tensor(scalings, dtype=torch.float64).to(device, torch.float32)[:, None]
                scaling = 1.0
            places = None if len(rows) == len(names) else torch.tensor(rows, device=device)
            of = [group.index(names[i]) for i in rows]
            order = None if of == list(range(len(group))) else torch.tensor(of, device=device)
            self._parts.append(_Part(places, group, order, basis, scaling, factors, device))

    def fits(self, adapters: Terms, names: Sequence[str]) -> bool:
        """Whether it would be the same if it was made now."""
        same = self._names == names and all(a == b for a, b in zip(self._settings, adapters[1:], strict=True))
        return same and all(adapters.coefficients.numbers(p.names[0]).device == p.device for p in self._parts)

    def terms(self, adapters: Terms) -> Iterator[Term]:
        """The update of each row, a term for each draw."""
        for rows, names, order, basis, scaling, factors, _ in self._parts:
            if len(names) == 1:
                yield Term(rows, adapters.coefficients.numbers(names[0]), basis, scaling)
            else:
                table = adapters.table(names, basis)
                table = table if factors is None else table * factors.to(table.dtype)
                yield Term(rows, table if order is None else table.index_select(0, order), basis, scaling)


class _Part(NamedTuple):
    rows: Tensor | None
    names: list[str]  # of the adapters
    order: Tensor | None  # [rows] index of each row's adapter; None if each adapter has one row, in order
    basis: SpectralBasis
    scaling: float
    factors: Tensor | None  # [adapters, 1] scalings, where they differ
    device: torch.device
