"""Stacks of weights against the cosine sum in float64, each with coefficients of its own."""

from __future__ import annotations

import pytest
import torch

from fourierft.errors import ShapeError
from fourierft.spectral import adapted_stack, uniform_basis
from fourierft.spectral.reference import reference_coefficient_gradient, reference_delta_weight

SHAPES = [(3, 11, 5, 12), (2, 6, 8, 48), (1, 1, 4, 3), (4, 7, 1, 2)]


def truth(weight: torch.Tensor, coefficients: torch.Tensor, entries: torch.Tensor, scaling: float) -> torch.Tensor:
    rows, columns = weight.shape[1:]
    deltas = [reference_delta_weight(c, entries, rows, columns, scaling) for c in coefficients]
    return weight.double() + torch.stack(deltas)


@pytest.mark.parametrize(("weights", "rows", "columns", "n"), SHAPES)
@pytest.mark.parametrize("transposed", [False, True])
def test_each_weight_gets_its_own_update(weights: int, rows: int, columns: int, n: int, transposed: bool) -> None:
    basis = uniform_basis(rows, columns, n, 777)
    weight = torch.randn(weights, columns, rows).mT if transposed else torch.randn(weights, rows, columns)
    coefficients = torch.randn(weights, n)
    found = adapted_stack(weight, coefficients, basis, 30.0)
    assert (found.dtype, found.stride()) == (weight.dtype, weight.stride())
    torch.testing.assert_close(found.double(), truth(weight, coefficients, basis.entries, 30.0), rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize(("weights", "rows", "columns", "n"), SHAPES)
def test_gradients_are_those_of_the_cosine_sum(weights: int, rows: int, columns: int, n: int) -> None:
    basis = uniform_basis(rows, columns, n, 777)
    weight = torch.randn(weights, rows, columns, dtype=torch.float64, requires_grad=True)
    coefficients = torch.randn(weights, n, dtype=torch.float64, requires_grad=True)
    grad = torch.randn(weights, rows, columns, dtype=torch.float64)
    adapted_stack(weight, coefficients, basis, 30.0).backward(grad)
    expected = torch.stack([reference_coefficient_gradient(own, basis.entries, 30.0) for own in grad])
    torch.testing.assert_close(coefficients.grad, expected)
    torch.testing.assert_close(weight.grad, grad)
    assert torch.autograd.gradgradcheck(lambda w, c: adapted_stack(w, c, basis, 3.0) ** 2, (weight, coefficients))


def test_a_sum_in_half_precision_is_rounded_once() -> None:
    basis, weight = uniform_basis(11, 5, 12, 777), torch.randn(3, 11, 5).bfloat16()
    coefficients = torch.randn(3, 12) * 0.1
    exact = truth(weight, coefficients, basis.entries, 30.0)
    found = adapted_stack(weight, coefficients, basis, 30.0)
    assert found.dtype == torch.bfloat16
    assert ((found.double() - exact).abs() <= exact.abs() * 2**-8 + 1e-6).all()


def test_it_compiles_without_a_graph_break() -> None:
    basis, weight = uniform_basis(11, 5, 12, 777), torch.randn(3, 11, 5)
    coefficients = torch.randn(3, 12, requires_grad=True)
    compiled = torch.compile(lambda w, c: adapted_stack(w, c, basis, 3.0), fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(weight, coefficients), adapted_stack(weight, coefficients, basis, 3.0))


@pytest.mark.parametrize(("weight", "coefficients"), [((11, 5), (12,)), ((3, 5, 11), (3, 12)), ((3, 11, 5), (2, 12))])
def test_what_does_not_fit_is_refused(weight: tuple[int, ...], coefficients: tuple[int, ...]) -> None:
    with pytest.raises(ShapeError, match=r"do not fit a basis of 11 x 5 and n_frequency=12; use \[weights, 11, 5\]"):
        adapted_stack(torch.zeros(weight), torch.zeros(coefficients), uniform_basis(11, 5, 12, 777), 3.0)
