"""An adapter acts as strongly as it is told to, in every path, as LoRA's layers do; no file is told of it."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model, get_peft_model_state_dict
from peft.helpers import disable_input_dtype_casting
from torch import nn
from transformers import MixtralConfig, MixtralForCausalLM

from fourierft.errors import ConfigError
from fourierft.spectral.reference import reference_delta_weight
from fourierft.training.diffusion.pipeline import silent
from fourierft.tuner import FourierFTConfig, FourierFTLayer


def config(**settings):
    return FourierFTConfig(**{"n_frequency": 20, "init_weights": False, "scaling": 40.0} | settings)


def delta(layer, name="default"):
    """dW at strength 1, by the cosine sum: float64 [out, in]."""
    coefficients, basis = layer.fourierft_spectrum[name].detach(), layer.fourierft_basis[name]
    return reference_delta_weight(coefficients, basis.entries, layer.out_features, layer.in_features, 40.0)


def close(actual, expected, tolerance=1e-5):
    scale = float(expected.detach().abs().max())
    torch.testing.assert_close(actual.double(), expected.double(), rtol=0, atol=tolerance * scale)


@pytest.fixture
def layer():
    torch.manual_seed(0)
    layer = FourierFTLayer(nn.Linear(9, 14), "default", 20, config())
    layer.update_layer("second", 20, config(random_loc_seed=2))
    return layer


@pytest.mark.parametrize("strength", [0.5, 0.0, -2.0, 1])
@pytest.mark.parametrize("gradients", [True, False])
def test_an_adapter_acts_as_strongly_as_it_is_told(layer, strength, gradients):
    x = torch.randn(3, 9)
    with torch.set_grad_enabled(gradients):
        for factor in (1.0, strength, 1.0):  # what inference keeps follows, and comes back
            layer.set_scale("default", factor)
            close(layer(x), layer.base_layer(x).double() + factor * x.double() @ delta(layer).T)
    layer.set_scale("elsewhere", 3.0)  # a layer that lacks an adapter has nothing to do
    assert set(layer.fourierft_scaling) == {"default", "second"}


def test_gradients_are_as_strong_as_the_adapter(layer):
    x, grad = torch.randn(3, 9), torch.randn(3, 14)
    whole = torch.autograd.grad(layer(x), layer.coefficients("default"), grad)[0]
    layer.set_scale("default", 0.25)
    close(torch.autograd.grad(layer(x), layer.coefficients("default"), grad)[0], 0.25 * whole)


STEPS = [
    ("set_scale", 0.5),
    ("scale_layer", 3.0),
    ("scale_layer", 0.2),
    ("unscale_layer", 3.0),
    ("unscale_layer", None),
]


def test_a_sequence_of_calls_has_the_effect_that_it_has_on_lora(layer):
    lora = get_peft_model(nn.Sequential(nn.Linear(9, 14)), LoraConfig(target_modules=["0"])).base_model.model[0]
    own, of_lora = layer.fourierft_scaling["default"], lora.scaling["default"]
    for method, value in STEPS:
        for one in (layer, lora):
            getattr(one, method)(*(("default", value) if method == "set_scale" else (value,)))
        assert layer.fourierft_scaling["default"] / own == pytest.approx(lora.scaling["default"] / of_lora)
    assert layer.fourierft_scaling == layer.own_scaling
    layer.set_adapter(["default", "second"])
    layer.scale_layer(0.5)
    assert layer.fourierft_scaling == {"default": 20.0, "second": 20.0}


def test_rows_and_sums_have_the_strength_of_each_adapter(layer):
    x = torch.randn(3, 2, 9)
    layer.set_scale("default", 0.5)
    layer.set_scale("second", 3.0)
    base, one, other = (layer.base_layer(x).double(), 0.5 * delta(layer), 3.0 * delta(layer, "second"))
    expected = torch.stack([base[0] + x[0].double() @ other.T, base[1] + x[1].double() @ one.T, base[2]])
    for gradients in (True, False):
        with torch.set_grad_enabled(gradients):
            close(layer(x, adapter_names=["second", "default", "__base__"]), expected)
    layer.set_adapter(["default", "second"])
    close(layer(x), base + x.double() @ (one + other).T)


def test_convolutions_and_embeddings_follow():
    torch.manual_seed(0)
    ids, images = torch.tensor([[1, 4, 2]]), torch.randn(1, 3, 5, 5)
    model = nn.ModuleDict({"words": nn.Embedding(8, 6), "conv": nn.Conv2d(3, 4, 3)})
    model = get_peft_model(model, config(target_modules=["words", "conv"])).eval().base_model.model
    for layer, x in ((model["words"], ids), (model["conv"], images)):
        with torch.no_grad():
            base, whole = layer.base_layer(x), layer(x)
            layer.set_scale("default", 0.5)
            close(layer(x), base + 0.5 * (whole - base))
            layer.unscale_layer()
            assert torch.equal(layer(x), whole)


def test_a_merged_adapter_is_taken_out_as_strongly_as_it_was_merged(layer):
    weight = layer.base_layer.weight.detach().clone()
    layer.set_scale("default", 0.5)
    layer.merge()
    close(layer.base_layer.weight, weight + 0.5 * delta(layer))
    with pytest.warns(UserWarning, match="'default' is already merged, so the new strength has no eff"):
        layer.set_scale("default", 2.0)
    layer.scale_layer(3.0)
    layer.unmerge()
    torch.testing.assert_close(layer.base_layer.weight, weight, rtol=0, atol=1e-6)
    x = torch.randn(3, 9)
    close(layer(x), layer.base_layer(x).double() + 6.0 * x.double() @ delta(layer).T)


def test_stacks_of_experts_follow_and_are_unmerged_as_they_were_merged():
    torch.manual_seed(0)
    settings: dict[str, Any] = {"vocab_size": 60, "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1}
    heads: dict[str, Any] = {"num_attention_heads": 2, "num_key_value_heads": 2, "num_local_experts": 3}
    model = MixtralForCausalLM(MixtralConfig(**settings, **heads))
    model = get_peft_model(model, config(target_modules=[], target_parameters=["experts.down_proj"])).eval()
    (layer,) = (module for module in model.modules() if isinstance(module, FourierFTLayer))
    weight, whole = layer.parameter.detach().clone(), layer.get_delta_weight("default").detach()
    layer.set_scale("default", 0.5)
    close(layer.get_delta_weight("default"), 0.5 * whole)
    layer.merge()
    close(layer.parameter - weight, 0.5 * whole, 1e-4)
    layer.scale_layer(3.0)
    layer.unmerge()
    torch.testing.assert_close(layer.parameter, weight, rtol=0, atol=1e-6)


def test_no_file_is_told_of_it(make_mlp, tmp_path):
    model = get_peft_model(make_mlp(), config(target_modules=["square", "tall"]))
    before = {name: value.clone() for name, value in get_peft_model_state_dict(model).items()}
    for module in model.modules():
        if isinstance(module, FourierFTLayer):
            module.set_scale("default", 0.1)
    after = get_peft_model_state_dict(model)
    assert all(torch.equal(after[name], value) for name, value in before.items())
    model.save_pretrained(tmp_path)
    again = PeftModel.from_pretrained(make_mlp(), tmp_path)
    assert again.base_model.model.square.fourierft_scaling == {"default": 40.0}
    assert again.base_model.model.square.own_scaling == {"default": 40.0}


def test_a_deleted_adapter_leaves_nothing_behind(make_mlp):
    model = get_peft_model(make_mlp(), config(target_modules=["square"]))
    model.add_adapter("second", config(target_modules=["square"]))
    layer = model.base_model.model.square
    layer.set_scale("second", 0.5)
    model.delete_adapter("second")
    assert set(layer.own_scaling) == set(layer.fourierft_scaling) == {"default"}


def test_a_compiled_layer_follows(layer):
    x = torch.randn(3, 9)
    compiled = torch.compile(layer, fullgraph=True, backend="eager")
    for strength in (1.0, 0.5):
        layer.set_scale("default", strength)
        close(compiled(x), layer.base_layer(x).double() + strength * x.double() @ delta(layer).T)


@pytest.mark.parametrize("scale", [math.nan, math.inf, True, "0.5", None, torch.tensor(0.5)], ids=str)
def test_what_is_no_strength_is_refused(layer, scale):
    for call in (lambda: layer.set_scale("default", scale), lambda: layer.scale_layer(scale)):
        with pytest.raises(ConfigError, match=r"is not a valid strength; use a finite number, such as 0\.5"):
            call()
    assert layer.fourierft_scaling == layer.own_scaling


def test_a_strength_of_zero_is_not_divided_by(layer):
    layer.scale_layer(0)
    with pytest.raises(ConfigError, match=r"use unscale_layer\(\) without a number"):
        layer.unscale_layer(0)
    layer.unscale_layer()
    assert layer.fourierft_scaling == layer.own_scaling


# What diffusers does with it


@pytest.fixture
def unet():
    """A tiny UNet with the adapters weaker, which is to be as default at half strength, and default."""
    with silent():
        from diffusers import UNet2DConditionModel
    torch.manual_seed(0)
    unet: Any = UNet2DConditionModel(
        sample_size=8,
        block_out_channels=(8, 16),
        layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=8,
        attention_head_dim=4,
        norm_num_groups=4,
    )
    for name in ("weaker", "default"):
        unet.add_adapter(config(target_modules=["to_q", "to_v"], scaling=100.0), adapter_name=name)
    with torch.no_grad():
        for module in unet.modules():
            if isinstance(module, FourierFTLayer):
                module.coefficients("weaker").copy_(0.5 * module.coefficients("default"))
    return unet.eval()


def run(unet, **options):
    inputs = torch.arange(256.0).sin().view(1, 4, 8, 8), torch.tensor([7]), torch.arange(24.0).cos().view(1, 3, 8)
    with torch.no_grad():
        return unet(*inputs, **options).sample


@pytest.mark.filterwarnings("ignore:Already found a `peft_config` attribute")  # PEFT, of a second adapter
def test_diffusers_sets_adapters_scales_calls_and_fuses(unet):
    unet.set_adapters("weaker")
    expected = run(unet)
    unet.set_adapters("default")
    whole = run(unet)
    assert float((whole - expected).abs().max()) > 1e-3
    unet.set_adapters("default", 0.5)
    close(run(unet), expected)
    unet.set_adapters("default")
    close(run(unet, cross_attention_kwargs={"scale": 0.5}), expected)
    close(run(unet), whole)
    with pytest.raises(RuntimeError), silent():  # an error in the call leaves the strength as it was
        unet(torch.zeros(1, 3, 8, 8), torch.tensor([7]), torch.zeros(1, 3, 8), cross_attention_kwargs={"scale": 0.5})
    close(run(unet), whole)
    unet.fuse_lora(0.5)
    close(run(unet), expected)
    unet.unfuse_lora()
    unet.set_adapters(["default", "weaker"], [0.25, 0.5])
    close(run(unet), expected)


@pytest.mark.parametrize("name", ["default", "conv"])
@pytest.mark.filterwarnings("ignore:Already found a `peft_config` attribute")  # PEFT, of a further adapter
def test_diffusers_stores_weights_in_a_dtype_of_its_own(unet, name):
    unet.add_adapter(config(target_modules=["conv1"], scaling=100.0), adapter_name="conv")
    unet.set_adapters(name)
    rounded = copy.deepcopy(unet)
    with torch.no_grad():
        for module in rounded.modules():
            if isinstance(module, (nn.Linear, nn.Conv2d)):
                for parameter in module.parameters(recurse=False):
                    parameter.copy_(parameter.bfloat16())
    unet.enable_layerwise_casting(storage_dtype=torch.bfloat16, compute_dtype=torch.float32)
    close(run(unet), run(rounded))
    with disable_input_dtype_casting(unet):
        close(run(unet), run(rounded))
