"""What PEFT does in one way or another, from release to release, comes out the same: see `make test-peft`."""

from __future__ import annotations

import importlib.metadata
import json
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from peft import PeftModel, get_peft_model
from peft import get_peft_model_state_dict as get_by_another_name
from peft.utils import get_peft_model_state_dict, save_and_load, set_peft_model_state_dict
from safetensors.torch import load_file
from torch import nn

from fourierft.errors import ConfigError
from fourierft.extras import release
from fourierft.tuner import FourierFTConfig, disable, enable
from fourierft.tuner.parameters import ParameterLayer

IDS = torch.arange(3, 15).view(2, 6)


def config(**settings: Any) -> FourierFTConfig:
    usual: dict[str, Any] = {"n_frequency": 40, "target_modules": ["q_proj", "v_proj", "down_proj"]}
    return FourierFTConfig(**usual | settings)


def logits(model: nn.Module) -> torch.Tensor:
    with torch.no_grad():
        return model.eval()(input_ids=IDS).logits


def trained(make_llama: Any, randomise: Any, **settings: Any) -> PeftModel:
    """Layers of three shapes, and so of three scalings, of which a file has one."""
    model = get_peft_model(make_llama(), config(**settings))
    randomise(model)
    return model


@pytest.mark.parametrize(
    ("package", "version", "asked"),
    [
        ("peft", "0.17.1", "peft>=0.18,<0.22"),
        ("peft", "0.22.0.dev0", "peft>=0.18,<0.22"),
        ("transformers", "4.57.6", "transformers>=5.6,<6"),
        ("transformers", "6.0.0rc1", "transformers>=5.6,<6"),
    ],
)
def test_another_release_is_refused_in_a_sentence(
    package: str, version: str, asked: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed = importlib.metadata.version
    monkeypatch.setattr(importlib.metadata, "version", lambda name: version if name == package else installed(name))
    with pytest.raises(ConfigError) as error:
        enable()
    assert str(error.value) == f"{package} {version} is installed, but fourierft needs {asked}; pip install '{asked}'"


def test_functions_imported_before_save_and_load_as_peft_does(make_llama: Any, randomise: Any, tmp_path: Path) -> None:
    model = trained(make_llama, randomise)
    model.save_pretrained(str(tmp_path))
    state = get_peft_model_state_dict(model)
    file = load_file(tmp_path / "adapter_model.safetensors")
    assert state.keys() == file.keys()
    assert all(key.endswith(".fourierft_spectrum") for key in file)
    assert all(torch.equal(state[key], value) for key, value in file.items())
    other = get_peft_model(make_llama(), config())
    set_peft_model_state_dict(other, state)
    torch.testing.assert_close(logits(other), logits(model), rtol=1e-5, atol=1e-5)
    assert all(torch.equal(state[key], value) for key, value in file.items())  # not changed by loading


def test_a_state_dict_that_is_handed_over_is_saved_and_left_as_it_is(make_llama: Any, randomise: Any) -> None:
    model = trained(make_llama, randomise)
    model.add_adapter("default_2", config(n_frequency=7))
    handed = {name: tensor + 1 if "fourierft" in name else tensor for name, tensor in model.state_dict().items()}
    before = dict(handed)
    saved = get_peft_model_state_dict(model, handed, "default")
    assert handed.keys() == before.keys()
    assert len(saved) == 9
    other = get_peft_model(make_llama(), config())
    set_peft_model_state_dict(other, saved)
    ours = {name: tensor for name, tensor in other.state_dict().items() if "fourierft" in name}
    for name, tensor in ours.items():
        torch.testing.assert_close(tensor, handed[name], rtol=1e-6, atol=1e-6)


def test_disabling_leaves_pefts_functions_as_they_were(make_llama: Any) -> None:
    here, there = get_by_another_name, get_peft_model_state_dict
    assert (
        there
        is save_and_load.get_peft_model_state_dict
        is peft.get_peft_model_state_dict
        is peft.peft_model.get_peft_model_state_dict
    )
    disable()
    assert get_peft_model_state_dict is save_and_load.get_peft_model_state_dict
    assert (get_peft_model_state_dict is there) == (release("peft") >= (0, 21))
    assert get_peft_model_state_dict is here
    enable()
    lora = get_peft_model(make_llama(), peft.LoraConfig(target_modules=["q_proj"]))
    assert {key.rsplit(".", 2)[-2] for key in get_peft_model_state_dict(lora)} == {"lora_A", "lora_B"}


@pytest.mark.parametrize("bias", ["all", "fourier_only"])
def test_biases_that_are_trained_are_saved(bias: str, make_bert: Any, randomise: Any, tmp_path: Path) -> None:
    model = get_peft_model(make_bert(), FourierFTConfig(n_frequency=9, target_modules=["value"], bias=bias))
    randomise(model)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("bias") and parameter.requires_grad:
                parameter.add_(0.5)
    model.save_pretrained(str(tmp_path))
    assert (logits(model) - logits(make_bert())).abs().max() > 1e-3
    torch.testing.assert_close(logits(PeftModel.from_pretrained(make_bert(), tmp_path)), logits(model))


def test_targets_of_a_further_adapter_that_match_nothing_are_an_error_too(make_llama: Any) -> None:
    model = get_peft_model(make_llama(), config())
    with pytest.raises(ConfigError, match="the nearest names in the model are q_proj"):
        model.add_adapter("other", config(target_modules=["qproj"]))
    model.add_adapter("another", config(target_modules=["k_proj"]))
    targeted: Any = model.base_model.targeted_module_names
    assert len(targeted) in (3, 12)  # of the last adapter; of all, before 0.21


def test_files_of_a_head_and_of_parameters_are_the_same(make_llama: Any, randomise: Any, tmp_path: Path) -> None:
    bank = nn.Module()
    bank.stack = nn.Parameter(torch.zeros(3, 8, 6))
    llama = make_llama()
    llama.bank = bank
    settings = {"target_modules": ["lm_head", "embed_tokens"], "target_parameters": ["bank.stack"], "scaling": "auto"}
    model = get_peft_model(llama, config(**settings))
    randomise(model)
    model.save_pretrained(str(tmp_path))
    shapes = {key: tuple(value.shape) for key, value in load_file(tmp_path / "adapter_model.safetensors").items()}
    assert shapes == {
        "base_model.model.lm_head.fourierft_spectrum": (40,),
        "base_model.model.model.embed_tokens.fourierft_spectrum": (40,),
        "base_model.model.bank.adapted_parameters.stack.fourierft_spectrum": (3, 40),
    }
    record = json.loads((tmp_path / "adapter_config.json").read_text())["fourierft"]
    assert record["layers"] == 3
    assert record["shapes"] == {"embed_tokens": [60, 32], "lm_head": [60, 32], "stack": [8, 6]}
    again = make_llama()
    again.bank = nn.Module()
    again.bank.stack = nn.Parameter(torch.zeros(3, 8, 6))
    loaded = PeftModel.from_pretrained(again, tmp_path)
    torch.testing.assert_close(logits(loaded), logits(model), rtol=1e-5, atol=1e-5)
    (ours,) = (layer for layer in model.modules() if isinstance(layer, ParameterLayer))
    (theirs,) = (layer for layer in loaded.modules() if isinstance(layer, ParameterLayer))
    torch.testing.assert_close(theirs.get_delta_weight("default"), ours.get_delta_weight("default"))
