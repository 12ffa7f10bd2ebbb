"""The kernels against plain sums: token spectra, the links between them, the dense update and its adjoint."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch

from fourierft import SpectralBasis
from fourierft.spectral import transforms
from fourierft.spectral.basis import Links

CPU = torch.device("cpu")
LENGTHS = [1, 2, 3, 7, 12, 60, 63, 64]


def fourier_sum(x: torch.Tensor) -> torch.Tensor:
    """Half spectrum by the sum itself, complex128 [..., length // 2 + 1]."""
    length = x.shape[-1]
    turns = (torch.arange(length)[:, None] * torch.arange(length // 2 + 1)[None] % length).double() / length
    return x.to(torch.complex128) @ torch.polar(torch.ones_like(turns), -2 * math.pi * turns)


@pytest.mark.parametrize(
    ("dtype", "computed"),
    [
        (torch.float64, torch.float64),
        (torch.float32, torch.float32),
        (torch.bfloat16, torch.float32),
        (torch.float16, torch.float32),
    ],
)
def test_half_precision_is_computed_in_float32(dtype: torch.dtype, computed: torch.dtype) -> None:
    assert transforms.compute_dtype(dtype) == computed
    assert transforms.token_spectrum(torch.ones(1, 2, 5, dtype=dtype)).dtype == computed


@pytest.mark.parametrize("length", LENGTHS)
def test_token_spectrum_is_the_fourier_sum_frequency_major(length: int) -> None:
    x = torch.randn(2, 3, length, dtype=torch.float64)
    found, expected = transforms.token_spectrum(x), fourier_sum(x)  # [2, rows, 3], [2, 3, frequencies]
    torch.testing.assert_close(found[:, 0::2], expected.real.transpose(1, 2), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(found[:, 1::2], expected.imag.transpose(1, 2), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("length", LENGTHS)
def test_a_token_spectrum_leads_back(length: int) -> None:
    x = torch.randn(2, 3, length, dtype=torch.float64)
    found = transforms.from_token_spectrum(transforms.token_spectrum(x), length)
    torch.testing.assert_close(found, x, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("tokens", [*range(1, 40), 97, 127, 128, 129, 131, 256, 1000, 1024, 1031])
def test_a_block_divides_the_tokens_and_is_never_a_crumb(tokens: int) -> None:
    block = transforms.token_block(tokens, 128)
    assert tokens % block == 0
    assert block == tokens or 16 <= block <= 128


def mixed_by_loops(spectrum: torch.Tensor, coefficients: torch.Tensor, links: Links, factor: float) -> torch.Tensor:
    rows = len(spectrum)
    out = spectrum.new_zeros(rows, links.target_rows, spectrum.shape[2])
    for b in range(rows):
        c = coefficients[b * len(coefficients) // rows]
        for link in range(len(links.source)):
            scale = factor * links.weight[link] * c[links.coefficient[link]]
            out[b, links.target[link]] += scale * spectrum[b, links.source[link]]
    return out


@pytest.mark.parametrize(("rows", "sets", "tokens"), [(1, 1, 1), (1, 1, 4), (3, 3, 4), (3, 3, 1), (6, 2, 3), (4, 1, 1)])
def test_mix_is_the_loop_of_its_docstring(small, rows: int, sets: int, tokens: int) -> None:
    for links in (small.basis.links(CPU), small.basis.reversed_links(CPU)):
        spectrum = torch.randn(rows, links.source_rows, tokens, dtype=torch.float64)
        coefficients = torch.randn(sets, small.basis.n_frequency, dtype=torch.float64)
        found = transforms.mix(spectrum, transforms.link_factors(coefficients, links, 0.3), links)
        torch.testing.assert_close(found, mixed_by_loops(spectrum, coefficients, links, 0.3), rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize(("rows", "tokens"), [(1, 1), (1, 4), (3, 4), (3, 1)])
def test_mix_gradient_is_the_weighted_product_of_both_spectra(small, rows: int, tokens: int) -> None:
    links, n = small.basis.links(CPU), small.basis.n_frequency
    spectrum = torch.randn(rows, links.source_rows, tokens, dtype=torch.float64)
    grad = torch.randn(rows, links.target_rows, tokens, dtype=torch.float64)
    expected = torch.zeros(rows, n, dtype=torch.float64)
    for link in range(2 * n):
        product = (grad[:, links.target[link]] * spectrum[:, links.source[link]]).sum(1)
        expected[:, links.coefficient[link]] += 0.3 * links.sign[link] * product
    found = transforms.coefficient_gradient(transforms.mix_gradient(grad, spectrum, links), links, 0.3)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-13)


def test_dense_delta_is_the_cosine_sum(layer, assert_close: Callable[..., None]) -> None:
    for dtype in (torch.float64, torch.float32):
        assert_close(
            transforms.dense_delta(layer.coefficients.to(dtype), layer.basis, layer.scaling), layer.true_delta()
        )


def test_dense_delta_adds_a_base_and_leaves_it_alone(layer, assert_close: Callable[..., None]) -> None:
    weight = layer.weight.clone()
    found = transforms.dense_delta(layer.coefficients, layer.basis, layer.scaling, base=weight)
    assert_close(found, layer.weight + layer.true_delta())
    assert torch.equal(weight, layer.weight)


def test_dense_gradient_is_the_cosine_sum(layer, assert_close: Callable[..., None]) -> None:
    grad = torch.randn_like(layer.weight)
    expected = layer.true_coefficient_gradient(grad.T, torch.eye(len(grad.T), dtype=torch.float64)[:, : grad.shape[1]])
    for dtype in (torch.float64, torch.float32):
        assert_close(transforms.dense_gradient(grad.to(dtype), layer.basis, layer.scaling), expected)


def test_dense_gradient_is_the_adjoint_of_dense_delta(layer) -> None:
    grad = torch.randn_like(layer.weight)
    forward = (transforms.dense_delta(layer.coefficients, layer.basis, layer.scaling) * grad).sum()
    backward = (transforms.dense_gradient(grad, layer.basis, layer.scaling) * layer.coefficients).sum()
    torch.testing.assert_close(forward, backward, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("out_features", [1, 2, 3, 8, 9])
@pytest.mark.parametrize("in_features", [1, 2, 3, 8, 9])
def test_every_single_entry_becomes_its_cosine(
    out_features: int, in_features: int, assert_close: Callable[..., None]
) -> None:
    p, q = torch.arange(out_features).double()[:, None], torch.arange(in_features).double()
    for u in range(out_features):
        for v in range(in_features):
            basis = SpectralBasis(out_features, in_features, torch.tensor([[u], [v]]))
            expected = torch.cos(2 * math.pi * (p * u / out_features + q * v / in_features))
            scaling = float(out_features * in_features)
            found = transforms.dense_delta(torch.ones(1, dtype=torch.float64), basis, scaling)
            assert_close(found, expected)
