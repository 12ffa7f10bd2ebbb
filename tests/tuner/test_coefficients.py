"""An adapter's coefficients go by the names that other libraries follow, and load under all that they had."""

from collections import OrderedDict
from typing import Any

import peft
import pytest
import torch
from peft import PeftConfig, PeftModel, get_peft_model, get_peft_model_state_dict
from safetensors.torch import load_file, save_file
from torch import nn

from fourierft.errors import CheckpointError
from fourierft.tuner import FourierFTConfig, FourierFTLayer
from fourierft.tuner.coefficients import former_name

IDS = torch.randint(3, 60, (4, 7), generator=torch.Generator().manual_seed(0))
TARGETS = ["q_proj", "v_proj", "down_proj"]  # three shapes: with "auto", three scalings


def config(**settings):
    usual: dict[str, Any] = {"n_frequency": 60, "target_modules": TARGETS}
    return FourierFTConfig(**usual | settings)


def logits(model):
    with torch.no_grad():
        return model.eval()(input_ids=IDS).logits


def layers_of(model):
    return [module for module in model.modules() if isinstance(module, FourierFTLayer)]


@pytest.fixture
def trained(make_llama, randomise):
    model = get_peft_model(make_llama(), config())
    randomise(model)
    assert len({layer.fourierft_scaling["default"] for layer in layers_of(model)}) == 3
    return model


@pytest.fixture
def saved(trained, tmp_path):
    trained.save_pretrained(tmp_path / "adapter")
    return tmp_path / "adapter"


def test_coefficients_are_named_as_loras_factors_are(make_llama, trained):
    lora = get_peft_model(make_llama(), peft.LoraConfig(r=1, target_modules=TARGETS))
    names = {
        kind: {name for name, parameter in model.named_parameters() if parameter.requires_grad}
        for kind, model in (("ours", trained), ("lora", lora))
    }
    expected = {name.replace("lora_A", "fourierft_coefficients") for name in names["lora"] if "lora_A" in name}
    assert names["ours"] == expected
    assert set(trained.state_dict()) == {name for name, _ in trained.named_parameters()}


def test_a_file_has_stock_pefts_names(make_llama, stock, saved):
    with stock():
        theirs = get_peft_model(make_llama(), peft.FourierFTConfig(n_frequency=60, target_modules=TARGETS))
        expected = {key: value.shape for key, value in get_peft_model_state_dict(theirs).items()}
    assert {key: value.shape for key, value in load_file(saved / "adapter_model.safetensors").items()} == expected


@pytest.mark.parametrize("source", ["memory", "disk"])
def test_an_adapter_copied_by_name_is_the_same_adapter(make_llama, trained, saved, source):
    """As trl makes its reference: https://github.com/huggingface/trl, dpo_trainer.py."""
    model = trained
    if source == "disk":
        model = PeftModel.from_pretrained(make_llama(), saved, is_trainable=True)
    model.add_adapter("ref", model.peft_config["default"])
    copied = 0
    for name, parameter in model.named_parameters():
        if ".default." in name:
            model.get_parameter(name.replace(".default.", ".ref.")).data.copy_(parameter.data)
            copied += 1
    assert copied == len(layers_of(model)) == 9
    expected = logits(model)
    assert (expected - logits(make_llama())).abs().max() > 1e-2, "the adapter does nothing"
    model.set_adapter("ref")
    assert torch.equal(logits(model), expected)


def test_averages_taken_over_state_dicts_reach_the_model(make_llama, trained):
    average = get_peft_model(make_llama(), config())
    for mean, value in zip(average.state_dict().values(), trained.state_dict().values(), strict=True):
        mean.copy_(value)
    assert torch.equal(logits(average), logits(trained))


def test_a_state_dict_with_the_former_names_is_the_same_model(make_llama, trained):
    former = {former_name(key): value for key, value in trained.state_dict().items()}
    assert sum(key.endswith("proj.fourierft_spectrum.default") for key in former) == 9
    model = get_peft_model(make_llama(), config())
    assert str(model.load_state_dict(former)) == "<All keys matched successfully>"
    assert len(former) == len(trained.state_dict())
    assert torch.equal(logits(model), logits(trained))
    empty = get_peft_model(make_llama(), config(), low_cpu_mem_usage=True)
    empty.load_state_dict(former, assign=True)
    assert torch.equal(logits(empty), logits(trained))


def test_a_parameter_that_is_no_coefficient_has_no_former_name():
    assert former_name("model.layers.0.q_proj.base_layer.weight") == "model.layers.0.q_proj.base_layer.weight"


@pytest.mark.parametrize("in_memory", [False, True], ids=["file", "state dict"])
@pytest.mark.parametrize("is_trainable", [False, True])
def test_transformers_own_loader_brings_coefficients_of_several_scalings(
    make_llama, trained, saved, is_trainable, in_memory, transformers_loader
):
    model = make_llama()
    with transformers_loader:
        if in_memory:
            state, settings = load_file(saved / "adapter_model.safetensors"), PeftConfig.from_pretrained(saved)
            info = model.load_adapter(adapter_state_dict=state, peft_config=settings, is_trainable=is_trainable)
        else:
            info = model.load_adapter(saved, is_trainable=is_trainable)
        assert info is None or not info.missing_keys | info.unexpected_keys  # transformers 5.6 says nothing of them
        torch.testing.assert_close(logits(model), logits(trained), rtol=1e-5, atol=1e-5)
        for ours, theirs in zip(layers_of(model), layers_of(trained), strict=True):
            assert ours.fourierft_scaling == theirs.fourierft_scaling
        assert {p.requires_grad for n, p in model.named_parameters() if "fourierft" in n} == {is_trainable}
        assert set(model.state_dict()) == {name for name, _ in model.named_parameters()}


def test_transformers_own_loader_meets_the_same_checks(make_llama, saved, transformers_loader):
    path = saved / "adapter_model.safetensors"
    tensors = load_file(path)
    tensors[min(tensors)][3] = float("nan")
    save_file(tensors, path)
    message = "1 values in the checkpoint that are not finite"
    with transformers_loader, pytest.raises(CheckpointError, match=message):
        make_llama().load_adapter(saved)


def test_an_adapter_that_waits_for_its_coefficients_can_be_saved_and_loaded(make_llama, saved, trained):
    waiting = get_peft_model(make_llama(), PeftConfig.from_pretrained(saved))
    state = waiting.state_dict()
    assert sum(key.endswith(".fourierft_spectrum.default") for key in state) == 9
    assert get_peft_model_state_dict(waiting).keys() == load_file(saved / "adapter_model.safetensors").keys()
    trained.load_state_dict(state)
    assert torch.equal(logits(trained), logits(make_llama()))  # they are zero
    waiting.train()
    assert set(waiting.state_dict()) == {name for name, _ in waiting.named_parameters()}


def test_a_stock_model_made_before_enable_is_saved_and_loaded_as_before(make_llama, stock):
    with stock():
        settings = peft.FourierFTConfig(n_frequency=60, target_modules=TARGETS)
        theirs, other = (get_peft_model(make_llama(), settings) for _ in range(2))
        expected = get_peft_model_state_dict(theirs)
    found = get_peft_model_state_dict(theirs)
    assert found.keys() == expected.keys()
    loaded: Any = peft.set_peft_model_state_dict(other, found)
    assert not loaded.unexpected_keys
    assert torch.equal(logits(other), logits(theirs))


def test_a_layer_shows_its_coefficients_as_stock_pefts_does(several):
    assert list(several.fourierft_spectrum) == ["default", "short", "other"]
    assert "default" in several.fourierft_spectrum
    assert len(several.fourierft_spectrum) == 3
    parameters = dict(several.fourierft_spectrum.items())
    assert parameters["short"] is several.fourierft_coefficients["short"].weight
    assert "n_frequency=7" in repr(several)
    several.fourierft_spectrum["short"] = torch.ones(7)
    assert isinstance(several.fourierft_coefficients["short"].weight, nn.Parameter)
    assert several.fourierft_coefficients["short"].weight.eq(1).all()


def test_a_layers_own_state_dict_is_not_changed_by_loading(several):
    state = OrderedDict((former_name(f".{key}")[1:], value) for key, value in several.state_dict().items())
    keys = list(state)
    several.load_state_dict(state)
    assert list(state) == keys
