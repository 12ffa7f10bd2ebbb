"""Half precision: every view is the float32 result rounded, and an update below the base's last place is kept."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F

from fourierft import adapted_linear, delta_weight, spectral_linear

pytestmark = pytest.mark.usefixtures("path")
HALVES = [torch.bfloat16, torch.float16]


def leaf(tensor: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    return tensor.detach().to(dtype).requires_grad_()


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("sets", [(), (4, 1)])
def test_half_precision_is_the_float32_result_rounded(make_layer: Callable, sets: tuple, dtype: torch.dtype) -> None:
    layer = make_layer(60, 63, 120)
    x, c = torch.randn(4, 3, 63).to(dtype).requires_grad_(), torch.randn(*sets, 120).to(dtype).requires_grad_()
    full_x, full_c = leaf(x, torch.float32), leaf(c, torch.float32)
    y, full = (spectral_linear(a, b, layer.basis, layer.scaling) for a, b in ((x, c), (full_x, full_c)))
    assert y.dtype == dtype
    assert torch.equal(y, full.to(dtype))
    grad = torch.randn_like(y)
    y.backward(grad)
    full.backward(grad.float())
    for half, exact in ((x, full_x), (c, full_c)):
        assert half.grad is not None
        assert exact.grad is not None
        assert torch.equal(half.grad, exact.grad.to(dtype))


@pytest.mark.parametrize("dtype", HALVES)
def test_a_half_precision_delta_is_the_float32_one_rounded(make_layer: Callable, dtype: torch.dtype) -> None:
    layer = make_layer(60, 63, 120)
    c = layer.coefficients.to(dtype)
    full = delta_weight(c.float(), layer.basis, layer.scaling)
    assert torch.equal(delta_weight(c, layer.basis, layer.scaling), full.to(dtype))


@pytest.mark.parametrize("dtype", HALVES)
def test_a_half_precision_base_keeps_an_update_below_its_last_place(make_layer: Callable, dtype: torch.dtype) -> None:
    layer = make_layer(24, 20, 50)
    weight = (1 + layer.weight.abs()).to(dtype)
    x = torch.eye(20, dtype=dtype)
    scaling = 1e-3 * layer.scaling  # far below half a unit in the last place of any weight
    c = layer.coefficients.float()
    y = adapted_linear(x * 0, weight, None, c, layer.basis, scaling)
    assert y.dtype == dtype
    alone = spectral_linear(x, c, layer.basis, scaling)
    assert alone.abs().max() > 0
    assert torch.equal(adapted_linear(x, weight * 0, None, c, layer.basis, scaling), alone)
    expected = F.linear(x, weight) + alone
    assert torch.equal(adapted_linear(x, weight, None, c, layer.basis, scaling), expected)


@pytest.mark.parametrize("view", ["weight", "token"])
@pytest.mark.parametrize("dtype", [torch.float64, *HALVES])
def test_coefficients_of_another_dtype_are_used_as_they_are(
    small, dtype: torch.dtype, view: str, assert_close: Callable
) -> None:
    x, c = torch.randn(4, 6), leaf(small.coefficients, dtype)
    y = adapted_linear(x, small.weight.float(), None, c, small.basis, small.scaling, view)
    assert y.dtype == torch.float32
    delta = small.true_delta(c.detach())
    assert_close(y, x.double() @ (small.weight + delta).T)
    grad = torch.randn_like(y)
    y.backward(grad)
    assert c.grad.dtype == dtype
    assert_close(c.grad, small.true_coefficient_gradient(grad, x), tolerance=1e-5 if dtype == torch.float64 else None)
