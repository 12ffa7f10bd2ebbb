"""Several adapters of one layer in one product: added up, or one for each row of a batch.

Adapters run together if their entries come from one draw: a smaller n is a prefix of a larger one, so its coefficients
are padded with zeros. Scalings are multiplied in, so that adapters of different scalings can share a call too.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from fourierft.spectral import SpectralBasis

if TYPE_CHECKING:
    from fourierft.format.draw import Draw
    from fourierft.tuner.layer import FourierFTLayer


class Term(NamedTuple):
    """What one call of a view takes.

    Fields:
        rows: which rows of a batch, on the device of the coefficients; None for all.
        coefficients: [n], the same for all of these rows, or [rows, n].
        basis: of n entries.
        scaling: of all the coefficients.
    """

    rows: Tensor | None
    coefficients: Tensor
    basis: SpectralBasis
    scaling: float


class RowPlan:
    """Which rows of a batch go together in a layer: all of its terms but the coefficients, which are read each time.

    Args:
        layer: of the adapters.
        names: adapter of each row; rows whose adapter the layer does not have (such as "__base__") are in no term.
    """

    def __init__(self, layer: FourierFTLayer, names: Sequence[str]) -> None:
        self._names, self._settings = list(names), [dict(part) for part in _settings(layer)]
        self._parts: list[_Part] = []
        for group, basis in _draws(layer, [name for name in dict.fromkeys(names) if name in layer.fourierft_basis]):
            rows = [i for i, name in enumerate(names) if name in group]
            scalings, device = [layer.fourierft_scaling[name] for name in group], layer.coefficients(group[0]).device
            factors, scaling = None, scalings[0]
            if len(set(scalings)) > 1:
                factors = torch.tensor(scalings, dtype=torch.float64).to(device, torch.float32)[:, None]
                scaling = 1.0
            places = None if len(rows) == len(names) else torch.tensor(rows, device=device)
            of = [group.index(names[i]) for i in rows]
            order = None if of == list(range(len(group))) else torch.tensor(of, device=device)
            self._parts.append(_Part(places, group, order, basis, scaling, factors, device))

    def fits(self, layer: FourierFTLayer, names: Sequence[str]) -> bool:
        """Whether it would be the same if it was made now."""
        same = self._names == names and all(a == b for a, b in zip(self._settings, _settings(layer), strict=True))
        return same and all(layer.coefficients(part.names[0]).device == part.device for part in self._parts)

    def terms(self, layer: FourierFTLayer) -> Iterator[Term]:
        """The update of each row, a term for each draw."""
        for rows, names, order, basis, scaling, factors, _ in self._parts:
            if len(names) == 1:
                yield Term(rows, layer.coefficients(names[0]), basis, scaling)
            else:
                table = _table(layer, names, basis)
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


def summed_terms(layer: FourierFTLayer, names: Sequence[str]) -> list[Term]:
    """The updates of all the adapters named, as few terms as there are draws."""
    if len(names) == 1:
        name = names[0]
        return [Term(None, layer.coefficients(name), layer.fourierft_basis[name], layer.fourierft_scaling[name])]
    terms = []
    for group, basis in _draws(layer, names):
        scalings = [layer.fourierft_scaling[name] for name in group]
        table = _table(layer, group, basis)
        terms.append(Term(None, sum(row * scaling for row, scaling in zip(table, scalings, strict=True)), basis, 1.0))
    return terms


def _draws(layer: FourierFTLayer, names: Sequence[str]) -> Iterator[tuple[list[str], SpectralBasis]]:
    """Adapters by draw, with the basis of their largest n."""
    draws: dict[Draw, list[str]] = {}
    for name in names:
        draws.setdefault(layer.fourierft_draw[name], []).append(name)
    for group in draws.values():
        basis = layer.fourierft_basis[group[0]]
        for name in group:
            if layer.fourierft_basis[name].n_frequency > basis.n_frequency:
                basis = layer.fourierft_basis[name]
        yield group, basis


def _table(layer: FourierFTLayer, names: Sequence[str], basis: SpectralBasis) -> Tensor:
    """Coefficients of adapters of one draw, [adapters, n], zeros behind those of a smaller n; float32 or float64."""
    rows = [layer.coefficients(name) for name in names]
    if any(row.numel() != basis.n_frequency for row in rows):  # len() of a tensor takes longer
        rows = [F.pad(row, (0, basis.n_frequency - row.numel())) for row in rows]
    table = torch.stack(rows)
    return table if table.dtype in (torch.float32, torch.float64) else table.float()


def _settings(layer: FourierFTLayer) -> tuple[dict[str, SpectralBasis], dict[str, Draw], dict[str, float]]:
    return layer.fourierft_basis, layer.fourierft_draw, layer.fourierft_scaling
