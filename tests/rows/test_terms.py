"""The row engine against sums in float64, row by row."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import Tensor

from fourierft.rows.terms import Term, add_into, add_updates, group_rows
from fourierft.spectral import spectral_linear, uniform_basis
from fourierft.spectral.reference import reference_delta_weight

OUT, IN, ROWS = 6, 9, 5


def make(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def term(rows: list[int] | None, sets: int | None, n: int, seed: int) -> Term:
    coefficients = make(n, seed=seed) if sets is None else make(sets, n, seed=seed)
    where = None if rows is None else torch.tensor(rows)
    return Term(where, coefficients, uniform_basis(OUT, IN, n, seed), 0.5)


def expected(y: Tensor, x: Tensor, terms: list[Term]) -> Tensor:
    """In float64, one row after another."""
    total = y.double().clone()
    for rows, coefficients, basis, scaling in terms:
        for place, row in enumerate(range(len(x)) if rows is None else rows.tolist()):
            own = coefficients if coefficients.dim() == 1 else coefficients[place]
            delta = reference_delta_weight(own.double(), basis.entries, OUT, IN, scaling)
            total[row] += x[row].double() @ delta.T
    return total


def updates_of(terms: list[Term], dims: int) -> list[tuple[Tensor | None, partial[Tensor]]]:
    return [
        (t.rows, partial(spectral_linear, coefficients=t.spread(dims), basis=t.basis, scaling=t.scaling)) for t in terms
    ]


@pytest.mark.parametrize("inner", [(), (3,), (2, 3)])
def test_each_row_gets_the_updates_that_name_it(inner: tuple[int, ...]) -> None:
    x, y = make(ROWS, *inner, IN), make(ROWS, *inner, OUT, seed=1)
    before = y.clone()
    terms = [term(None, None, 7, 1), term([4, 0], 2, 11, 2), term([2, 0], None, 5, 3), term(None, ROWS, 8, 4)]
    actual = add_updates(y, x, updates_of(terms, x.dim()))
    torch.testing.assert_close(actual.double(), expected(y, x, terms), rtol=1e-5, atol=1e-5)
    assert torch.equal(y, before)


def test_a_prepared_update_is_the_same() -> None:
    x, y = make(ROWS, 3, IN), make(ROWS, 3, OUT, seed=1)
    terms = [term([1, 3], 2, 7, 1), term([0], None, 5, 2)]
    actual = add_updates(y, x, [(one.rows, one.prepared()) for one in terms])
    torch.testing.assert_close(actual.double(), expected(y, x, terms), rtol=1e-5, atol=1e-5)


def test_sums_are_rounded_to_the_output_once() -> None:
    x, y = make(ROWS, IN), torch.full((ROWS, OUT), 256.0, dtype=torch.bfloat16)  # whose next number is 258
    small = [(rows, lambda part: torch.full((len(part), OUT), 0.75)) for rows in (None, torch.arange(ROWS))]
    actual = add_updates(y, x, small)
    assert actual.dtype == torch.bfloat16
    assert torch.equal(actual, torch.full_like(y, 258.0))  # 256 + 1.5; each alone would be rounded away


def test_no_updates_leave_the_output_itself() -> None:
    y = make(ROWS, OUT)
    assert add_updates(y, make(ROWS, IN), []) is y


def test_gradients_reach_the_coefficients_of_the_rows_alone() -> None:
    x, y = make(ROWS, IN), make(ROWS, OUT, seed=1)
    one = term([3, 1], 2, 7, 1)
    one = one._replace(coefficients=one.coefficients.requires_grad_())
    add_updates(y, x, updates_of([one], x.dim()))[3].sum().backward()
    assert one.coefficients.grad is not None
    assert one.coefficients.grad[0].any()
    assert not one.coefficients.grad[1].any()


@pytest.mark.parametrize("rows", [slice(1, 3), torch.tensor([4, 0])])
def test_parts_of_an_update_are_added_where_they_stand(rows: slice | Tensor) -> None:
    y, delta = make(ROWS, 10), make(2, OUT, seed=1)
    columns = [(slice(0, 2), slice(7, 9)), (slice(3, 6), slice(0, 3))]
    whole = y.clone()
    for place, row in enumerate(torch.arange(ROWS)[rows].tolist()):
        for source, target in columns:
            whole[row, target] += delta[place, source]
    add_into(y, delta, rows, columns)
    assert torch.equal(y, whole)


def test_rows_are_grouped_by_key_and_those_without_are_left_out() -> None:
    assert group_rows(["b", None, "a", "b"]) == {"b": [0, 3], "a": [2]}
    assert list(group_rows(["b", "a"])) == ["b", "a"]
    assert group_rows([None]) == {}
