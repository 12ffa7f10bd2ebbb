"""The updates of a layer's adapters: what they are made of, by adapter name, and as terms that a view computes.

Scalings are multiplied into coefficients, so that adapters of different scalings can share a call.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from fourierft.rows.terms import Term, group_rows
from fourierft.spectral import Draw, SpectralBasis
from fourierft.tuner.coefficients import CoefficientsByAdapter


class Group(NamedTuple):
    """Adapters of one draw.

    Fields:
        names: of the adapters.
        basis: of the largest n among them.
        is_padded: whether some have a smaller n.
    """

    names: list[str]
    basis: SpectralBasis
    is_padded: bool


class Terms(NamedTuple):
    """What the updates of a layer's adapters are made of, each by adapter name."""

    coefficients: CoefficientsByAdapter
    bases: dict[str, SpectralBasis]
    draws: dict[str, Draw]
    scalings: dict[str, float]

    def of(self, name: str) -> Term:
        """The update of one adapter, for all rows."""
        return Term(None, self.coefficients.numbers(name), self.bases[name], self.scalings[name])

    def summed(self, names: Sequence[str]) -> list[Term]:
        """The updates of all the adapters named, as few terms as there are draws."""
        if len(names) == 1:
            return [self.of(names[0])]
        terms = []
        for group in self.by_draw(names):
            table, scalings = self.table(group), [self.scalings[name] for name in group.names]
            total = sum(row * scaling for row, scaling in zip(table, scalings, strict=True))
            terms.append(Term(None, total, group.basis, 1.0))
        return terms

    def by_draw(self, names: Sequence[str]) -> Iterator[Group]:
        for rows in group_rows([self.draws[name] for name in names]).values():
            group = [names[row] for row in rows]
            basis = self.bases[group[0]]
            for name in group:  # torch.compile follows no max() with a key
                if self.bases[name].n_frequency > basis.n_frequency:
                    basis = self.bases[name]
            yield Group(group, basis, any(self.bases[name].n_frequency < basis.n_frequency for name in group))

    def table(self, group: Group) -> Tensor:
        """The coefficients of a group, [adapters, n], zeros behind those of a smaller n; float32 or float64."""
        rows = self.coefficients.several(group.names)
        if group.is_padded:
            rows = [F.pad(row, (0, group.basis.n_frequency - row.numel())) for row in rows]
        table = torch.stack(rows)
        return table if table.dtype in (torch.float32, torch.float64) else table.float()
