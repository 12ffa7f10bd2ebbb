"""The lookup view against rows of the cosine sum in float64."""

from __future__ import annotations

import pytest
import torch

from fourierft.errors import ShapeError
from fourierft.spectral import spectral_embedding, uniform_basis
from fourierft.spectral.reference import reference_coefficient_gradient, reference_delta_weight

SHAPES = [(11, 5, 12), (8, 6, 20), (37, 16, 50), (1, 4, 3), (5, 1, 3), (7, 9, 63)]


@pytest.mark.parametrize(("tokens", "width", "n"), SHAPES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_rows_are_those_of_the_cosine_sum(tokens: int, width: int, n: int, dtype: torch.dtype) -> None:
    basis, ids = uniform_basis(tokens, width, n, 777), torch.randint(0, tokens, (3, 4))
    coefficients = torch.randn(n).to(dtype)
    expected = reference_delta_weight(coefficients, basis.entries, tokens, width, 30.0)[ids]
    found = spectral_embedding(ids, coefficients, basis, 30.0)
    tolerance = 1e-12 if dtype == torch.float64 else 2e-5
    assert found.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    torch.testing.assert_close(found.double(), expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize(("tokens", "width", "n"), SHAPES)
def test_gradient_is_that_of_the_cosine_sum(tokens: int, width: int, n: int) -> None:
    basis, ids = uniform_basis(tokens, width, n, 777), torch.randint(0, tokens, (3, 4))
    coefficients = torch.randn(n, dtype=torch.float64, requires_grad=True)
    grad = torch.randn(3, 4, width, dtype=torch.float64)
    spectral_embedding(ids, coefficients, basis, 30.0).backward(grad)
    whole = torch.zeros(tokens, width, dtype=torch.float64).index_put((ids,), grad, accumulate=True)
    torch.testing.assert_close(coefficients.grad, reference_coefficient_gradient(whole, basis.entries, 30.0))


def test_gradients_of_higher_order() -> None:
    basis, ids = uniform_basis(11, 5, 12, 777), torch.tensor([[3, 3], [10, 0]])
    coefficients = torch.randn(2, 1, 12, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda c: spectral_embedding(ids, c, basis, 3.0), coefficients)
    assert torch.autograd.gradgradcheck(lambda c: spectral_embedding(ids, c, basis, 3.0) ** 2, coefficients)


def test_each_row_has_its_own_coefficients() -> None:
    basis, ids = uniform_basis(11, 5, 12, 777), torch.randint(0, 11, (3, 4))
    sets = torch.randn(3, 1, 12)
    found = spectral_embedding(ids, sets, basis, 30.0)
    for i in range(3):
        torch.testing.assert_close(found[i], spectral_embedding(ids[i], sets[i, 0], basis, 30.0))


def test_a_long_input_goes_through_in_parts() -> None:
    basis, ids = uniform_basis(11, 5, 55, 777), torch.randint(0, 11, (20_000,))
    coefficients = torch.randn(55, requires_grad=True)
    whole = reference_delta_weight(coefficients.detach(), basis.entries, 11, 5, 30.0)
    found = spectral_embedding(ids, coefficients, basis, 30.0)
    torch.testing.assert_close(found.double(), whole[ids], rtol=2e-5, atol=2e-5)
    found.sum().backward()
    counts = torch.bincount(ids, minlength=11).double()[:, None].expand(11, 5)
    expected = reference_coefficient_gradient(counts, basis.entries, 30.0)
    torch.testing.assert_close(coefficients.grad.double(), expected, rtol=1e-3, atol=1e-2)


@pytest.mark.parametrize("shape", [(0,), (2, 0), ()])
def test_ids_of_any_shape(shape: tuple[int, ...]) -> None:
    basis = uniform_basis(11, 5, 12, 777)
    found = spectral_embedding(torch.zeros(shape, dtype=torch.long), torch.randn(12), basis, 30.0)
    assert found.shape == (*shape, 5)


def test_it_compiles_without_a_graph_break() -> None:
    basis, ids, coefficients = uniform_basis(11, 5, 12, 777), torch.randint(0, 11, (2, 3)), torch.randn(12)
    coefficients.requires_grad_(True)
    compiled = torch.compile(lambda i, c: spectral_embedding(i, c, basis, 3.0), fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(ids, coefficients), spectral_embedding(ids, coefficients, basis, 3.0))


def test_ids_that_are_no_integers_are_refused() -> None:
    with pytest.raises(ShapeError, match=r"ids have the dtype torch.float32; use integers"):
        spectral_embedding(torch.zeros(3), torch.randn(12), uniform_basis(11, 5, 12, 777), 3.0)
