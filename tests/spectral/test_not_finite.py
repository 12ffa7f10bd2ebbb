"""A row of a batch that is not finite stays alone: rows of others may stand beside it, or padding that no one reads."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from fourierft.spectral import adapted_linear, held_linear, hold, spectral_linear
from fourierft.spectral.compiled.build import load_kernel

LAYER = (24, 34, 60)
BAD = [1, 4]
NUMBERS = [float("nan"), float("inf"), -float("inf")]
TOKENS = [5, 8, 16, 40, 70]  # less than a tile, whole ones, and several


def spoil(x: Tensor, number: float) -> Tensor:
    """x with two rows that hold a number once, and all over."""
    x = x.clone()
    x[BAD[0], 3], x[BAD[1]] = number, number
    return x


def assert_alone(found: Tensor, expected: Tensor, assert_close) -> None:
    good = [row for row in range(len(found)) if row not in BAD]
    assert not found[BAD].isfinite().any()
    assert_close(found[good], expected[good])


@pytest.mark.usefixtures("path")
@pytest.mark.parametrize("tokens", TOKENS)
@pytest.mark.parametrize("number", NUMBERS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_a_token_that_is_not_finite_spoils_no_other(make_layer, assert_close, tokens, number, dtype) -> None:
    layer = make_layer(*LAYER)
    x = torch.randn(tokens, 34).to(dtype)
    found = spectral_linear(spoil(x, number), layer.coefficients.to(dtype), layer.basis, layer.scaling)
    assert_alone(found, x.double() @ layer.true_delta(layer.coefficients.to(dtype)).T, assert_close)


@pytest.mark.usefixtures("path")
@pytest.mark.parametrize("each", [1, 3, 40])
@pytest.mark.parametrize("number", NUMBERS)
def test_coefficients_that_are_not_finite_spoil_no_other_row(make_layer, assert_close, each, number) -> None:
    layer = make_layer(*LAYER)
    sets, x = torch.randn(9, 1, 60), torch.randn(9, each, 34)
    deltas = torch.stack([layer.true_delta(c[0]) for c in sets])
    found = spectral_linear(x, spoil(sets[:, 0], number)[:, None], layer.basis, layer.scaling)
    assert_alone(found, x.double() @ deltas.mT, assert_close)


@pytest.mark.usefixtures("path")
@pytest.mark.parametrize("tokens", TOKENS)
@pytest.mark.parametrize("where", ["x", "gradient"])
def test_gradients_of_other_tokens_are_right(make_layer, assert_close, tokens, where) -> None:
    layer = make_layer(*LAYER)
    weight, c = layer.weight.float(), layer.coefficients.float().requires_grad_()
    x, grad = torch.randn(tokens, 34), torch.randn(tokens, 24)
    expected = grad.double() @ (weight.double() + layer.true_delta(c))
    x = (spoil(x, NUMBERS[0]) if where == "x" else x).requires_grad_()
    y = adapted_linear(x, weight, None, c, layer.basis, layer.scaling, view="token")
    y.backward(spoil(grad, NUMBERS[0]) if where == "gradient" else grad)
    assert not c.grad.isfinite().any()  # as a sum over all tokens is
    if where == "x":
        assert_close(x.grad, expected)
    else:
        assert x.grad is not None
        assert_alone(x.grad, expected, assert_close)


@pytest.mark.parametrize("kernel", [kernel for kernel in [load_kernel()] if kernel], ids=["compiled"])
@pytest.mark.parametrize("tokens", TOKENS)
@pytest.mark.parametrize("where", ["x", "gradient"])
def test_held_inputs_tell_which_tokens_are_not_finite(kernel, make_layer, assert_close, tokens, where) -> None:
    layer, c = make_layer(*LAYER), torch.randn(60, requires_grad=True)
    x, grad, delta = torch.randn(tokens, 34), torch.randn(tokens, 24), layer.true_delta(c)
    given = (spoil(x, NUMBERS[1]) if where == "x" else x).requires_grad_()
    held = hold(given, [layer.basis])
    y = held_linear(held, given, None, None, c, layer.basis, layer.scaling)
    twice = y + held_linear(held, given, None, None, c.detach(), layer.basis, layer.scaling)
    twice.backward(spoil(grad, NUMBERS[1]) if where == "gradient" else grad)
    assert not c.grad.isfinite().any()
    if where == "x":
        assert_alone(y, x.double() @ delta.T, assert_close)
        assert_close(given.grad, 2 * grad.double() @ delta)
    else:
        assert_close(y, x.double() @ delta.T)
        assert given.grad is not None
        assert_alone(given.grad, 2 * grad.double() @ delta, assert_close)
