"""Held inputs against the cosine sum: outputs, gradients and gradients of gradients."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor

from fourierft import uniform_basis
from fourierft.spectral import can_hold, fingerprint, held_linear, hold
from fourierft.spectral.compiled.build import load_kernel
from fourierft.spectral.reference import reference_delta_weight

pytestmark = pytest.mark.parametrize("kernel", [kernel for kernel in [load_kernel()] if kernel], ids=["compiled"])
TOKENS = [(1,), (5,), (2, 9), (70,)]


def neighbour(layer):
    """Another basis that reads the same input."""
    return uniform_basis(layer.basis.out_features + 1, layer.basis.in_features, 1, 3)


@pytest.mark.parametrize("tokens", TOKENS, ids=str)
def test_outputs_and_gradients_are_those_of_the_dense_weight(kernel, layer, assert_close, tokens) -> None:
    basis, c = layer.basis, layer.coefficients.float().requires_grad_()
    x = torch.randn(*tokens, basis.in_features, requires_grad=True)
    grad = torch.randn(*tokens, basis.out_features)
    weight = layer.weight.float()
    y = held_linear(hold(x, [basis, neighbour(layer)]), x, weight, layer.bias.float(), c, basis, layer.scaling)
    whole = weight.double() + layer.true_delta(c)
    assert_close(y, x.double() @ whole.T + layer.bias)
    y.backward(grad)
    assert_close(x.grad, grad.double() @ whole)
    assert_close(c.grad, layer.true_coefficient_gradient(grad, x))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_without_a_weight_it_is_the_update_alone_in_float32(kernel, make_layer, assert_close, dtype) -> None:
    layer = make_layer(24, 34, 60)
    x = torch.randn(3, 7, 34).to(dtype)
    y = held_linear(hold(x, [layer.basis]), x, None, None, layer.coefficients.float(), layer.basis, layer.scaling)
    assert y.dtype == torch.float32
    assert_close(y, x.double() @ layer.true_delta().T)


def test_layers_that_share_an_input_sum_their_gradients_in_its_spectrum(kernel, make_layer, assert_close) -> None:
    layers = [make_layer(24, 34, 60), make_layer(40, 34, 50), make_layer(24, 34, 60, seed=8)]
    x, truth = torch.randn(11, 34, requires_grad=True), torch.zeros(11, 34, dtype=torch.float64)
    held = hold(x, [layer.basis for layer in layers])
    loss = x.new_zeros(())
    for layer in layers:
        grad = torch.randn(11, layer.basis.out_features)
        c = layer.coefficients.float()
        loss = loss + (held_linear(held, x, None, None, c, layer.basis, layer.scaling) * grad).sum()
        truth += grad.double() @ layer.true_delta()
    loss.backward()
    assert_close(x.grad, truth)


@pytest.mark.parametrize("frozen", ["x", "coefficients"])
def test_what_is_frozen_gets_no_gradient_and_costs_none(kernel, make_layer, assert_close, frozen) -> None:
    layer = make_layer(24, 34, 60)
    x = torch.randn(11, 34, requires_grad=frozen != "x")
    c = layer.coefficients.float().requires_grad_(frozen != "coefficients")
    saved: list[Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: saved.append(t) or t, lambda t: t):
        y = held_linear(hold(x, [layer.basis]), x, None, None, c, layer.basis, layer.scaling)
    grad = torch.randn(11, 24)
    y.backward(grad)
    if frozen == "x":
        assert x.grad is None
        assert_close(c.grad, layer.true_coefficient_gradient(grad, x))
    else:
        assert c.grad is None
        assert [t.shape for t in saved] == [c.shape]
        assert_close(x.grad, grad.double() @ layer.true_delta())


def test_what_is_saved_is_what_the_entries_read(kernel, make_layer) -> None:
    layer = make_layer(64, 2048, 30)
    x, saved = torch.randn(256, 2048, requires_grad=True), []
    weight, c = torch.randn(64, 2048), torch.randn(30, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(lambda t: saved.append(t) or t, lambda t: t):
        held_linear(hold(x, [layer.basis]), x, weight, None, c, layer.basis, 1.0)
    kept = sum(t.numel() for t in saved if t.shape not in (weight.shape, c.shape))
    assert 0 < kept <= (2 * 30 + 1) * len(x)


def test_gradients_of_gradients_are_those_of_the_dense_weight(kernel, make_layer, assert_close) -> None:
    layer = make_layer(24, 34, 60)
    x, c = torch.randn(11, 34, requires_grad=True), layer.coefficients.float().requires_grad_()

    def dense(x: Tensor, c: Tensor) -> Tensor:
        unit = torch.eye(60, dtype=torch.float64)
        shape = (layer.basis.entries, 24, 34, layer.scaling)
        deltas = torch.stack([reference_delta_weight(row, *shape) for row in unit])
        return x @ torch.einsum("n,noi->oi", c, deltas).T

    def held(x: Tensor, c: Tensor) -> Tensor:
        return held_linear(hold(x, [layer.basis, neighbour(layer)]), x, None, None, c, layer.basis, layer.scaling)

    def third(function: Callable[[Tensor, Tensor], Tensor], x: Tensor, c: Tensor) -> Iterator[Tensor]:
        (first,) = torch.autograd.grad(function(x, c).pow(3).sum(), x, create_graph=True)
        (second,) = torch.autograd.grad(first.pow(2).sum(), c, create_graph=True)
        yield from torch.autograd.grad(second.pow(2).sum(), (x, c))

    wide = x.detach().double().requires_grad_(), c.detach().double().requires_grad_()
    for found, expected in zip(third(held, x, c), third(dense, *wide), strict=True):
        assert_close(found, expected, 1e-4)


def test_a_saved_spectrum_may_come_back_from_elsewhere(kernel, make_layer, assert_close) -> None:
    layer, c = make_layer(24, 34, 60), torch.randn(60, requires_grad=True)
    x = torch.randn(70, 34)

    def shift(t: Tensor) -> Tensor:
        return torch.cat([t.new_zeros(1), t.flatten()])[1:].view(t.shape)  # not at a multiple of 64 bytes

    with torch.autograd.graph.saved_tensors_hooks(shift, lambda t: t):
        y = held_linear(hold(x, [layer.basis]), x, None, None, c, layer.basis, layer.scaling)
    grad = torch.randn(70, 24)
    y.backward(grad)
    assert_close(c.grad, layer.true_coefficient_gradient(grad, x))


@pytest.mark.usefixtures("two_threads")
def test_two_threads_give_the_same(kernel, make_layer, assert_close) -> None:
    layer, c = make_layer(24, 34, 60), torch.randn(60, requires_grad=True)
    x, grad = torch.randn(700, 34, requires_grad=True), torch.randn(700, 24)
    held_linear(hold(x, [layer.basis]), x, None, None, c, layer.basis, layer.scaling).backward(grad)
    assert_close(x.grad, grad.double() @ layer.true_delta(c))
    assert_close(c.grad, layer.true_coefficient_gradient(grad, x))


def test_what_cannot_be_held_is_told_before(kernel) -> None:
    basis, x, c = uniform_basis(24, 34, 60, 1), torch.randn(5, 34), torch.randn(60)
    weight, bias = torch.randn(24, 34), torch.randn(24)
    assert can_hold(x, (weight, bias), c, basis)
    assert can_hold(x.bfloat16(), None, c, basis)
    assert not can_hold(x.double(), None, c, basis)
    assert not can_hold(x, None, c.double(), basis)
    assert not can_hold(x, None, torch.randn(5, 60), basis)
    assert not can_hold(x[:0], None, c, basis)
    assert not can_hold(x, (weight, bias.clone().requires_grad_()), c, basis)
    assert not can_hold(torch.randn(10_000, 34), (weight, bias), c, basis)  # W + dW is cheaper
    assert not can_hold(torch.randn(5, 521), None, c, uniform_basis(24, 521, 60, 1))
    assert not can_hold(x.to("meta"), None, c, basis)


def _doubled(x: Tensor) -> None:
    x.mul_(2)


def _negated(x: Tensor) -> None:
    x.neg_()


def _turned(x: Tensor) -> None:
    x.copy_(x.flip(0).clone())


def _masked(x: Tensor) -> None:
    x[:, ::2].neg_()


def _touched(x: Tensor) -> None:
    x[-1, -1].neg_()


@pytest.mark.parametrize("shape", [(64, 96), (3, 7)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("change", [_doubled, _negated, _turned, _masked, _touched])
def test_a_fingerprint_tells_what_was_written(kernel, shape, dtype, change) -> None:
    x = torch.randn(shape).to(dtype)
    other = x.clone()
    assert fingerprint(other) == fingerprint(x)
    change(other)
    assert fingerprint(other) != fingerprint(x)
