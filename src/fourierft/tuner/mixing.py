"""Several adapters of one layer in one product: added up, or one for each row of a batch.

Adapters run together if their entries come from one draw: a smaller n is a prefix of a larger one, so its coefficients
are padded with zeros. Scalings are multiplied in, so that adapters of different scalings can share a call too.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from fourierft.spectral import SpectralBasis

if TYPE_CHECKING:
    from fourierft.format.draw import Draw
    from fourierft.tuner.layer import FourierFTLayer

Term = tuple[Tensor, SpectralBasis, float]  # coefficients, basis, scaling
RowTerm = tuple[list[int], Tensor, SpectralBasis]  # rows, coefficients [rows, n], basis


class RowNames:
    """The adapter of each row of a batch: what the layers of one model share while a call with `adapter_names` runs."""

    def __init__(self) -> None:
        self._once: list[str] | None = None
        self._each_beam: list[str] = []

    @contextmanager
    def handed(self, names: Sequence[str], beams: int) -> Iterator[None]:
        """Inside, rows have these names; in a beam search, each of them `beams` times."""
        before = self._once, self._each_beam
        self._once, self._each_beam = list(names), [name for name in names for _ in range(beams)]
        try:
            yield
        finally:
            self._once, self._each_beam = before

    @property
    def are_handed(self) -> bool:
        """Whether a call with names runs."""
        return self._once is not None

    def of(self, rows: int) -> list[str] | None:
        """Names for an input of so many rows: the encoder of an encoder-decoder sees them before beams repeat them."""
        return self._once if self._once is None or rows != len(self._each_beam) else self._each_beam


def summed_terms(layer: FourierFTLayer, names: Sequence[str]) -> list[Term]:
    """The updates of all the adapters named, as few terms as there are draws."""
    if len(names) == 1:
        name = names[0]
        coefficients = layer.fourierft_coefficients[name].weight
        return [(coefficients, layer.fourierft_basis[name], layer.fourierft_scaling[name])]
    return [(table.sum(0), basis, 1.0) for _, table, basis in _tables(layer, names)]


def row_terms(layer: FourierFTLayer, names: Sequence[str]) -> Iterator[RowTerm]:
    """The update of adapter names[i] for each row i, scaling 1: for each draw, its rows and their coefficients.

    Rows whose adapter this layer does not have (such as "__base__") are in no term.
    """
    known = dict.fromkeys(name for name in names if name in layer.fourierft_coefficients)
    for group, table, basis in _tables(layer, list(known)):
        place = {name: i for i, name in enumerate(group)}
        rows = [i for i, name in enumerate(names) if name in place]
        yield rows, table[torch.tensor([place[names[i]] for i in rows], device=table.device)], basis


def _tables(layer: FourierFTLayer, names: Sequence[str]) -> Iterator[tuple[list[str], Tensor, SpectralBasis]]:
    """Adapters by draw: names, scaled coefficients [adapters, n] in float32 or better, basis of the largest n."""
    draws: dict[Draw, list[str]] = {}
    for name in names:
        draws.setdefault(layer.fourierft_draw[name], []).append(name)
    for group in draws.values():
        basis = layer.fourierft_basis[group[0]]
        for name in group:
            if layer.fourierft_basis[name].n_frequency > basis.n_frequency:
                basis = layer.fourierft_basis[name]
        rows = []
        for name in group:
            coefficients: Tensor = layer.fourierft_coefficients[name].weight
            coefficients = coefficients.to(torch.promote_types(coefficients.dtype, torch.float32))
            padding = basis.n_frequency - len(coefficients)
            rows.append(F.pad(coefficients * layer.fourierft_scaling[name], (0, padding)))
        yield group, torch.stack(rows), basis
