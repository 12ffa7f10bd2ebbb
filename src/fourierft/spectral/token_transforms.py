"""The token view by torch's transforms: dW x and its gradients, on every device, in every dtype, at every length.

Tokens go through in parts: an input of any length costs the memory of one part beside its result, and no transform of
a whole input is ever held.

Shapes: x [sets, tokens, in], coefficients [sets, n] (one set a row of the batch). Half precision is computed in
float32.
"""

from __future__ import annotations

import torch
from torch import Tensor

from fourierft.spectral.basis import Links, SpectralBasis
from fourierft.spectral.probe import check_token_transforms
from fourierft.spectral.slabs import GRADIENT_BLOCK, slabs, write
from fourierft.spectral.transforms import (
    coefficient_gradient,
    compute_dtype,
    from_token_spectrum,
    link_factors,
    mix,
    mix_gradient,
    token_block,
    token_spectrum,
)

_BLOCK = 32  # tokens whose spectrum is cheap to transpose back


def token_product(
    x: Tensor,
    coefficients: Tensor,
    basis: SpectralBasis,
    scaling: float,
    transposed: bool = False,
    onto: Tensor | None = None,
) -> Tensor:
    """dW x, [sets, tokens, out], in the dtype of x; transposed: dW^T x of x [sets, tokens, out], [sets, tokens, in].

    Given `onto`, of the result's shape, adds to it in place and returns it.
    """
    dtype = token_dtype(x, coefficients)
    check_token_transforms(basis.out_features, basis.in_features, dtype, x.device)
    links = basis.reversed_links(x.device) if transposed else basis.links(x.device)
    source, target = basis.in_features, basis.out_features
    if transposed:
        source, target = target, source
    return carry(x, link_factors(coefficients.to(dtype), links, scaling / source), links, target, onto)


def carry(x: Tensor, factors: Tensor, links: Links, length: int, onto: Tensor | None = None) -> Tensor:
    """`token_product` with the factors of the links ready, [sets, 2n], in float32 or float64."""
    y = x.new_empty(*x.shape[:2], length) if onto is None else onto
    for part in slabs(x, max(length, x.shape[-1])):
        mixed = mix(_spectrum(x[part], factors.dtype, _BLOCK), factors[part[0]], links)
        write(y[part], from_token_spectrum(mixed, length), onto is not None)
    return y


def token_gradient(grad: Tensor, x: Tensor, basis: SpectralBasis, scaling: float) -> Tensor:
    """Gradient of the coefficients, [sets, n], from grad [sets, tokens, out] and x [sets, tokens, in]."""
    dtype = token_dtype(x, grad)
    check_token_transforms(basis.out_features, basis.in_features, dtype, x.device)
    links, factor = basis.links(x.device), scaling / (basis.out_features * basis.in_features)
    per_link = x.new_zeros(len(x), 2 * basis.n_frequency, dtype=dtype)
    for part in slabs(x, max(basis.out_features, basis.in_features)):
        spectra = _spectrum(grad[part], dtype, GRADIENT_BLOCK), _spectrum(x[part], dtype, GRADIENT_BLOCK)
        per_link[part[0]] += _by_set(mix_gradient(*spectra, links), len(x[part]))
    return coefficient_gradient(per_link, links, factor)


def token_backward(
    grad: Tensor, x: Tensor, coefficients: Tensor, basis: SpectralBasis, scaling: float, onto: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Both gradients of `token_product` from one transform of grad: (that of x, that of the coefficients).

    Given `onto`, of the shape of x, adds the gradient of x to it in place and returns it.
    """
    dtype = token_dtype(x, coefficients)
    check_token_transforms(basis.out_features, basis.in_features, dtype, x.device)
    links, reversed_links = basis.links(x.device), basis.reversed_links(x.device)
    factor = scaling / (basis.out_features * basis.in_features)
    factors = link_factors(coefficients.to(dtype), reversed_links, scaling / basis.out_features)
    grad_x = x.new_empty(x.shape) if onto is None else onto
    per_link = x.new_zeros(len(x), 2 * basis.n_frequency, dtype=dtype)
    for part in slabs(x, max(basis.out_features, basis.in_features)):
        spectrum = _spectrum(grad[part], dtype, _BLOCK)
        per_link[part[0]] += _by_set(mix_gradient(spectrum, _spectrum(x[part], dtype, _BLOCK), links), len(x[part]))
        mixed = mix(spectrum, factors[part[0]], reversed_links)
        write(grad_x[part], from_token_spectrum(mixed, basis.in_features), onto is not None)
    return grad_x, coefficient_gradient(per_link, links, factor).to(coefficients.dtype)


def token_dtype(x: Tensor, other: Tensor) -> torch.dtype:
    """The dtype to compute in."""
    return torch.promote_types(compute_dtype(x.dtype), compute_dtype(other.dtype))


def _spectrum(x: Tensor, dtype: torch.dtype, block: int) -> Tensor:
    """Token spectra in blocks, [sets * blocks, spectrum rows, block]."""
    return token_spectrum(x.to(dtype).reshape(-1, token_block(x.shape[1], block), x.shape[2]))


def _by_set(per_block: Tensor, sets: int) -> Tensor:
    """Sum over the blocks of each set: [sets * blocks, 2n] -> [sets, 2n]."""
    return per_block.view(sets, -1, per_block.shape[1]).sum(1)
