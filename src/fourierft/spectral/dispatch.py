"""Which exact view is cheapest. All views give the same numbers, so this file decides about speed alone."""

from __future__ import annotations

import torch

from fourierft.spectral.basis import SpectralBasis
from fourierft.spectral.compiled import is_served, large_primes
from fourierft.spectral.eager import is_exported

# Nanoseconds on two CPU cores, float32, read off the layer suite of the benchmarks.
_DENSE_CACHED, _DENSE_STREAMED = 1.3, 4.4  # building W + dW, per element, in the cache and beyond it
_CACHED_ELEMENTS = 1 << 22
_PRODUCT = 0.01  # a matrix product, per token and element of the weight
# The token view: transforming a token there and back, per element of its input and output; then per token and entry.
_TORCH_TOKEN = (1.3, 0.2)
_COMPILED_TOKEN = (0.3, 0.06)
_LARGE_PRIME = (
    0.002  # of a compiled transform, per element and unit of each prime factor that is summed up as it stands
)


def choose_view(tokens: int, basis: SpectralBasis, dtype: torch.dtype, device: torch.device) -> str:
    """The cheapest view of one adapter: "weight" or "token".

    Args:
        tokens: how many rows x has.
        basis: of the layer.
        dtype: in which the base product runs. In less than float32, W + dW would round the update away, so the token
            view is the only one.
        device: of x.
    """
    if dtype not in (torch.float32, torch.float64):
        return "token"
    if is_exported():  # for any number of tokens
        return "token"
    # A backward pass builds W + dW again, while the token view, at its gradients anyway, adds about half a product.
    return "weight" if _dense_cost(basis) < 0.8 * _token_cost(tokens, basis, dtype, device) else "token"


def prefers_dense_gradient(tokens: int, basis: SpectralBasis, dtype: torch.dtype, device: torch.device) -> bool:
    """Whether the coefficients' gradient is cheaper through the [out, in] gradient than through token transforms."""
    product = _PRODUCT * tokens * basis.out_features * basis.in_features
    return product + _dense_cost(basis) < _token_cost(tokens, basis, dtype, device)


def _dense_cost(basis: SpectralBasis) -> float:
    elements = basis.out_features * basis.in_features
    return elements * (_DENSE_CACHED if elements <= _CACHED_ELEMENTS else _DENSE_STREAMED)


def _token_cost(tokens: int, basis: SpectralBasis, dtype: torch.dtype, device: torch.device) -> float:
    lengths = basis.out_features, basis.in_features
    served = is_served(*lengths, dtype, device.type)
    element, link = _COMPILED_TOKEN if served else _TORCH_TOKEN
    primes = _LARGE_PRIME * sum(length * large_primes(length) for length in lengths) if served else 0.0
    return tokens * (element * sum(lengths) + primes + link * basis.n_frequency)
