"""What PEFT gives its tuners, on small models."""

import copy
import pickle
import re
from typing import Any

import peft
import pytest
import torch
from peft import PeftModel, get_peft_model, get_peft_model_state_dict
from transformers import LlamaConfig, LlamaForCausalLM

from fourierft.errors import ConfigError, ShapeError
from fourierft.extras import release
from fourierft.tuner import FourierFTConfig, FourierFTLayer

IDS = torch.randint(3, 60, (4, 7), generator=torch.Generator().manual_seed(0))
TARGETS = ["q_proj", "v_proj"]


def config(**settings):
    usual: dict[str, Any] = {"n_frequency": 40, "target_modules": TARGETS}
    return FourierFTConfig(**usual | settings)


def logits(model, **kwargs):
    with torch.no_grad():
        return model.eval()(input_ids=IDS, **kwargs).logits


def layers_of(model):
    return [module for module in model.modules() if isinstance(module, FourierFTLayer)]


def assert_same(actual, expected, tolerance=1e-5):
    torch.testing.assert_close(actual, expected, rtol=tolerance, atol=tolerance)


def outputs_by_adapter(model):
    outputs = {}
    for name in ("default", "short", "other"):
        model.set_adapter(name)
        outputs[name] = logits(model)
    with model.disable_adapter():
        outputs["__base__"] = logits(model)
    model.set_adapter("default")
    return outputs


def test_a_new_adapter_is_the_base_model(make_llama):
    assert torch.equal(logits(get_peft_model(make_llama(), config())), logits(make_llama()))


def test_only_the_coefficients_are_trained(make_llama, capsys):
    model = get_peft_model(make_llama(), config())
    trained = {name: p.numel() for name, p in model.named_parameters() if p.requires_grad}
    assert all("fourierft_coefficients.default.weight" in name for name in trained)
    assert sum(trained.values()) == 3 * 2 * 40
    model.print_trainable_parameters()
    assert "trainable params: 240 ||" in capsys.readouterr().out


def test_adapters_are_switched_added_up_deleted_and_disabled(make_llama, adapters):
    outputs = outputs_by_adapter(adapters)
    assert_same(outputs["__base__"], logits(make_llama()))
    pairs = [(a, b) for a in outputs for b in outputs if a < b]
    assert all((outputs[a] - outputs[b]).abs().max() > 1e-2 for a, b in pairs)

    adapters.base_model.set_adapter(["default", "short", "other"])
    together = logits(adapters)
    merged = copy.deepcopy(adapters).merge_and_unload(adapter_names=["default", "short", "other"])
    assert_same(together, logits(merged), 1e-4)

    adapters.set_adapter("other")
    adapters.delete_adapter("short")
    assert set(adapters.peft_config) == {"default", "other"}
    assert_same(logits(adapters), outputs["other"])
    layer = adapters.base_model.model.model.layers[0].self_attn.q_proj
    for attribute in layer.adapter_layer_names + layer.other_param_names:
        assert "short" not in getattr(layer, attribute)


def test_only_the_active_adapter_is_trained(adapters):
    adapters.set_adapter("other")
    adapters(input_ids=IDS, labels=IDS).loss.backward()
    touched = {name.split(".")[-2] for name, p in adapters.named_parameters() if p.grad is not None}
    assert touched == {"other"}


@pytest.mark.parametrize("safe_merge", [False, True])
def test_merging_keeps_the_output_and_unmerging_brings_the_base_back(make_llama, adapters, safe_merge):
    outputs = outputs_by_adapter(adapters)
    weight = make_llama().model.layers[1].self_attn.v_proj.weight
    adapters.merge_adapter(safe_merge=safe_merge)
    assert_same(logits(adapters), outputs["default"], 1e-4)
    adapters.unmerge_adapter()
    assert_same(logits(adapters), outputs["default"], 1e-4)
    back = adapters.base_model.model.model.layers[1].self_attn.v_proj.weight
    assert_same(back, weight, 1e-6)
    merged = adapters.merge_and_unload(safe_merge=safe_merge)
    assert not any(isinstance(module, FourierFTLayer) for module in merged.modules())
    assert_same(logits(merged), outputs["default"], 1e-4)


def test_unloading_brings_the_base_model_back(make_llama, adapters):
    assert torch.equal(logits(adapters.unload()), logits(make_llama()))


@pytest.mark.parametrize("how", ["merge_adapter", "merge_and_unload"])
def test_merging_into_bfloat16_says_how_much_of_the_update_is_lost(make_llama, randomise, how):
    model = get_peft_model(make_llama().to(torch.bfloat16), config(scaling=0.05))
    randomise(model)
    layers = layers_of(model)
    with pytest.warns(UserWarning, match=r"merging into torch.bfloat16 rounded away") as warned:
        getattr(model, how)()
    assert len(warned) == 1
    worst, mean = (float(share) for share in re.findall(r"([\d.]+)%", str(warned[0].message)))
    losses = [100 * layer.merge_loss["default"] for layer in layers]
    assert worst == pytest.approx(max(losses), abs=0.06)
    assert mean == pytest.approx(sum(losses) / len(losses), abs=0.06)
    assert worst > 10


def test_modules_to_save_are_trained_and_saved(make_bert, tmp_path):
    settings = FourierFTConfig(n_frequency=30, target_modules=["query"], modules_to_save=["classifier"])
    model = get_peft_model(make_bert(), settings)
    optimiser = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    model(input_ids=IDS, labels=torch.tensor([0, 1, 2, 0])).loss.backward()
    optimiser.step()
    model.save_pretrained(tmp_path)
    loaded = PeftModel.from_pretrained(make_bert(), tmp_path)
    assert_same(logits(loaded), logits(model))
    assert not torch.allclose(logits(loaded), logits(make_bert()))
    assert sorted(get_peft_model_state_dict(model))[-2:] == [
        "base_model.model.classifier.bias",
        "base_model.model.classifier.weight",
    ]


def test_layers_to_transform_and_patterns_choose_layers_and_counts_as_in_stock_peft(make_llama, stock):
    settings: dict[str, Any] = {
        "layers_to_transform": [0, 2],
        "n_frequency_pattern": {"model.layers.2.self_attn.q_proj": 7, "v_proj": 9},
    }
    shapes = []
    for context in (None, stock):
        if context is None:
            model = get_peft_model(make_llama(), config(**settings))
        else:
            with context():
                stock_config = peft.FourierFTConfig(n_frequency=40, target_modules=TARGETS, **settings)
                model = get_peft_model(make_llama(), stock_config)
        shapes.append({key: len(value) for key, value in get_peft_model_state_dict(model).items()})
    assert shapes[0] == shapes[1]
    assert sorted(shapes[0].values()) == [7, 9, 9, 40]


def test_target_modules_default_to_those_of_the_architecture(make_llama, make_gpt2):
    llama = get_peft_model(make_llama(), config(target_modules=None))
    assert llama.peft_config["default"].target_modules == {"q_proj", "v_proj"}
    gpt2 = get_peft_model(make_gpt2(), config(target_modules=None))
    assert gpt2.peft_config["default"].target_modules == {"mlp.c_proj"}


def test_conv1d_layers_train_merge_save_and_load(make_gpt2, randomise, tmp_path):
    model = get_peft_model(make_gpt2(), config(target_modules=["c_attn", "c_proj"]))
    randomise(model)
    expected = logits(model)
    model.save_pretrained(tmp_path)
    assert_same(logits(PeftModel.from_pretrained(make_gpt2(), tmp_path)), expected)
    model(input_ids=IDS, labels=IDS).loss.backward()
    assert all(p.grad.abs().sum() > 0 for p in model.parameters() if p.requires_grad)
    assert_same(logits(model.merge_and_unload()), expected, 1e-4)


def test_fan_in_fan_out_on_linear_layers_is_corrected_with_a_warning(make_llama):
    with pytest.warns(UserWarning, match="fan_in_fan_out=True does not fit"):
        model = get_peft_model(make_llama(), config(fan_in_fan_out=True))
    assert model.peft_config["default"].fan_in_fan_out is False


def test_an_adapter_loads_through_the_meta_device(make_llama, randomise, tmp_path):
    model = get_peft_model(make_llama(), config())
    randomise(model)
    model.save_pretrained(tmp_path)
    loaded = PeftModel.from_pretrained(make_llama(), tmp_path, low_cpu_mem_usage=True)
    assert not any(p.is_meta for p in loaded.parameters())
    assert_same(logits(loaded), logits(model))
    empty = get_peft_model(make_llama(), config(), low_cpu_mem_usage=True)
    assert {n.split(".")[-2] for n, p in empty.named_parameters() if p.is_meta} == {"default"}


@pytest.mark.parametrize(("autocast", "dtype"), [(True, torch.float32), (False, torch.bfloat16)])
def test_coefficients_over_a_bfloat16_base_follow_autocast_adapter_dtype(make_llama, autocast, dtype):
    model = get_peft_model(make_llama().to(torch.bfloat16), config(), autocast_adapter_dtype=autocast)
    assert {p.dtype for p in model.parameters() if p.requires_grad} == {dtype}
    assert logits(model).dtype == torch.bfloat16


def test_a_model_survives_deepcopy_and_pickle(adapters):
    for copied in (copy.deepcopy(adapters), pickle.loads(pickle.dumps(adapters))):
        assert torch.equal(logits(copied), logits(adapters))


@pytest.mark.parametrize("use_reentrant", [False, True])
def test_gradient_checkpointing_gives_the_same_gradients(make_llama, randomise, use_reentrant):
    gradients = []
    for checkpointing in (False, True):
        model = get_peft_model(make_llama(), config()).train()
        randomise(model)
        if checkpointing:
            model.enable_input_require_grads()
            # its name since transformers 5.21, and the one before
            switch = "activation" if hasattr(model, "activation_checkpointing_enable") else "gradient"
            options = {f"{switch}_checkpointing_kwargs": {"use_reentrant": use_reentrant}}
            getattr(model, f"{switch}_checkpointing_enable")(**options)
        model(input_ids=IDS, labels=IDS).loss.backward()
        gradients.append([p.grad for p in model.parameters() if p.requires_grad])
    for plain, checkpointed in zip(*gradients, strict=True):
        assert_same(checkpointed, plain)


def test_the_adapter_converts_to_lora(make_llama, randomise):
    model = get_peft_model(make_llama(), config())
    randomise(model)
    if release("peft") < (0, 19):
        assert not hasattr(peft, "convert_to_lora")
        return
    assert model.supports_lora_conversion()
    lora_config, state = peft.convert_to_lora(model, rank=16)
    expected = logits(model)
    lora = get_peft_model(make_llama(), lora_config)
    peft.set_peft_model_state_dict(lora, state)
    base = logits(make_llama())
    assert (logits(lora) - expected).norm() < 0.5 * (base - expected).norm()


def test_transformers_own_adapter_interface_takes_our_config(make_llama, randomise, tmp_path, transformers_own):
    with transformers_own:
        model = make_llama()
        model.add_adapter(config(), adapter_name="default")
        randomise(model)
        model.save_pretrained(tmp_path)
        loaded = make_llama()
        loaded.load_adapter(tmp_path, is_trainable=True)  # copies the file's coefficients past PEFT's functions
        assert_same(logits(loaded), logits(model))
        for before, after in zip(layers_of(model), layers_of(loaded.train()), strict=True):
            assert after.fourierft_scaling == before.fourierft_scaling
            assert_same(after.fourierft_spectrum["default"], before.fourierft_spectrum["default"], 1e-6)
        assert_same(logits(loaded), logits(model))
        loaded.save_pretrained(tmp_path / "again")
        assert_same(logits(PeftModel.from_pretrained(make_llama(), tmp_path / "again")), logits(model))


def test_excluding_every_target_says_so(make_llama):
    with pytest.raises(ValueError, match="combination of mismatched target modules and excluded modules"):
        get_peft_model(make_llama(), config(exclude_modules=["q_proj", "v_proj"]))


def test_too_many_coefficients_name_the_layer_and_the_limit(make_llama):
    message = r"layer model\.layers\.0\.self_attn\.v_proj: n_frequency=600 exceeds the 512 entries of a 16 x 32 weight"
    with pytest.raises(ShapeError, match=message):
        get_peft_model(make_llama(), config(n_frequency=600))


def test_targeting_a_norm_is_refused(make_llama):
    with pytest.raises(ConfigError, match="type LlamaRMSNorm cannot be adapted"):
        get_peft_model(make_llama(), config(target_modules=["input_layernorm"]))


@pytest.mark.parametrize(("targets", "shapes"), [(["q_proj", "v_proj"], 1), ("all-linear", 3)])
def test_a_seven_billion_model_on_the_meta_device_draws_entries_once_a_shape(targets, shapes):
    with torch.device("meta"):
        model = LlamaForCausalLM(LlamaConfig(hidden_size=4096, intermediate_size=11008, num_hidden_layers=32))
    adapted = get_peft_model(model, FourierFTConfig(target_modules=targets, random_loc_seed=len(targets)))
    layers = [module for module in adapted.modules() if isinstance(module, FourierFTLayer)]
    assert len(layers) == 32 * (2 if isinstance(targets, list) else 7)
    assert adapted.get_nb_trainable_parameters()[0] == 1000 * len(layers)
    assert len({id(layer.fourierft_basis["default"]) for layer in layers}) == shapes


def test_a_further_adapter_of_all_linear_layers_finds_those_of_the_first(make_llama):
    model = get_peft_model(make_llama(), FourierFTConfig(n_frequency=9, target_modules="all-linear"))
    model.add_adapter("second", FourierFTConfig(n_frequency=9, target_modules="all-linear"))
    layers = [module for module in model.modules() if isinstance(module, FourierFTLayer)]
    assert len(layers) == 7 * model.config.num_hidden_layers
    assert all(set(layer.fourierft_spectrum) == {"default", "second"} for layer in layers)
