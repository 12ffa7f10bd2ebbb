"""Which exact view is cheapest. All views give the same numbers, so this file decides about speed alone."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from fourierft.spectral.basis import SpectralBasis
from fourierft.spectral.compiled import is_served, large_primes
from fourierft.spectral.eager import is_exported
from fourierft.spectral.triton.plan import has_plan

_CACHED_ELEMENTS = 1 << 22


@dataclass(frozen=True)
class Costs:
    """Nanoseconds of float32 on a device. A token is transformed there and back, per element of input and output."""

    dense_cached: float  # building W + dW, per element, in the cache
    dense_streamed: float  # and beyond it
    product: float  # a matrix product, per token and element of the weight
    torch_token: tuple[float, float]  # the token view by torch's transforms: an element, a token and entry
    kernel_token: tuple[float, float]  # and by the kernel of the device


_CPU = Costs(1.3, 4.4, 0.01, (1.3, 0.2), (0.3, 0.06))  # two cores, read off the layer suite of the benchmarks
_GPU = Costs(
    0.01, 0.01, 3e-5, (0.009, 0.002), (0.0015, 0.001)
)  # an H200 by bytes and flops (docs/gpu.md), not measured
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
    return "weight" if _dense_cost(basis, device) < 0.8 * _token_cost(tokens, basis, dtype, device) else "token"


def prefers_dense_gradient(tokens: int, basis: SpectralBasis, dtype: torch.dtype, device: torch.device) -> bool:
    """Whether the coefficients' gradient is cheaper through the [out, in] gradient than through token transforms."""
    product = _costs(device).product * tokens * basis.out_features * basis.in_features
    return product + _dense_cost(basis, device) < _token_cost(tokens, basis, dtype, device)


def _costs(device: torch.device) -> Costs:
    return _CPU if device.type == "cpu" else _GPU


def _dense_cost(basis: SpectralBasis, device: torch.device) -> float:
    elements, costs = basis.out_features * basis.in_features, _costs(device)
    return elements * (costs.dense_cached if elements <= _CACHED_ELEMENTS else costs.dense_streamed)


def _token_cost(tokens: int, basis: SpectralBasis, dtype: torch.dtype, device: torch.device) -> float:
    lengths = basis.out_features, basis.in_features
    if device.type == "cpu":
        served = is_served(*lengths, dtype, device.type)
        primes = _LARGE_PRIME * sum(length * large_primes(length) for length in lengths) if served else 0.0
    else:
        served, primes = all(has_plan(length) for length in lengths), 0.0
    costs = _costs(device)
    element, link = costs.kernel_token if served else costs.torch_token
    return tokens * (element * sum(lengths) + primes + link * basis.n_frequency)
