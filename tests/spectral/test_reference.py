"""The reference is the paper's sum, checked term by term and against a complex transform."""

from __future__ import annotations

import math

import pytest
import torch

from fourierft import uniform_entries
from fourierft.spectral.reference import cosine_atoms, reference_coefficient_gradient, reference_delta_weight

SHAPES = [(1, 1, 1), (1, 7, 3), (6, 1, 2), (5, 7, 35), (8, 6, 11)]


@pytest.mark.parametrize(("out_features", "in_features", "n"), SHAPES)
def test_delta_weight_is_the_double_sum_of_cosines(out_features: int, in_features: int, n: int) -> None:
    entries = uniform_entries(out_features, in_features, n, seed=1)
    coefficients = torch.randn(n, dtype=torch.float64)
    found = reference_delta_weight(coefficients, entries, out_features, in_features, scaling=3.0)
    for p in range(out_features):
        for q in range(in_features):
            terms = [
                c * math.cos(2 * math.pi * (p * u / out_features + q * v / in_features))
                for c, u, v in zip(coefficients.tolist(), *entries.tolist(), strict=True)
            ]
            assert found[p, q].item() == pytest.approx(3.0 * math.fsum(terms) / (out_features * in_features), abs=1e-14)


@pytest.mark.parametrize(("out_features", "in_features", "n"), SHAPES)
def test_delta_weight_is_the_real_part_of_the_complex_inverse(out_features: int, in_features: int, n: int) -> None:
    entries = uniform_entries(out_features, in_features, n, seed=2)
    coefficients = torch.randn(n, dtype=torch.float64)
    spectrum = torch.zeros(out_features, in_features, dtype=torch.complex128)
    spectrum[entries[0], entries[1]] = coefficients.to(torch.complex128)
    expected = 2.5 * torch.fft.ifft2(spectrum).real
    found = reference_delta_weight(coefficients, entries, out_features, in_features, scaling=2.5)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-14)


def test_coefficient_gradient_is_the_slope_of_a_linear_loss() -> None:
    entries, grad = uniform_entries(6, 5, 8, seed=3), torch.randn(6, 5, dtype=torch.float64)
    found = reference_coefficient_gradient(grad, entries, scaling=7.0)
    for k in range(8):  # the loss <grad, dW(c)> is linear, so one unit step is its slope
        step = reference_delta_weight(torch.eye(8, dtype=torch.float64)[k], entries, 6, 5, scaling=7.0)
        assert found[k].item() == pytest.approx((grad * step).sum().item(), rel=1e-12, abs=1e-14)


def test_phases_stay_exact_at_large_indices() -> None:
    entries = torch.tensor([[0], [999_998]])  # the last phase is 999,998**2 / 999,999 turns, or 1 / 999,999 of one
    found = cosine_atoms(entries, 1, 999_999)[0, 0, -1].item()
    assert found == pytest.approx(math.cos(2 * math.pi / 999_999), abs=1e-15)


def test_one_constant_entry_is_a_constant_weight() -> None:
    found = reference_delta_weight(torch.tensor([4.0]), torch.zeros(2, 1, dtype=torch.int64), 3, 5, scaling=2.0)
    torch.testing.assert_close(found, torch.full((3, 5), 8.0 / 15, dtype=torch.float64))
