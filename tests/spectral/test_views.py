"""Every view against the cosine sum: outputs and gradients, at odd shapes, in all dtypes, for all kinds of rows."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F

from fourierft import adapted_linear, delta_weight, spectral_linear, uniform_basis
from fourierft.errors import ConfigError, ShapeError
from fourierft.spectral import ops

pytestmark = pytest.mark.usefixtures("path")
HALVES = [torch.bfloat16, torch.float16]
DTYPES = [torch.float64, torch.float32]


def leaf(tensor: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    return tensor.detach().to(dtype).requires_grad_()


@pytest.mark.parametrize("dtype", DTYPES)
def test_delta_weight_and_its_gradient_are_the_cosine_sum(layer, dtype: torch.dtype, assert_close: Callable) -> None:
    c = leaf(layer.coefficients, dtype)
    delta = delta_weight(c, layer.basis, layer.scaling)
    assert delta.dtype == dtype
    assert_close(delta, layer.true_delta())
    grad = torch.randn_like(delta)
    delta.backward(grad)
    tokens = torch.eye(layer.basis.in_features, dtype=torch.float64)
    assert_close(c.grad, layer.true_coefficient_gradient(grad.T.double(), tokens))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("tokens", [1, 3, 48])
def test_spectral_linear_and_its_gradients_are_the_cosine_sum(
    layer, tokens: int, dtype: torch.dtype, assert_close: Callable
) -> None:
    x, c = leaf(torch.randn(tokens, layer.basis.in_features), dtype), leaf(layer.coefficients, dtype)
    y = spectral_linear(x, c, layer.basis, layer.scaling)
    assert y.dtype == dtype
    assert_close(y, x.double() @ layer.true_delta().T)
    grad = torch.randn_like(y)
    y.backward(grad)
    assert_close(x.grad, grad.double() @ layer.true_delta())
    assert_close(c.grad, layer.true_coefficient_gradient(grad, x))


@pytest.mark.parametrize("dense", [True, False])
@pytest.mark.parametrize("view", ["auto", "weight", "token"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_adapted_linear_and_its_gradients_are_the_cosine_sum(
    layer, dtype: torch.dtype, view: str, dense: bool, assert_close: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ops, "prefers_dense_gradient", lambda *_: dense)
    x, c = leaf(torch.randn(2, 3, layer.basis.in_features), dtype), leaf(layer.coefficients, dtype)
    total = layer.weight + layer.true_delta()
    for trained in (False, True):
        weight, bias = layer.weight.to(dtype).requires_grad_(trained), layer.bias.to(dtype).requires_grad_(trained)
        x.grad = c.grad = None
        y = adapted_linear(x, weight, bias, c, layer.basis, layer.scaling, view)
        assert y.dtype == dtype
        assert_close(y, x.double() @ total.T + layer.bias)
        grad = torch.randn_like(y)
        y.backward(grad)
        assert_close(x.grad, grad.double() @ total)
        assert_close(c.grad, layer.true_coefficient_gradient(grad, x))
        if trained:
            assert_close(weight.grad, grad.flatten(0, 1).double().T @ x.flatten(0, 1).double())
            assert_close(bias.grad, grad.double().sum((0, 1)))
        else:
            assert weight.grad is None
        with torch.no_grad():
            assert_close(adapted_linear(x, weight, None, c, layer.basis, layer.scaling, view), x.double() @ total.T)


@pytest.mark.parametrize("wanted", ["x", "coefficients"])
@pytest.mark.parametrize("view", ["weight", "token"])
def test_a_gradient_wanted_alone_is_the_same(small, view: str, wanted: str, assert_close: Callable) -> None:
    x, c = torch.randn(4, 6, dtype=torch.float64), small.coefficients.clone()
    (x if wanted == "x" else c).requires_grad_()
    y = adapted_linear(x, small.weight, small.bias, c, small.basis, small.scaling, view)
    grad = torch.randn_like(y)
    y.backward(grad)
    if wanted == "x":
        assert_close(x.grad, grad @ (small.weight + small.true_delta()))
    else:
        assert_close(c.grad, small.true_coefficient_gradient(grad, x))


# Rows with coefficients of their own


@pytest.mark.parametrize(
    ("x_lead", "sets"),
    [
        ((), ()),
        ((4,), ()),
        ((4, 3), ()),
        ((4, 3), (1, 1)),
        ((4, 3), (4, 1)),
        ((4, 3), (1, 3)),
        ((4, 3), (3,)),
        ((4, 3), (4, 3)),
        ((4,), (4,)),
        ((1,), (4,)),
        ((), (4,)),
        ((3,), (4, 1)),
        ((2, 1, 5), (2, 3, 1)),
        ((2, 3, 5), (3, 1)),
        ((4, 32), (4, 1)),  # blocks of tokens in every row
        ((1, 3), (1, 1, 1)),
    ],
)
def test_each_row_uses_its_own_coefficients(small, x_lead: tuple, sets: tuple, assert_close: Callable) -> None:
    basis, n = small.basis, small.basis.n_frequency
    x = torch.randn(*x_lead, 6, dtype=torch.float64, requires_grad=True)
    c = torch.randn(*sets, n, dtype=torch.float64, requires_grad=True)
    lead = torch.broadcast_shapes(x_lead, sets)
    every_x, every_c = x.expand(*lead, 6).reshape(-1, 6), c.expand(*lead, n).reshape(-1, n)
    deltas = torch.stack([small.true_delta(row) for row in every_c])
    y = spectral_linear(x, c, basis, small.scaling)
    assert_close(y, torch.einsum("roi,ri->ro", deltas, every_x.detach()).view(*lead, 5))
    grad = torch.randn_like(y)
    y.backward(grad)
    rows = grad.reshape(-1, 5)
    grad_x = torch.einsum("roi,ro->ri", deltas, rows).view(*lead, 6)
    grad_c = torch.stack(
        [small.true_coefficient_gradient(g[None], t[None]) for g, t in zip(rows, every_x, strict=True)]
    )
    assert_close(x.grad, grad_x.sum_to_size(x.shape))
    assert_close(c.grad, grad_c.view(*lead, n).sum_to_size(c.shape))
    for view in ("auto", "token"):
        base = F.linear(x, small.weight, small.bias)
        assert_close(adapted_linear(x, small.weight, small.bias, c, basis, small.scaling, view), (base + y).detach())


def test_rows_of_odd_shapes_use_their_own_coefficients(layer, assert_close: Callable) -> None:
    x = torch.randn(3, 2, layer.basis.in_features, dtype=torch.float64, requires_grad=True)
    for lead in ((3, 1), (3, 2)):
        c = torch.randn(*lead, layer.basis.n_frequency, dtype=torch.float64, requires_grad=True)
        x.grad = None
        y = spectral_linear(x, c, layer.basis, layer.scaling)
        grad = torch.randn_like(y)
        y.backward(grad)
        for row in range(3):
            for token in range(2):
                delta = layer.true_delta(c[row, token % lead[1]])
                assert_close(y[row, token], (x[row, token].double() @ delta.T).detach(), tolerance=1e-11)
                assert_close(x.grad[row, token], grad[row, token] @ delta, tolerance=1e-11)
        served = 2 // lead[1]  # tokens of the second row that its first set serves
        assert_close(c.grad[1, 0], layer.true_coefficient_gradient(grad[1, :served], x[1, :served]))


@pytest.mark.parametrize("view", ["weight", "token", "auto"])
@pytest.mark.parametrize(
    ("x_lead", "sets"), [((0,), ()), ((2, 0), ()), ((0, 3), ()), ((0,), (0,)), ((0, 3), (0, 1)), ((2, 0), (2, 1))]
)
def test_no_tokens_give_no_rows_and_no_gradient(small, x_lead: tuple, sets: tuple, view: str) -> None:
    view = "token" if sets else view
    x = torch.randn(*x_lead, 6, requires_grad=True)
    c = torch.randn(*sets, small.basis.n_frequency, requires_grad=True)
    y = adapted_linear(x, small.weight.float(), small.bias.float(), c, small.basis, 1.0, view)
    assert y.shape == (*x_lead, 5)
    y.sum().backward()
    for leaf in (x, c):
        assert leaf.grad is not None
        assert torch.equal(leaf.grad, torch.zeros_like(leaf))


@pytest.mark.parametrize("view", ["weight", "token"])
def test_inputs_that_lie_crosswise_give_the_same(small, view: str, assert_close: Callable) -> None:
    straight = torch.randn(6, 3, 4, dtype=torch.float64)
    x = straight.permute(2, 1, 0).detach().requires_grad_()  # [4, 3, 6]
    assert not x.is_contiguous()
    weight = small.weight.t().contiguous().t()
    y = adapted_linear(x, weight, None, small.coefficients, small.basis, small.scaling, view)
    assert_close(y, x.detach() @ (small.weight + small.true_delta()).T)
    y.sum().backward()  # whose gradient is one number, expanded
    assert_close(x.grad, torch.ones_like(y) @ (small.weight + small.true_delta()))


# Bad input


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"x": torch.randn(4, 7)}, ShapeError, "x is [4, 7] but the weight is 5 x 6; use x [..., 6]"),
        ({"x": torch.tensor(1.0)}, ShapeError, "x is [] but the weight is 5 x 6; use x [..., 6]"),
        (
            {"x": torch.ones(4, 6, dtype=torch.int64)},
            ShapeError,
            "x have the dtype torch.int64; use float64",
        ),
        ({"coefficients": torch.randn(8)}, ShapeError, "coefficients are [8] but the basis has n_frequency=9; use [9]"),
        ({"coefficients": torch.tensor(1.0)}, ShapeError, "coefficients are [] but the basis has n_frequency=9"),
        (
            {"coefficients": torch.ones(9, dtype=torch.int64)},
            ShapeError,
            "coefficients have the dtype torch.int64; use",
        ),
        ({"coefficients": torch.randn(3, 9)}, ShapeError, "coefficients [3, 9] do not broadcast against x [4, 6]"),
        (
            {"weight": torch.randn(6, 5)},
            ShapeError,
            "weight is [6, 5] but the basis is of a 5 x 6 weight; use a basis of",
        ),
        ({"bias": torch.randn(6)}, ShapeError, "bias is [6]; use [5], one number for each row of the weight"),
        ({"view": "dense"}, ConfigError, "view='dense' is unknown; use one of auto, weight, token"),
        (
            {"view": "weight", "coefficients": torch.randn(4, 9)},
            ConfigError,
            "view='weight' cannot serve [4, 9] coefficients; use view='token' or 'auto'",
        ),
        (
            {"view": "weight", "x": torch.randn(4, 6).bfloat16(), "weight": torch.randn(5, 6).bfloat16()},
            ConfigError,
            "view='weight' cannot serve a base product in torch.bfloat16; use view='token' or 'auto'",
        ),
    ],
)
def test_arguments_that_do_not_fit_are_named(small, change: dict, error: type, message: str) -> None:
    arguments = {"x": torch.randn(4, 6), "weight": torch.randn(5, 6), "bias": None, "coefficients": torch.randn(9)}
    with pytest.raises(error) as caught:
        adapted_linear(**(arguments | {"basis": small.basis, "scaling": 1.0} | change))
    assert message in str(caught.value)


def test_a_dense_update_takes_one_set(small) -> None:
    with pytest.raises(ShapeError) as caught:
        delta_weight(torch.randn(2, 9), small.basis, 1.0)
    assert str(caught.value) == "coefficients are [2, 9]; a dense update takes one set, [9]"


@pytest.mark.parametrize("view", ["auto", "token"])
def test_an_input_of_another_dtype_than_the_weight_is_named(view: str) -> None:
    basis = uniform_basis(6, 4, 3, 0)
    with pytest.raises(ShapeError, match=r"x is torch\.float64 but the weight is torch\.float32; cast one of them"):
        adapted_linear(torch.ones(2, 4).double(), torch.ones(6, 4), None, torch.zeros(3), basis, 1.0, view)


def test_a_basis_first_used_in_inference_mode_trains_afterwards() -> None:
    basis = uniform_basis(37, 29, 11, 5)
    x, weight, c = torch.randn(40, 29), torch.randn(37, 29), torch.randn(11)
    with torch.inference_mode():
        quiet = [adapted_linear(x, weight, None, c, basis, 2.0, view) for view in ("weight", "token")]
    c.requires_grad_()
    for view, expected in zip(("weight", "token"), quiet, strict=True):
        y = adapted_linear(x, weight, None, c, basis, 2.0, view)
        torch.testing.assert_close(y.detach(), expected.clone())
        (gradient,) = torch.autograd.grad(y.square().sum(), c)
        assert torch.isfinite(gradient).all()
