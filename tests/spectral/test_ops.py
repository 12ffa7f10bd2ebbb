"""The operators: gradients of first and second order, and the contracts of torch.library."""

from __future__ import annotations

import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck

from fourierft.spectral import ops
from fourierft.spectral.ops import OPS

SCALING = 3.0
ROWS = [(1, 4), (3, 2), (3, 1)]  # sets of coefficients, tokens of each


def normal(*shape: int, dtype: torch.dtype = torch.float64, grad: bool = True) -> torch.Tensor:
    return torch.randn(*shape, dtype=dtype, requires_grad=grad)


@pytest.fixture(params=[True, False], ids=["dense gradient", "token gradient"])
def dense(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Both ways of the weight view to its coefficients' gradient."""
    monkeypatch.setattr(ops, "prefers_dense_gradient", lambda *_: request.param)
    return request.param


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize(("rows", "tokens"), ROWS)
def test_token_view_has_gradients_of_both_orders(small, rows: int, tokens: int, transposed: bool) -> None:
    length = small.basis.out_features if transposed else small.basis.in_features
    inputs = (normal(rows, tokens, length), normal(rows, small.basis.n_frequency))

    def view(x: torch.Tensor, coefficients: torch.Tensor) -> torch.Tensor:
        return OPS.token_view(x, coefficients, small.basis.key, SCALING, transposed)

    assert gradcheck(view, inputs)
    assert gradgradcheck(view, inputs)


@pytest.mark.parametrize(("rows", "tokens"), ROWS)
def test_token_gradient_has_gradients_of_both_orders(small, rows: int, tokens: int) -> None:
    inputs = (normal(rows, tokens, small.basis.out_features), normal(rows, tokens, small.basis.in_features))

    def gradient(grad: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        return OPS.token_gradient(grad, x, small.basis.key, SCALING)

    assert gradcheck(gradient, inputs)
    assert gradgradcheck(gradient, inputs)


@pytest.mark.parametrize("view", ["weight", "token"])
@pytest.mark.parametrize("bias", [True, False])
def test_the_adapted_product_has_gradients_of_both_orders(small, dense: bool, bias: bool, view: str) -> None:
    out_features, in_features, n = small.basis.out_features, small.basis.in_features, small.basis.n_frequency
    inputs = (normal(1, 3, in_features), normal(out_features, in_features), normal(1, n), normal(out_features))

    def product(x: torch.Tensor, weight: torch.Tensor, coefficients: torch.Tensor, added: torch.Tensor) -> torch.Tensor:
        return OPS.adapted(x, weight, added if bias else None, coefficients, small.basis.key, SCALING, view == "weight")

    assert gradcheck(product, inputs if bias else (*inputs[:3], normal(1, grad=False)))
    assert gradgradcheck(product, inputs if bias else (*inputs[:3], normal(1, grad=False)))


@pytest.mark.parametrize(("view", "rows"), [("weight", 1), ("token", 1), ("token", 3)])
def test_the_adapted_product_over_a_frozen_weight_has_gradients_of_both_orders(
    small, dense: bool, view: str, rows: int
) -> None:
    weight = normal(small.basis.out_features, small.basis.in_features, grad=False)

    def product(x: torch.Tensor, coefficients: torch.Tensor) -> torch.Tensor:
        return OPS.adapted(x, weight, None, coefficients, small.basis.key, SCALING, view == "weight")

    inputs = (normal(rows, 3, small.basis.in_features), normal(rows, small.basis.n_frequency))
    assert gradcheck(product, inputs)
    assert gradgradcheck(product, inputs)


def test_adapted_weight_has_gradients_of_both_orders(small) -> None:
    def adapted(weight: torch.Tensor, coefficients: torch.Tensor) -> torch.Tensor:
        return OPS.adapted_weight(weight, coefficients, small.basis.key, SCALING)

    inputs = (normal(*small.weight.shape), normal(1, small.basis.n_frequency))
    assert gradcheck(adapted, inputs)
    assert gradgradcheck(adapted, inputs)


def test_delta_and_its_gradient_have_gradients_of_both_orders(small) -> None:
    def delta(coefficients: torch.Tensor) -> torch.Tensor:
        return OPS.delta(coefficients, small.basis.key, SCALING)

    def gradient(grad: torch.Tensor) -> torch.Tensor:
        return OPS.delta_gradient(grad, small.basis.key, SCALING)

    for operator, size in [(delta, (1, small.basis.n_frequency)), (gradient, tuple(small.weight.shape))]:
        assert gradcheck(operator, (normal(*size),))
        assert gradgradcheck(operator, (normal(*size),))


@pytest.mark.parametrize(("rows", "tokens"), [*ROWS, (2, 0), (2, 48), (1, 131)])
def test_the_shared_backward_equals_the_two_gradients(small, rows: int, tokens: int) -> None:
    key = small.basis.key
    grad = normal(rows, tokens, small.basis.out_features, grad=False)
    x, c = normal(rows, tokens, small.basis.in_features, grad=False), normal(rows, small.basis.n_frequency, grad=False)
    weight = normal(small.basis.out_features, small.basis.in_features, grad=False)
    view, gradient = OPS.token_view(grad, c, key, SCALING, True), OPS.token_gradient(grad, x, key, SCALING)
    for base, expected in [(None, view), (weight, grad @ weight + view)]:
        grad_x, grad_c = OPS.token_backward(grad, x, base, c, key, SCALING)
        torch.testing.assert_close(grad_x, expected)
        torch.testing.assert_close(grad_c, gradient)


def cases(small, dtype: torch.dtype, rows: int, tokens: int) -> list[tuple]:
    """Arguments of every operator, with gradients wanted where it has any."""
    out_features, in_features, key = small.basis.out_features, small.basis.in_features, small.basis.key

    def make(*shape: int, grad: bool = True) -> torch.Tensor:
        return normal(*shape, dtype=dtype, grad=grad)

    x, grad, c = make(rows, tokens, in_features), make(rows, tokens, out_features), make(rows, small.basis.n_frequency)
    plain, weight = (grad.detach(), x.detach(), c.detach()), make(out_features, in_features, grad=False)
    one = make(1, small.basis.n_frequency)
    return [
        (OPS.token_view, (x, c, key, SCALING, False)),
        (OPS.token_view, (grad, c, key, SCALING, True)),
        (OPS.token_gradient, (grad, x, key, SCALING)),
        (OPS.token_backward, (*plain[:2], None, plain[2], key, SCALING)),
        (OPS.token_backward, (*plain[:2], weight, plain[2], key, SCALING)),
        (OPS.adapted, (x, make(out_features, in_features), make(out_features), one, key, SCALING, True)),
        (OPS.adapted, (x, weight, None, one, key, SCALING, True)),
        (OPS.adapted, (x, weight, None, c, key, SCALING, False)),
        (OPS.adapted_weight, (make(out_features, in_features), one, key, SCALING)),
        (OPS.delta, (one, key, SCALING)),
        (OPS.delta_gradient, (make(out_features, in_features), key, SCALING)),
    ]


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")  # torch 2.15 checks clones
@pytest.mark.parametrize(("rows", "tokens"), [(1, 4), (3, 2), (2, 0)])
@pytest.mark.parametrize("case", range(11))
def test_operators_keep_the_contracts_of_torch_library(small, case: int, rows: int, tokens: int) -> None:
    operator, arguments = cases(small, torch.float32, rows, tokens)[case]
    torch.library.opcheck(operator.default, arguments)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("case", [0, 1, 2, 3])
def test_token_operators_keep_the_contracts_in_half_precision(small, case: int, dtype: torch.dtype) -> None:
    operator, arguments = cases(small, dtype, 3, 2)[case]
    torch.library.opcheck(operator.default, arguments, test_utils=("test_schema", "test_faketensor"))


def test_operators_take_tensors_that_lie_crosswise(small) -> None:
    key, n = small.basis.key, small.basis.n_frequency
    x = normal(small.basis.in_features, 2, 3, grad=False).permute(2, 1, 0)
    grad = normal(1, 1, 1, grad=False).expand(3, 2, small.basis.out_features)
    c = normal(n, 3, grad=False).t()
    for operator, arguments in [
        (OPS.token_view, (x, c, key, SCALING, False)),
        (OPS.token_gradient, (grad, x, key, SCALING)),
        (OPS.token_backward, (grad, x, None, c, key, SCALING)),
    ]:
        torch.library.opcheck(operator.default, arguments, test_utils=("test_schema", "test_faketensor"))
        straight = [a.contiguous() if isinstance(a, torch.Tensor) else a for a in arguments]
        torch.testing.assert_close(operator(*arguments), operator(*straight), rtol=0, atol=0)
