"""The lookup view: the rows of dW that an embedding looks up, and their gradient, without the other rows.

A row is dW^T applied to a one-hot vector, whose spectrum is a wave known in closed form. So of the vocabulary nothing
is transformed, and a token costs its n entries and one transform of the embedding's width.

Shapes: ids [sets, tokens], coefficients [sets, n] (one set a row of the batch). Half precision is computed in float32.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from fourierft.spectral.basis import Links, SpectralBasis
from fourierft.spectral.probe import check_token_transforms
from fourierft.spectral.slabs import slabs
from fourierft.spectral.transforms import (
    coefficient_gradient,
    compute_dtype,
    from_token_spectrum,
    link_factors,
    token_spectrum,
)


def lookup(ids: Tensor, coefficients: Tensor, basis: SpectralBasis, scaling: float) -> Tensor:
    """Rows of dW, [sets, tokens, in], in float32 or float64."""
    dtype = compute_dtype(coefficients.dtype)
    check_token_transforms(basis.in_features, basis.in_features, dtype, ids.device)
    links = basis.reversed_links(ids.device)
    factors = link_factors(coefficients.to(dtype), links, scaling / basis.out_features).t()  # [2n, sets]
    y = coefficients.new_empty(*ids.shape, basis.in_features, dtype=dtype)
    for part in slabs(ids, max(2 * basis.n_frequency, basis.in_features)):
        waves = read_waves(ids[part], basis, links, dtype)
        scaled = waves * factors[:, part[0], None]
        mixed = torch.embedding_bag(scaled.flatten(1), links.ordinal, links.offsets, mode=0)[0]
        y[part] = from_token_spectrum(mixed[None], basis.in_features).view(y[part].shape)
    return y


def lookup_gradient(grad: Tensor, ids: Tensor, basis: SpectralBasis, scaling: float) -> Tensor:
    """Gradient of the coefficients, [sets, n], from grad [sets, tokens, in], in float32 or float64."""
    dtype = compute_dtype(grad.dtype)
    check_token_transforms(basis.in_features, basis.in_features, dtype, ids.device)
    links = basis.reversed_links(ids.device)
    per_link = grad.new_zeros(len(ids), 2 * basis.n_frequency, dtype=dtype)
    for part in slabs(ids, max(2 * basis.n_frequency, basis.in_features)):
        waves = read_waves(ids[part], basis, links, dtype)
        spectrum = token_spectrum(grad[part])[:, links.target].transpose(0, 1)  # [2n, sets, tokens]
        per_link[part[0]] += (waves * spectrum).sum(2).t()
    return coefficient_gradient(per_link, links, scaling / (basis.out_features * basis.in_features))


def read_waves(ids: Tensor, basis: SpectralBasis, links: Links, dtype: torch.dtype) -> Tensor:
    """What each link reads in the spectra of one-hot vectors: ids [sets, tokens] -> [2n, sets, tokens]."""
    length = basis.out_features
    table = basis.keep(("waves", ids.device, dtype), lambda _: _table(length).to(ids.device, dtype), ids.device)
    frequency, imaginary = links.source // 2, links.source % 2
    turns = frequency[:, None, None] * ids % length  # exact in integers
    return table[turns + (imaginary * length)[:, None, None]]


def _table(length: int) -> Tensor:
    """cos and -sin of each fraction of a turn, [2 * length], float64."""
    angles = torch.arange(length, dtype=torch.float64) * (2 * math.pi / length)
    return torch.cat([angles.cos(), -angles.sin()])
