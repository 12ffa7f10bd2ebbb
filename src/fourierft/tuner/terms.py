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
        for group, basis in self.by_draw(names):
            table, scalings = self.table(group, basis), [self.scalings[name] for name in group]
            total = sum(row * scaling for row, scaling in zip(table, scalings, strict=True))
            terms.append(Term(None, total, basis, 1.0))
        return terms

    def by_draw(self, names: Sequence[str]) -> Iterator[tuple[list[str], SpectralBasis]]:
        """Adapters of one draw together, with the basis of their largest n."""
        for rows in group_rows([self.draws[name] for name in names]).values():
            group = [names[row] for row in rows]
            basis = self.bases[group[0]]
            for name in group:  # torch.compile follows no max() with a key
                if self.bases[name].n_frequency > basis.n_frequency:
                    basis = self.bases[name]
            yield group, basis

    def table(self, names: Sequence[str], basis: SpectralBasis) -> Tensor:
        """Coefficients [adapters, n] of one draw, zeros behind those of a smaller n; float32 or float64."""
        rows = [self.coefficients.numbers(name) for name in names]
        if any(row.numel() != basis.n_frequency for row in rows):  # len() of a tensor takes longer
            rows = [F.pad(row, (0, basis.n_frequency - row.numel())) for row in rows]
        table = torch.stack(rows)
        return table if table.dtype in (torch.float32, torch.float64) else table.float()
