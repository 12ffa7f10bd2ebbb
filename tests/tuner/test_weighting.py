"""The sum of adapters against the cosine sum in float64, in memory and reloaded."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel, get_peft_model
from torch import nn

from fourierft.errors import ConfigError
from fourierft.spectral.reference import reference_delta_weight
from fourierft.tuner import FourierFTConfig, FourierFTLayer


def config(**settings: Any) -> FourierFTConfig:
    usual: dict[str, Any] = {"n_frequency": 9, "target_modules": ["square", "tall"], "init_weights": False}
    return FourierFTConfig(**usual | settings)


@pytest.fixture
def model(make_mlp: Callable[[], nn.Module]) -> PeftModel:
    """Two adapters of other scalings, the second at half its strength."""
    adapted = get_peft_model(make_mlp(), config(scaling=40.0))
    adapted.add_adapter("second", config(scaling="auto"))
    for layer in layers(adapted):
        layer.set_scale("second", 0.5)
    return adapted


def layers(model: nn.Module) -> list[FourierFTLayer]:
    return [module for module in model.modules() if isinstance(module, FourierFTLayer)]


def truth(layer: FourierFTLayer, name: str, scaling: float) -> torch.Tensor:
    entries = layer.fourierft_basis[name].entries
    values = layer.coefficients(name).detach()
    return reference_delta_weight(values, entries, layer.out_features, layer.in_features, scaling)


@pytest.mark.parametrize("call", [{}, {"combination_type": "cat"}, {"combination_type": "svd"}])
def test_the_sum_of_adapters_has_the_sum_of_their_updates(
    model: PeftModel, make_mlp: Callable[[], nn.Module], tmp_path: Path, call: dict[str, str]
) -> None:
    model.add_weighted_adapter(["default", "second"], [0.25, -2.0], "both", **call)
    expected = [
        0.25 * truth(layer, "default", 40.0) - 2.0 * truth(layer, "second", 0.5 * layer.own_scaling["second"])
        for layer in layers(model)
    ]
    model.save_pretrained(str(tmp_path), selected_adapters=["both"])
    again = PeftModel.from_pretrained(make_mlp(), tmp_path / "both", adapter_name="both")
    assert model.active_adapters == ["default"]
    for found in (model, again):
        assert len(layers(found)) == 2
        for layer, own in zip(layers(found), expected, strict=True):
            torch.testing.assert_close(layer.get_delta_weight("both").detach().double(), own, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("settings", "arguments", "text"),
    [
        ({"random_loc_seed": 5}, {}, r"\['default', 'third'\] differ in square: .* their entries"),
        ({"n_frequency": 8}, {}, "differ in square"),
        ({"target_modules": ["square"]}, {}, "differ in tall"),
        ({"bias": "all"}, {}, "'third' has its own modules or biases"),
        ({}, {"combination_type": "ties"}, "combination_type='ties' is not supported; .* 'linear', 'cat', 'svd' mean"),
        ({}, {"weights": [1.0]}, "got 2 adapters and 1 weights"),
        ({}, {"adapters": ["default", "fourth"]}, "the model has no adapter 'fourth'"),
        ({}, {"adapter_name": "default"}, "the model has an adapter 'default'"),
        ({"scaling": 0.0}, {"adapters": ["third", "default"]}, "'third' has scaling=0, .* name another adapter first"),
    ],
)
def test_what_has_no_sum_is_refused_and_nothing_is_added(
    model: PeftModel, settings: dict[str, Any], arguments: dict[str, Any], text: str
) -> None:
    model.add_adapter("third", config(**settings))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    usual = {"adapters": ["default", "third"], "weights": [0.5, 0.5], "adapter_name": "both"}
    with pytest.raises(ConfigError, match=text):
        model.add_weighted_adapter(**usual | arguments)
    assert set(model.peft_config) == {"default", "second", "third"}
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
