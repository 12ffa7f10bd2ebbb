"""Slabs of tokens: whatever their size, they cover all tokens once and change no number."""

from __future__ import annotations

import pytest
import torch

from fourierft.spectral import slabs, tokens

SIZES = [(1, 1), (1, 7), (5, 1), (3, 48), (2, 131), (9, 300), (1, 1031), (0, 4), (4, 0)]


@pytest.mark.parametrize("slab", [1, 600, 5000, 1 << 18])
@pytest.mark.parametrize(("sets", "count"), SIZES)
def test_slabs_cover_every_token_once(monkeypatch: pytest.MonkeyPatch, sets: int, count: int, slab: int) -> None:
    monkeypatch.setattr(slabs, "_SLAB", slab)
    covered = torch.zeros(sets, count, dtype=torch.int64)
    for part in slabs.slabs(covered, width=6):
        assert covered[part].numel() > 0
        covered[part] += 1
    assert (covered == 1).all()


@pytest.mark.parametrize("slab", [1, 600, 5000])
@pytest.mark.parametrize(("sets", "count"), SIZES)
def test_the_size_of_a_slab_changes_no_number(
    small, monkeypatch: pytest.MonkeyPatch, sets: int, count: int, slab: int
) -> None:
    basis = small.basis
    x = torch.randn(sets, count, basis.in_features, dtype=torch.float64)
    grad = torch.randn(sets, count, basis.out_features, dtype=torch.float64)
    c = torch.randn(sets, basis.n_frequency, dtype=torch.float64)

    def results() -> list[torch.Tensor]:
        return [
            tokens.token_product(x, c, basis, 2.0, False),
            tokens.token_product(grad, c, basis, 2.0, True),
            tokens.token_gradient(grad, x, basis, 2.0),
            *tokens.token_backward(grad, x, c, basis, 2.0),
        ]

    whole = results()
    monkeypatch.setattr(slabs, "_SLAB", slab)
    for found, expected in zip(results(), whole, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-11)


@pytest.mark.usefixtures("path")
def test_products_of_many_rows_are_the_cosine_sums(small, assert_close, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slabs, "_SLAB", 600)
    x, c = torch.randn(5, 150, 6), torch.randn(5, small.basis.n_frequency)
    grad = torch.randn(5, 150, 5)
    deltas = torch.stack([small.true_delta(row) for row in c])
    assert_close(tokens.token_product(x, c, small.basis, small.scaling, False), x.double() @ deltas.transpose(1, 2))
    assert_close(tokens.token_product(grad, c, small.basis, small.scaling, True), grad.double() @ deltas)
    expected = torch.stack([small.true_coefficient_gradient(g, t) for g, t in zip(grad, x, strict=True)])
    assert_close(tokens.token_gradient(grad, x, small.basis, small.scaling), expected)
