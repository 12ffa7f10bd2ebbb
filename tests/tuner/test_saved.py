"""Modules that adapters replace, when adapters that are not active are merged: against the dense sum in float64."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from peft import PeftModel, get_peft_model
from torch import nn

from fourierft.errors import ConfigError
from fourierft.tuner import FourierFTConfig

X = torch.randn(3, 16, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def model(make_mlp: Callable[[], nn.Module], randomise: Any) -> PeftModel:
    """Two adapters with a head each, of which the first is active, and one without."""

    def config(**settings: Any) -> FourierFTConfig:
        return FourierFTConfig(n_frequency=9, scaling=40.0, target_modules=["square", "wide"], **settings)

    adapted = get_peft_model(make_mlp(), config(modules_to_save=["head"]))
    adapted.add_adapter("second", config(modules_to_save=["head"]))
    adapted.add_adapter("bare", config())
    for shift, name in enumerate(("default", "second", "bare")):
        randomise(adapted, name)
        if name != "bare":
            adapted.base_model.model.head.modules_to_save[name].weight.data += 1 + shift
    return adapted.eval()


@pytest.mark.parametrize(("names", "head"), [(["second"], "second"), (["bare"], None), (["bare", "second"], "second")])
@pytest.mark.parametrize("safe_merge", [False, True])
def test_the_merged_model_has_the_modules_of_the_adapters_merged(
    model: PeftModel, make_mlp: Any, update: Any, names: list[str], head: str | None, safe_merge: bool
) -> None:
    truth: Any = make_mlp().double()
    for path in ("square", "wide"):
        layer = model.base_model.model.get_submodule(path)
        truth.get_submodule(path).weight.data += sum(update(layer, name) for name in names)
    if head is not None:
        truth.head.weight.data += 2  # as the fixture does
    merged = model.merge_and_unload(safe_merge=safe_merge, adapter_names=names)
    torch.testing.assert_close(merged(X).double(), truth(X.double()), rtol=1e-4, atol=1e-4)
    assert type(merged.head) is nn.Linear


@pytest.mark.parametrize(
    ("names", "text"),
    [
        (["sceond"], r"no adapter 'sceond' to merge; its adapters are \['bare', 'default', 'second'\]"),
        (["second", "a"], "no adapter 'a' to merge"),
        ("second", r"adapter_names='second' is not a list; use one, such as \['second'\]"),
    ],
)
@pytest.mark.parametrize("how", ["merge_adapter", "merge_and_unload"])
def test_a_name_that_no_adapter_has_is_refused_and_nothing_is_changed(
    model: PeftModel, names: Any, text: str, how: str
) -> None:
    before = model(X)
    with pytest.raises(ConfigError, match=text):
        getattr(model, how)(adapter_names=names)
    torch.testing.assert_close(model(X), before, rtol=0, atol=0)


def test_two_heads_for_one_place_are_refused_and_nothing_is_changed(model: PeftModel) -> None:
    before = model(X)
    with pytest.raises(ConfigError, match=r"\['default', 'second'\] each have a head of their own"):
        model.merge_and_unload(adapter_names=["default", "second"])
    torch.testing.assert_close(model(X), before, rtol=0, atol=0)
