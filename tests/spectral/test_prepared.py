"""An update at rest gives what the differentiable views give."""

from __future__ import annotations

import pytest
import torch

from fourierft.errors import ShapeError
from fourierft.spectral import PreparedUpdate, SpectralBasis, spectral_linear, uniform_basis
from fourierft.spectral.reference import reference_delta_weight

pytestmark = pytest.mark.usefixtures("path")
SHAPES = [(1, 7, 3), (7, 1, 3), (13, 11, 20), (60, 63, 100), (96, 32, 40), (5, 5, 25)]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("lead", [(1,), (4,), (2, 3), (1, 1), (2, 1)])
@pytest.mark.parametrize(("out_features", "in_features", "n"), SHAPES)
def test_one_set_equals_the_cosine_sum(out_features: int, in_features: int, n: int, lead: tuple, dtype) -> None:
    basis = uniform_basis(out_features, in_features, n, 777)
    c, x = torch.randn(n, dtype=dtype), torch.randn(*lead, in_features, dtype=dtype)
    truth = x.double() @ reference_delta_weight(c, basis.entries, out_features, in_features, 3.0).T
    found = PreparedUpdate(c, basis, 3.0)(x)
    assert found.dtype == dtype
    assert (found - truth).abs().max() <= (1e-12 if dtype == torch.float64 else 1e-5) * truth.abs().max()


@pytest.mark.parametrize("tokens", [(), (1,), (5,), (2, 3)])
@pytest.mark.parametrize(("out_features", "in_features", "n"), SHAPES)
def test_a_set_a_row_equals_each_row_alone(out_features: int, in_features: int, n: int, tokens: tuple) -> None:
    basis = uniform_basis(out_features, in_features, n, 777)
    c, x = torch.randn(3, n, dtype=torch.float64), torch.randn(3, *tokens, in_features, dtype=torch.float64)
    found = PreparedUpdate(c, basis, 3.0)(x)
    for row in range(3):
        truth = x[row] @ reference_delta_weight(c[row], basis.entries, out_features, in_features, 3.0).T
        torch.testing.assert_close(found[row], truth, rtol=1e-12, atol=1e-12 * float(truth.abs().max()))


def test_half_precision_is_computed_and_returned_in_float32() -> None:
    basis, c, x = uniform_basis(24, 20, 30, 1), torch.randn(30), torch.randn(3, 20).bfloat16()
    found = PreparedUpdate(c, basis, 2.0)(x)
    torch.testing.assert_close(found, spectral_linear(x.float(), c, basis, 2.0))
    assert found.dtype == torch.float32


def test_long_inputs_go_in_slabs_and_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    basis, c, x = uniform_basis(24, 20, 30, 1), torch.randn(2, 30), torch.randn(2, 40, 20)
    short = PreparedUpdate(c, basis, 2.0)(x)
    monkeypatch.setattr("fourierft.spectral.prepared._SMALL", 0)
    torch.testing.assert_close(PreparedUpdate(c, basis, 2.0)(x), short)


def test_one_update_serves_any_number_of_tokens_and_adds_to_what_is_there() -> None:
    basis, c = uniform_basis(24, 20, 30, 1), torch.randn(3, 30)
    update = PreparedUpdate(c, basis, 2.0)
    for tokens in (1, 4, 1, 40):
        x, base = torch.randn(3, tokens, 20), torch.randn(3, tokens, 24)
        truth, onto = spectral_linear(x.double(), c.double()[:, None], basis, 2.0).float(), base.clone()
        torch.testing.assert_close(update(x), truth)
        assert update(x, onto=onto) is onto
        torch.testing.assert_close(onto, base + truth)


def test_empty_inputs_give_empty_outputs() -> None:
    assert PreparedUpdate(torch.randn(30), uniform_basis(24, 20, 30, 1), 1.0)(torch.zeros(0, 20)).shape == (0, 24)


@pytest.mark.parametrize(("c", "x"), [((31,), (3, 20)), ((1, 1, 30), (3, 20)), ((2, 30), (3, 20)), ((30,), (3, 24))])
def test_what_does_not_fit_is_refused(c: tuple, x: tuple) -> None:
    basis = SpectralBasis(24, 20, uniform_basis(24, 20, 30, 1).entries)
    with pytest.raises(ShapeError, match=r"use (x )?\["):
        PreparedUpdate(torch.randn(c), basis, 1.0)(torch.randn(x))
