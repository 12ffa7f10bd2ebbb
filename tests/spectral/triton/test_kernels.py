"""The kernels in Triton's interpreter, beside the cosine sum in float64: forward, and both gradients."""

from __future__ import annotations

from typing import NamedTuple

import pytest
import torch
from torch import Tensor

from fourierft.spectral import SpectralBasis, uniform_entries
from fourierft.spectral.reference import reference_coefficient_gradient, reference_delta_weight
from fourierft.spectral.triton.choice import TOLERANCE, compare, judge, make_update
from fourierft.spectral.triton.update import TritonUpdate

pytestmark = pytest.mark.filterwarnings(  # Triton 3.6's interpreter reads scalars so, with NumPy before 2.4
    "ignore:Conversion of an array with ndim > 0 to a scalar:DeprecationWarning"
)
CPU = torch.device("cpu")
SCALING = 3.0
SHAPES = [  # out, in, n
    (1, 1, 1),
    (2, 9, 18),  # every entry
    (12, 10, 5),
    (43, 34, 1),
    (60, 63, 700),
    (64, 64, 128),
    (64, 80, 3000),
    (96, 130, 50),
    (576, 48, 340),
    (37, 1536, 90),
    (19 * 16 * 4, 24, 60),
]
TOKENS = [(1, 1), (1, 2), (1, 5), (3, 1), (2, 3)]  # sets, tokens
ERRORS = {torch.float32: 1e-6, torch.bfloat16: 8e-3, torch.float16: 1e-3}  # of what is rounded to the dtype
SUMMED = {torch.float32: 1e-6, torch.bfloat16: 1e-4, torch.float16: 1e-4}  # of the coefficients' gradient, float32


class Case(NamedTuple):
    update: TritonUpdate
    basis: SpectralBasis
    x: Tensor
    grad: Tensor
    coefficients: Tensor
    deltas: Tensor  # [sets, out, in] float64


def make_case(shape: tuple[int, int, int], sets: int = 1, tokens: int = 3, dtype: torch.dtype = torch.float32) -> Case:
    out, inner, n = shape
    basis = SpectralBasis(out, inner, uniform_entries(out, inner, n, 7))
    update = make_update(basis, CPU)
    assert update is not None
    coefficients = torch.randn(sets, n)
    deltas = torch.stack([reference_delta_weight(c, basis.entries, out, inner, SCALING) for c in coefficients])
    x, grad = torch.randn(sets, tokens, inner).to(dtype), torch.randn(sets, tokens, out).to(dtype)
    return Case(update, basis, x, grad, coefficients, deltas)


def assert_near(found: Tensor, truth: Tensor, allowed: float, terms: Tensor | None = None) -> None:
    """Within a share of the norm; of that of the terms, if the truth is a sum of them that may cancel."""
    assert found.shape == truth.shape
    error, norm = torch.linalg.norm(found.double() - truth), torch.linalg.norm(truth if terms is None else terms)
    assert error <= allowed * norm, f"{error / norm:.2e}"


def check(case: Case) -> None:
    dtype = case.x.dtype
    x, grad = case.x.double(), case.grad.double()
    y, back = x @ case.deltas.transpose(1, 2), grad @ case.deltas
    assert_near(case.update.product(case.x, case.coefficients, SCALING), y, ERRORS[dtype])
    assert_near(case.update.product(case.grad, case.coefficients, SCALING, transposed=True), back, ERRORS[dtype])
    of_x, of_coefficients = case.update.gradients(case.grad, case.x, case.coefficients, SCALING)
    assert_near(of_x, back, ERRORS[dtype])
    entries = case.basis.entries
    terms = torch.stack(
        [
            torch.stack(
                [reference_coefficient_gradient(torch.outer(a, b), entries, SCALING) for a, b in zip(g, t, strict=True)]
            )
            for g, t in zip(grad, x, strict=True)
        ]
    )  # [sets, tokens, n]
    assert of_coefficients.dtype == torch.float32
    assert_near(of_coefficients, terms.sum(1), SUMMED[dtype], terms)
    nothing, again = case.update.gradients(case.grad, case.x, None, SCALING)
    assert nothing.numel() == 0
    assert torch.equal(again, of_coefficients)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_odd_shapes_equal_the_cosine_sum(shape: tuple[int, int, int]) -> None:
    check(make_case(shape))


@pytest.mark.parametrize(("sets", "tokens"), TOKENS)
@pytest.mark.parametrize("dtype", ERRORS)
def test_any_number_of_tokens_and_sets_in_every_dtype(sets: int, tokens: int, dtype: torch.dtype) -> None:
    check(make_case((48, 34, 60), sets, tokens, dtype))


@pytest.mark.parametrize(
    ("out", "dtype"), [(4096, torch.bfloat16), (8960, torch.float16), (11008, torch.float32), (29568, torch.bfloat16)]
)
def test_a_wide_layer_goes_in_slabs(out: int, dtype: torch.dtype) -> None:
    check(make_case((out, 24, 50), tokens=2, dtype=dtype))


@pytest.mark.parametrize("shape", [(2, 0), (0, 3), (0, 0)])
def test_an_empty_batch_has_empty_results(shape: tuple[int, int]) -> None:
    case = make_case((48, 34, 60))
    sets, tokens = shape
    x, grad, coefficients = torch.zeros(*shape, 34), torch.zeros(*shape, 48), torch.randn(sets, 60)
    assert case.update.product(x, coefficients, SCALING).shape == (sets, tokens, 48)
    of_x, of_coefficients = case.update.gradients(grad, x, coefficients, SCALING)
    assert of_x.shape == (sets, tokens, 34)
    assert torch.equal(of_coefficients, torch.zeros(sets, 60))


@pytest.mark.parametrize("dtype", ERRORS)
def test_tokens_may_be_strided_and_results_are_added(dtype: torch.dtype) -> None:
    case = make_case((48, 34, 60), 2, 5, dtype)
    strided = torch.randn(2, 10, 68).to(dtype)[:, ::2, ::2]
    onto = torch.randn(2, 5, 48).to(dtype)
    truth = onto.double() + strided.double() @ case.deltas.transpose(1, 2)
    found = case.update.product(strided, case.coefficients, SCALING, onto=onto)
    assert found is onto
    assert_near(found, truth, ERRORS[dtype])
    columns = torch.zeros(2, 48, 5, dtype=dtype).transpose(1, 2)  # its last dimension is not contiguous
    assert case.update.product(strided, case.coefficients, SCALING, onto=columns) is columns
    assert_near(columns, truth - (truth - strided.double() @ case.deltas.transpose(1, 2)), ERRORS[dtype])


@pytest.mark.filterwarnings("ignore:invalid value encountered:RuntimeWarning")  # infinity times zero, in numpy
@pytest.mark.parametrize("number", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("dtype", ERRORS)
def test_a_token_that_is_not_finite_spoils_no_other(number: float, dtype: torch.dtype) -> None:
    case = make_case((48, 34, 60), 1, 6, dtype)
    whole = case.update.product(case.x, case.coefficients, SCALING)
    spoilt = case.x.clone()
    spoilt[0, 1], spoilt[0, 4, 3] = number, number
    found = case.update.product(spoilt, case.coefficients, SCALING)
    assert not found[0, [1, 4]].isfinite().any()
    assert_near(found[0, [0, 2, 3, 5]], whole[0, [0, 2, 3, 5]].double(), ERRORS[dtype])
    assert not case.update.gradients(case.grad, spoilt, case.coefficients, SCALING)[1].isfinite().any()


@pytest.mark.parametrize("factor", [1e6, 1e-30])
def test_a_token_of_another_size_leaves_its_neighbour_exact(factor: float) -> None:
    case = make_case((48, 34, 60), 1, 2)
    x = case.x * torch.tensor([factor, 1.0])[:, None]
    found, truth = case.update.product(x, case.coefficients, SCALING), x.double() @ case.deltas.transpose(1, 2)
    for token in range(2):
        assert_near(found[:, token], truth[:, token], ERRORS[torch.float32])


def test_a_flipped_sign_in_a_twiddle_is_found() -> None:
    case = make_case((96, 130, 50))
    assert judge(
        compare(case.update, case.basis, torch.float32, CPU, tokens=3)._replace(seconds=0.0), case.basis, torch.float32
    )
    tables = case.update._inner.tables
    (p1, p2, p3) = case.update._inner.plan.padded
    at = 2 * (p1 * p1 + p2 * p2 + p3 * p3) + p1 * p2 + p2 + 1  # sin of the turn of (1, 1)
    assert tables[at] != 0
    tables[at] *= -1
    with pytest.raises(AssertionError, match=r"\de[+-]"):
        check(case)
    found = compare(case.update, case.basis, torch.float32, CPU, tokens=3)
    assert found.error > TOLERANCE[torch.float32]
    with pytest.warns(UserWarning, match="off torch"):
        assert not judge(found, case.basis, torch.float32)
