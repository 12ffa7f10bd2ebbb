"""Sizes and angles of dW from the coefficients alone, for many adapters at once.

Cosines of different frequencies are orthogonal. (u, v) and its mirror image (-u, -v) are one and the same cosine, so
their coefficients add up; a cosine has the squared norm out * in / 2, one that is its own mirror image out * in. So
||dW||^2 = scaling^2 / (out * in) * sum over cosines of (1/2 or 1) * (sum of its coefficients)^2.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import torch

from fourierft.spectral import SpectralBasis


class Cosines(NamedTuple):
    """The different cosines of a basis.

    Fields:
        of_entry: [n] int64, which cosine an entry is.
        share: [m] float64, squared norm of a cosine in units of out * in: 1/2 or 1.
    """

    of_entry: torch.Tensor
    share: torch.Tensor


def update_norm(coefficients: torch.Tensor, basis: SpectralBasis, scaling: float) -> torch.Tensor:
    """Frobenius norm of dW, exact, without forming it.

    Semantics: || scaling * ifft2(F).real ||.

    Args:
        coefficients: [..., n].
        basis: entries of an [out, in] weight.
        scaling: dimensionless.

    Returns: [...], float64.
    """
    return unfold(coefficients, basis).norm(dim=-1) * abs(scaling)


def unfold(coefficients: torch.Tensor, basis: SpectralBasis) -> torch.Tensor:
    """dW at scaling 1 in an orthonormal system: inner products of these rows are those of the dW.

    Args:
        coefficients: [..., n].
        basis: entries of an [out, in] weight.

    Returns: [..., m], float64, one number for each different cosine.
    """
    cosines = find_cosines(basis)
    sums = torch.zeros(*coefficients.shape[:-1], len(cosines.share), dtype=torch.float64)
    sums.index_add_(-1, cosines.of_entry, coefficients.double())
    return sums * (cosines.share / (basis.out_features * basis.in_features)).sqrt()


@functools.lru_cache(maxsize=256)
def find_cosines(basis: SpectralBasis) -> Cosines:
    """Fold mirror images together."""
    rows, columns = basis.entries  # [n], [n]
    flat = rows * basis.in_features + columns
    mirrored = (-rows % basis.out_features) * basis.in_features + (-columns % basis.in_features)
    different, of_entry = torch.minimum(flat, mirrored).unique(return_inverse=True)
    share = torch.full((len(different),), 0.5, dtype=torch.float64)
    share[of_entry[flat == mirrored]] = 1.0
    return Cosines(of_entry, share)
