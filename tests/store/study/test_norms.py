"""Norms without dW: those of the cosine sum, mirrored and real entries included."""

from __future__ import annotations

import pytest
import torch

from fourierft import SpectralBasis, uniform_basis
from fourierft.spectral.reference import reference_delta_weight
from fourierft.store.study.norms import unfold, update_norm


@pytest.mark.parametrize(("out_features", "in_features", "n"), [(7, 13, 91), (16, 12, 192), (31, 37, 60), (1, 9, 4)])
def test_norm_is_that_of_the_cosine_sum(out_features: int, in_features: int, n: int) -> None:
    basis = uniform_basis(out_features, in_features, n, 5)
    rows = torch.randn(3, n, dtype=torch.float64)
    expected = [reference_delta_weight(row, basis.entries, out_features, in_features, -25.0).norm() for row in rows]
    torch.testing.assert_close(update_norm(rows, basis, -25.0), torch.stack(expected))


def test_mirrored_entries_can_cancel() -> None:
    basis = SpectralBasis(8, 8, torch.tensor([[1, 7], [2, 6]]))
    assert update_norm(torch.tensor([1.0, -1.0]), basis, 3.0) == 0
    assert update_norm(torch.tensor([1.0, 1.0]), basis, 3.0) == pytest.approx(3 / 8 * 2 * 0.5**0.5)


def test_inner_products_are_those_of_the_cosine_sum() -> None:
    basis = uniform_basis(16, 12, 192, 5)
    rows = torch.randn(2, 192, dtype=torch.float64)
    first, second = (reference_delta_weight(row, basis.entries, 16, 12, 1.0) for row in rows)
    mine = unfold(rows, basis)
    torch.testing.assert_close(mine[0] @ mine[1], (first * second).sum())
