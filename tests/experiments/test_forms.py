"""Other forms of the adapter: their updates by hand, that they learn, and that no other loader takes them."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import peft
import pytest
import torch

import fourierft
from experiments.factors import ALPHA, Factors, fourier_basis
from experiments.forms import FormConfig, FormLayer, forms_enabled
from fourierft.errors import CheckpointError, ConfigError
from fourierft.spectral.reference import reference_delta_weight

N = 24


def adapted(**changes: Any) -> peft.PeftModel:
    torch.manual_seed(0)
    blocks = {"query": torch.nn.Linear(20, 12), "value": torch.nn.Linear(20, 12)}
    model = torch.nn.Module()
    model.block = torch.nn.ModuleDict(blocks)
    model.forward = lambda x: model.block["query"](x) + model.block["value"](x).tanh()
    return peft.get_peft_model(model, FormConfig(n_frequency=N, target_modules=["query", "value"], **changes))


def layers_of(model: peft.PeftModel) -> list[FormLayer]:
    return [module for module in model.modules() if isinstance(module, FormLayer)]


@pytest.mark.parametrize("size", [1, 2, 7, 12, 33])
def test_real_fourier_basis_is_orthonormal_and_holds_one_frequency_a_row(size: int) -> None:
    basis = fourier_basis(size).double()
    torch.testing.assert_close(basis @ basis.T, torch.eye(size, dtype=torch.float64), rtol=0, atol=1e-5)
    energies = torch.fft.rfft(basis, norm="ortho").abs().square()
    assert ((energies > 1e-6).sum(1) == 1).all()


@pytest.mark.parametrize("rank", [1, 2])
def test_factored_update_is_the_product_of_its_factors(rank: int) -> None:
    factors = Factors(12, 20, N, rank, 4.0, 777)
    numbers = torch.randn(N, dtype=torch.float64).float()
    n_a = n_b = N // (2 * rank)
    a, b = numbers[: rank * n_a].view(rank, n_a), numbers[rank * n_a :].view(rank, n_b)
    delta = torch.zeros(12, 20)
    for j in range(rank):
        left = sum(b[j, k] * factors.outputs[k] for k in range(n_b))
        right = sum(a[j, k] * factors.inputs[k] for k in range(n_a))
        delta += ALPHA / rank * torch.outer(left, right)
    torch.testing.assert_close(factors.delta_weight(numbers), delta, rtol=1e-5, atol=1e-5)
    assert torch.linalg.matrix_rank(delta) == rank


def test_step_moves_factors_as_far_as_it_moves_those_of_lora() -> None:
    factors = Factors(96, 64, 60, 1, 1.0, 777)
    signs = torch.randint(0, 2, (60,)).float() * 2 - 1
    moved_a, moved_b = signs[:30] @ factors.inputs, signs[30:] @ factors.outputs
    assert float(moved_a.norm()) == pytest.approx(math.sqrt(64), rel=1e-4)  # as +-1 on each element of a row of A
    assert float(moved_b.norm()) == pytest.approx(math.sqrt(96), rel=1e-4)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"form": "factored"},
        {"form": "factored", "rank": 2, "ratio": 4.0},
        {"gain": True},
        {"tie": ["query", "value"]},
        {"whiten": 0.5},
    ],
)
def test_forms_start_as_the_base_and_learn(changes: dict[str, Any]) -> None:
    with forms_enabled():
        model = adapted(**changes)
        x = torch.randn(30, 20) * torch.linspace(0.1, 3, 20)
        first = layers_of(model)[0]
        torch.testing.assert_close(first(x), first.base_layer(x))
        target = torch.randn(30, 12)
        optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=3e-3)
        losses = []
        for _ in range(15):
            losses.append((model(x) - target).square().mean())
            optimizer.zero_grad()
            losses[-1].backward()
            optimizer.step()
        assert losses[-1] < 0.9 * losses[0]
        with model.disable_adapter():
            torch.testing.assert_close(first(x), first.base_layer(x))
        with pytest.raises(ConfigError, match="does not merge"):
            model.merge_and_unload()


def test_plain_form_is_fourierft_with_a_gain_in_front() -> None:
    with forms_enabled():
        layer = layers_of(adapted(gain=True))[0]
    with torch.no_grad():
        layer.fourierft_spectrum["default"].normal_()
        layer.fourierft_gain["default"].fill_(0.5)
    entries = fourierft.uniform_entries(12, 20, N, 777)
    scaling = layer.fourierft_scaling["default"]
    truth = reference_delta_weight(layer.fourierft_spectrum["default"].detach(), entries, 12, 20, 0.5 * scaling)
    torch.testing.assert_close(layer.get_delta_weight("default").double(), truth, rtol=1e-4, atol=1e-5)


def test_tied_layers_train_one_set_of_coefficients() -> None:
    with forms_enabled():
        model = adapted(tie=["query", "value"])
    first, second = (layer.fourierft_spectrum["default"] for layer in layers_of(model))
    assert first is second
    assert sum(p.numel() for p in model.parameters() if p.requires_grad) == N


def test_whitened_input_has_even_features_and_the_norm_of_the_input() -> None:
    with forms_enabled():
        layer = layers_of(adapted(whiten=1.0))[0]
    x = torch.randn(500, 20) * torch.linspace(0.1, 3, 20)
    rms = x.square().mean(0).sqrt()
    whitened = layer._whiten(x, "default")
    torch.testing.assert_close(whitened.square().mean(0).sqrt(), (rms.norm() / math.sqrt(20)).expand(20))
    torch.testing.assert_close(layer._whiten(2 * x, "default"), 2 * whitened)  # the first batch's scales stay


def test_checkpoint_opens_nowhere_else(tmp_path: Path) -> None:
    with forms_enabled():
        adapted(form="factored").save_pretrained(tmp_path)
    fourierft.enable()
    try:
        with pytest.raises(CheckpointError, match="form"):
            peft.PeftConfig.from_pretrained(tmp_path)
    finally:
        fourierft.disable()


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"form": "cubic"}, "form='cubic' is unknown"), ({"form": "factored", "rank": 13}, "use a rank from 1 to n / 2")],
)
def test_wrong_settings_are_told(changes: dict[str, Any], message: str) -> None:
    with forms_enabled(), pytest.raises(ConfigError, match=message):
        FormConfig(n_frequency=N, **changes)
