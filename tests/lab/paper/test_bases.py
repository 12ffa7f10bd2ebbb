"""Table 6's layer: its bases, its update, and that nothing else takes it for FourierFT."""

from __future__ import annotations

import math
from pathlib import Path

import peft
import pytest
import torch

import fourierft
from fourierft.errors import CheckpointError, ConfigError
from fourierft.spectral.reference import reference_delta_weight
from lab.paper.bases import BasisConfig, BasisLayer, bases_enabled, basis_factors, basis_matrix, compose


@pytest.mark.parametrize(("out_features", "in_features"), [(48, 48), (33, 20)])
def test_fourier_basis_gives_the_update_of_the_core(out_features: int, in_features: int) -> None:
    coefficients = torch.randn(40)
    entries = fourierft.uniform_entries(out_features, in_features, 40, 2024)
    left, right = basis_factors("fourier", out_features, in_features, 40, 2024)
    found = compose(coefficients, left, right, 150.0)
    basis = fourierft.SpectralBasis(out_features, in_features, entries)
    torch.testing.assert_close(found, fourierft.delta_weight(coefficients, basis, 150.0), rtol=1e-4, atol=1e-6)
    truth = reference_delta_weight(coefficients, entries, out_features, in_features, 150.0)
    torch.testing.assert_close(found.double(), truth, rtol=1e-4, atol=1e-6)


def test_orthogonal_columns_are_orthogonal_and_of_one_norm() -> None:
    basis = basis_matrix("orthogonal", 64, 1)
    torch.testing.assert_close(basis.T @ basis * 64 * math.sqrt(2), torch.eye(64), rtol=0, atol=1e-5)


def test_random_elements_are_normal_and_no_two_columns_alike() -> None:
    basis = basis_matrix("random", 256, 1) * 256 * 2**0.25
    assert float(basis.mean()) == pytest.approx(0, abs=0.02)
    assert float(basis.std()) == pytest.approx(1, abs=0.02)
    products = (basis.T @ basis / 256).fill_diagonal_(0)
    assert 0.1 < float(products.abs().max()) < 0.5


@pytest.mark.parametrize("kind", ["fourier", "random", "orthogonal"])
def test_a_coefficient_moves_the_update_by_the_same_norm(kind: str) -> None:
    left, right = basis_factors(kind, 96, 64, 500, 7)
    norms = torch.stack([compose(c, left, right, 1.0).norm() for c in torch.eye(500)[:50]])
    assert float(norms.square().mean().sqrt()) == pytest.approx(1 / math.sqrt(2 * 96 * 64), rel=0.05)


def adapted(kind: str) -> peft.PeftModel:
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(20, 33), torch.nn.ReLU(), torch.nn.Linear(33, 5))
    config = BasisConfig(n_frequency=40, basis=kind, target_modules=["0"])
    return peft.get_peft_model(model, config)


@pytest.mark.parametrize("kind", ["fourier", "random", "orthogonal"])
def test_layer_adds_its_update_and_learns(kind: str) -> None:
    with bases_enabled():
        model = adapted(kind)
        layer, x = model.base_model.model[0], torch.randn(6, 20)
        assert isinstance(layer, BasisLayer)
        torch.testing.assert_close(layer(x), layer.base_layer(x))  # starts as the base
        optimizer = torch.optim.Adam(layer.fourierft_spectrum.parameters(), lr=1e-2)
        losses = []
        for _ in range(20):
            losses.append(model(x).square().mean())
            optimizer.zero_grad()
            losses[-1].backward()
            optimizer.step()
        assert losses[-1] < 0.8 * losses[0]
        left, right = basis_factors(kind, 33, 20, 40, 777)
        delta = compose(layer.fourierft_spectrum["default"], left, right, layer.fourierft_scaling["default"])
        torch.testing.assert_close(layer(x), layer.base_layer(x) + x @ delta.T)
        with model.disable_adapter():
            torch.testing.assert_close(layer(x), layer.base_layer(x))
        with pytest.raises(ConfigError, match="does not merge"):
            model.merge_and_unload()


def test_checkpoint_opens_nowhere_else(tmp_path: Path) -> None:
    with bases_enabled():
        adapted("orthogonal").save_pretrained(str(tmp_path))
    fourierft.enable()
    try:
        with pytest.raises(CheckpointError, match="basis"):
            peft.PeftConfig.from_pretrained(str(tmp_path))
    finally:
        fourierft.disable()
    base = torch.nn.Sequential(torch.nn.Linear(20, 33), torch.nn.ReLU(), torch.nn.Linear(33, 5))
    with pytest.raises((KeyError, ValueError), match="orthogonal basis"), pytest.warns(UserWarning, match="fourierft"):
        peft.PeftModel.from_pretrained(base, tmp_path)


def test_tables_are_as_before_afterwards() -> None:
    fourierft.enable()
    before = peft.mapping.PEFT_TYPE_TO_TUNER_MAPPING[peft.PeftType.FOURIERFT]
    with bases_enabled(), pytest.raises(ConfigError, match="basis='fourrier' is unknown"):
        BasisConfig(basis="fourrier")
    assert peft.mapping.PEFT_TYPE_TO_TUNER_MAPPING[peft.PeftType.FOURIERFT] is before
