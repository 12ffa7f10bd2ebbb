"""Who trains the paper's scaling at LoRA's learning rate is told, once, before the first step; nobody else is."""

from __future__ import annotations

import warnings

import peft
import pytest
import torch
from torch import nn
from torch.optim.optimizer import _global_optimizer_pre_hooks

from fourierft.tuner import FourierFTConfig, disable, enable
from fourierft.tuner.first_step import check_step


def adapted(**settings) -> nn.Module:
    fields = {"n_frequency": 10, "target_modules": ["0"], **settings}
    return peft.get_peft_model(nn.Sequential(nn.Linear(9, 7)), FourierFTConfig(**fields))


def step(model: nn.Module, rate: float, schedule: bool = False) -> torch.optim.Optimizer:
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=rate)
    if schedule:
        torch.optim.lr_scheduler.LambdaLR(optimizer, lambda done: done / 10)
    model(torch.randn(3, 9)).sum().backward()
    optimizer.step()
    return optimizer


@pytest.fixture(autouse=True)
def _enabled():
    enable()
    yield
    disable()


@pytest.mark.parametrize("scaling", [150.0, 300.0, -20.0])
def test_a_small_scaling_at_a_small_rate_is_told_of_once(scaling: float) -> None:
    model = adapted(scaling=scaling)
    with pytest.warns(UserWarning, match=r"'default' has scaling=.* learning rate 0.0001, .*; use scaling='auto'"):
        optimizer = step(model, 1e-4)
    optimizer.step()  # a second warning would be an error


def test_stock_settings_after_enable_are_told_of_too() -> None:
    config = peft.FourierFTConfig(n_frequency=10, target_modules=["0"])
    model = peft.get_peft_model(nn.Sequential(nn.Linear(9, 7)), config)
    with pytest.warns(UserWarning, match="scaling=150"):
        step(model, 1e-4)


@pytest.mark.parametrize(
    ("settings", "rate", "schedule"),
    [
        ({"scaling": 150.0}, 3e-2, False),
        ({"scaling": 150.0}, 3e-2, True),  # the first step of a warm-up has rate 0
        ({"scaling": 301.0}, 1e-4, False),
        ({"scaling": 0.0}, 1e-4, False),
        ({"scaling": "auto"}, 1e-4, False),
    ],
)
def test_other_runs_are_left_alone(settings: dict, rate: float, schedule: bool) -> None:
    model = adapted(**settings)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        step(model, rate, schedule)


def test_a_warm_up_to_a_small_peak_is_told_of() -> None:
    with pytest.warns(UserWarning, match=r"learning rate 0\.0005"):
        step(adapted(scaling=150.0), 5e-4, schedule=True)


def test_an_optimizer_of_other_parameters_is_left_alone() -> None:
    model = adapted(scaling=150.0)
    other = nn.Linear(2, 2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        step_of_other = torch.optim.AdamW(other.parameters(), lr=1e-4)
        other(torch.randn(1, 2)).sum().backward()
        step_of_other.step()
    assert model.training


def test_disabling_takes_the_hook_away() -> None:
    disable()
    assert check_step not in _global_optimizer_pre_hooks.values()
    enable()
    enable()
    assert list(_global_optimizer_pre_hooks.values()).count(check_step) == 1
