"""The singular values and vectors of a layer's dW, by the cosines it is made of.

    dW = alpha / (out in) * (Cos_u diag(c) Cos_v^T - Sin_u diag(c) Sin_v^T)

so its row and column spaces lie in those of [Cos_u Sin_u] and [Cos_v Sin_v], of 2n columns. Layers of one shape share
these, and their QR decompositions; what is left to decompose for a layer is 2n x 2n.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from fourierft.export.cosines import cosines
from fourierft.spectral import SpectralBasis


class Singular(NamedTuple):
    """dW = left diag(values) right^T, values falling, float64."""

    left: Tensor  # [out, k]
    values: Tensor  # [k]
    right: Tensor  # [in, k]

    def energy(self, rank: int) -> float:
        """The share of ||dW||^2 that the first `rank` of them hold; 1 of a dW that is zero."""
        energies = self.values.square()
        return float(energies[:rank].sum() / energies.sum()) if energies.any() else 1.0

    def rank_for(self, energy: float) -> int:
        """The least rank that holds this share, at least 1."""
        energies = self.values.square()
        short = energies.cumsum(0) < energy * energies.sum() * (1 - 1e-12)
        return min(int(short.sum()) + 1, len(energies))

    def split(self, rank: int) -> tuple[Tensor, Tensor]:
        """(B [out, rank], A [rank, in]) with B A = dW of that rank, of equal norms."""
        root = self.values[:rank].sqrt()
        return self.left[:, :rank] * root, (self.right[:, :rank] * root).T


def decompose(coefficients: Tensor, basis: SpectralBasis, scaling: float, without_row: int | None = None) -> Singular:
    """The singular values and vectors of an update.

    Args:
        coefficients: [n].
        basis: of the layer.
        scaling: of the update.
        without_row: row of dW that is zero all the same, as that of an embedding's padding.
    """
    (left, left_small), (right, right_small) = (
        basis.keep(("orthogonal", without_row), lambda own: _orthogonal(own.entries[0], own.out_features, without_row)),
        basis.keep("orthogonal", lambda own: _orthogonal(own.entries[1], own.in_features)),
    )
    c = coefficients.detach().double() * (scaling / (basis.out_features * basis.in_features))
    core = (left_small * torch.cat([c, -c])) @ right_small.T
    u, values, vh = torch.linalg.svd(core, full_matrices=False)
    return Singular(left @ u, values, right @ vh.T)


def _orthogonal(frequency: Tensor, length: int, without_row: int | None = None) -> tuple[Tensor, Tensor]:
    factor = cosines(frequency, length, torch.float64)
    if without_row is not None:
        factor[without_row] = 0
    q, r = torch.linalg.qr(factor)
    return q, r
