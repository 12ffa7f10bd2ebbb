"""Other forms of the adapter: their updates by hand, that they learn, and that no other loader takes them."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import peft
import pytest
import torch

import fourierft
from fourierft.errors import CheckpointError, ConfigError
from fourierft.spectral.reference import reference_delta_weight
from lab.trials.cosine import Cosines, cosines
from lab.trials.factors import ALPHA, Factors, fourier_basis
from lab.trials.forms import FormConfig, FormLayer, forms_enabled
from lab.trials.pool import share_out_pool

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
        left = torch.as_tensor(sum(b[j, k] * factors.outputs[k] for k in range(n_b)))
        right = torch.as_tensor(sum(a[j, k] * factors.inputs[k] for k in range(n_a)))
        delta += ALPHA / rank * torch.outer(left, right)
    torch.testing.assert_close(factors.delta_weight(numbers), delta, rtol=1e-5, atol=1e-5)
    assert torch.linalg.matrix_rank(delta) == rank


def test_step_moves_factors_as_far_as_it_moves_those_of_lora() -> None:
    factors = Factors(96, 64, 60, 1, 1.0, 777)
    signs = torch.randint(0, 2, (60,)).float() * 2 - 1
    moved_a, moved_b = signs[:30] @ factors.inputs, signs[30:] @ factors.outputs
    assert float(moved_a.norm()) == pytest.approx(math.sqrt(64), rel=1e-4)  # as +-1 on each element of a row of A
    assert float(moved_b.norm()) == pytest.approx(math.sqrt(96), rel=1e-4)


@pytest.mark.parametrize(("rows", "columns"), [(12, 20), (7, 1), (1, 9), (5, 5)])
def test_cosine_update_is_the_direct_double_sum(rows: int, columns: int) -> None:
    n = min(N, rows * columns)
    entries, numbers = fourierft.uniform_entries(rows, columns, n, 777), torch.randn(n)
    delta = torch.zeros(rows, columns, dtype=torch.float64)
    for c, u, v in zip(numbers.tolist(), *entries.tolist(), strict=True):
        norm = math.sqrt((1 if u == 0 else 2) / rows) * math.sqrt((1 if v == 0 else 2) / columns)
        for p in range(rows):
            for q in range(columns):
                wave = math.cos(math.pi * (p + 0.5) * u / rows) * math.cos(math.pi * (q + 0.5) * v / columns)
                delta[p, q] += 90 / math.sqrt(2 * rows * columns) * c * norm * wave
    found = Cosines(rows, columns, entries, 90.0).delta_weight(numbers)
    torch.testing.assert_close(found.double(), delta, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("size", [1, 2, 7, 64])
def test_cosines_are_orthonormal(size: int) -> None:
    basis = cosines(size, tuple(range(size))).double()
    torch.testing.assert_close(basis @ basis.T, torch.eye(size, dtype=torch.float64), rtol=0, atol=1e-6)


def test_step_in_the_cosine_basis_has_the_norm_of_one_in_fouriers() -> None:
    entries = fourierft.uniform_entries(96, 64, 300, 777)
    signs = torch.randint(0, 2, (300,)).float() * 2 - 1
    ours = Cosines(96, 64, entries, 500.0).delta_weight(signs)
    fouriers = reference_delta_weight(signs, entries, 96, 64, 500.0)
    assert float(ours.norm()) == pytest.approx(float(fouriers.norm()), rel=0.1)  # entries (u, v), (-u, -v) are one wave


@pytest.mark.parametrize("form", ["plain", "cosine"])
def test_pooled_update_is_that_of_signed_numbers_of_the_pool(form: str) -> None:
    with forms_enabled():
        model = adapted(pool=10, form=form)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    assert [parameter.numel() for parameter in trained] == [10]
    with torch.no_grad():
        pool = trained[0].normal_().tolist()
    entries = fourierft.uniform_entries(12, 20, N, 777)
    shares = share_out_pool(10, 2, N, 777)
    for layer, share in zip(layers_of(model), shares, strict=True):
        pairs = zip(share.groups.tolist(), share.signs.tolist(), strict=True)
        own = torch.tensor([sign * pool[group] for group, sign in pairs])
        scaling = layer.fourierft_scaling["default"]
        if form == "plain":
            truth = reference_delta_weight(own, entries, 12, 20, scaling)
        else:
            truth = Cosines(12, 20, entries, scaling).delta_weight(own).double()
        torch.testing.assert_close(layer.get_delta_weight("default").double(), truth, rtol=1e-4, atol=1e-5)


def test_gradient_of_a_pool_is_the_sum_over_layers() -> None:
    with forms_enabled():
        model = adapted(pool=10)
    x, target = torch.randn(30, 20), torch.randn(30, 12)
    (model(x) - target).square().sum().backward()
    pool = next(parameter for parameter in model.parameters() if parameter.requires_grad)
    step = 1e-3
    for place in (0, 7):
        sums = []
        for sign in (1, -1):
            with torch.no_grad():
                pool[place] += sign * step
                sums.append(float((model(x) - target).double().square().sum()))
                pool[place] -= sign * step
        assert float(pool.grad[place]) == pytest.approx((sums[0] - sums[1]) / (2 * step), rel=2e-2)


def test_every_number_of_a_pool_is_used_as_often_as_any_other_with_either_sign() -> None:
    shares = share_out_pool(7, 5, 11, 3)
    counts = torch.bincount(torch.cat([share.groups for share in shares]), minlength=7)
    assert sorted(counts.tolist()) == [7] + [8] * 6  # 55 coefficients over 7 numbers
    signs = torch.cat([share.signs for share in share_out_pool(70, 50, 40, 3)])
    assert set(signs.tolist()) == {-1.0, 1.0}
    assert abs(float(signs.mean())) < 0.1
    again = share_out_pool(7, 5, 11, 3)
    assert all(
        torch.equal(a.groups, b.groups) and torch.equal(a.signs, b.signs) for a, b in zip(shares, again, strict=True)
    )
    assert not torch.equal(shares[0].groups, share_out_pool(7, 5, 11, 4)[0].groups)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"form": "factored"},
        {"form": "factored", "rank": 2, "ratio": 4.0},
        {"gain": True},
        {"tie": ["query", "value"]},
        {"whiten": 0.5},
        {"form": "cosine"},
        {"pool": 30},
        {"form": "cosine", "pool": 30},
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
        adapted(form="factored").save_pretrained(str(tmp_path))
    fourierft.enable()
    try:
        with pytest.raises(CheckpointError, match="form"):
            peft.PeftConfig.from_pretrained(str(tmp_path))
    finally:
        fourierft.disable()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"form": "cubic"}, "form='cubic' is unknown"),
        ({"form": "factored", "rank": 13}, "use a rank from 1 to n / 2"),
        ({"pool": -1}, "use a pool of at least 1 number"),
        ({"pool": 5, "form": "factored"}, "and no factors"),
    ],
)
def test_wrong_settings_are_told(changes: dict[str, Any], message: str) -> None:
    with forms_enabled(), pytest.raises(ConfigError, match=message):
        FormConfig(n_frequency=N, **changes)


def test_a_pool_of_more_numbers_than_coefficients_is_told() -> None:
    with forms_enabled(), pytest.raises(ConfigError, match="pool=49 has more numbers than the 48 coefficients"):
        adapted(pool=49)
