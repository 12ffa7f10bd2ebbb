"""The factored cosine sum equals the one the library is tested with."""

from __future__ import annotations

import pytest
import torch

from fourierft.spectral import uniform_entries
from fourierft.spectral.reference import reference_coefficient_gradient, reference_delta_weight
from lab.bench import truth
from lab.bench.truth import true_coefficient_gradient, true_delta_weight, true_layer

SHAPES = [(1, 1), (12, 9), (7, 30)]


@pytest.fixture(params=[2048, 2])
def chunk(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(truth, "CHUNK", request.param)


@pytest.mark.usefixtures("chunk")
@pytest.mark.parametrize("shape", SHAPES)
def test_delta_weight_equals_the_reference(shape: tuple[int, int]):
    n = min(5, shape[0] * shape[1])
    entries, c = uniform_entries(*shape, n, 1), torch.randn(n)
    expected = reference_delta_weight(c, entries, *shape, 3.0)
    torch.testing.assert_close(true_delta_weight(c, entries, *shape, 3.0), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.usefixtures("chunk")
@pytest.mark.parametrize("shape", SHAPES)
def test_coefficient_gradient_equals_the_reference(shape: tuple[int, int]):
    n = min(5, shape[0] * shape[1])
    entries, grad = uniform_entries(*shape, n, 1), torch.randn(shape)
    expected = reference_coefficient_gradient(grad, entries, 3.0)
    torch.testing.assert_close(true_coefficient_gradient(grad, entries, 3.0), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.usefixtures("chunk")
@pytest.mark.parametrize("shape", SHAPES)
def test_layer_equals_the_product_with_the_reference(shape: tuple[int, int]):
    n = min(5, shape[0] * shape[1])
    entries, c = uniform_entries(*shape, n, 1), torch.randn(n)
    x, grad = torch.randn(4, shape[1]).double(), torch.randn(4, shape[0]).double()
    delta = reference_delta_weight(c, entries, *shape, 3.0)
    out, grad_x, grad_c = true_layer(x, grad, c, entries, 3.0)
    torch.testing.assert_close(out, x @ delta.T, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(grad_x, grad @ delta, rtol=1e-12, atol=1e-12)
    expected = reference_coefficient_gradient(grad.T @ x, entries, 3.0)
    torch.testing.assert_close(grad_c, expected, rtol=1e-12, atol=1e-12)
