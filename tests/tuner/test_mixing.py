"""Several adapters in one product, in a layer and through a whole model."""

from typing import Any

import pytest
import torch
from peft import get_peft_model
from transformers import T5Config, T5ForConditionalGeneration

from fourierft.errors import ConfigError
from fourierft.tuner import FourierFTConfig
from fourierft.tuner import layer as layer_module

IDS = torch.randint(3, 60, (4, 7), generator=torch.Generator().manual_seed(0))


def tokens(*shape):
    return torch.randn(*shape, 9, generator=torch.Generator().manual_seed(4))


def config(**settings):
    usual: dict[str, Any] = {"n_frequency": 40, "target_modules": ["q_proj", "v_proj"]}
    return FourierFTConfig(**usual | settings)


def logits(model, **kwargs):
    with torch.no_grad():
        return model.eval()(input_ids=IDS, **kwargs).logits


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


@pytest.mark.parametrize("shape", [(), (5,), (3, 5)])
def test_active_adapters_of_a_layer_add_up(several, expected, shape):
    x = tokens(*shape)
    several.set_adapter(["default", "short", "other"])
    actual = several(x).double()
    assert_same(actual, expected(several, x, ["default", "short", "other"]))


def test_active_adapters_of_one_draw_take_one_transform(several):
    several.update_layer("long", 30, FourierFTConfig(init_weights=False))
    terms = several.terms.summed(["default", "short", "other", "long"])
    assert [term.basis.n_frequency for term in terms] == [30, 11]


def test_active_adapters_compile_without_a_graph_break(several):
    x = tokens(3)
    several.set_adapter(["default", "short", "other"])
    compiled = torch.compile(several, fullgraph=True, backend="aot_eager")
    assert_same(compiled(x), several(x))


@pytest.mark.parametrize("shape", [(6,), (6, 4), (6, 2, 3)])
def test_a_mixed_batch_gives_each_row_of_a_layer_its_adapter(several, expected, shape):
    x = tokens(*shape)
    names = ["other", "__base__", "default", "short", "default", "elsewhere"]
    y = several(x, adapter_names=names)
    for i, name in enumerate(names):
        own = [name] if name in several.fourierft_spectrum else []
        assert_same(y[i].double(), expected(several, x[i], own))


def test_a_mixed_batch_calls_the_row_view_once_for_each_draw(several, monkeypatch):
    x, calls = tokens(5), []
    real = layer_module.spectral_linear
    monkeypatch.setattr(layer_module, "spectral_linear", lambda *args: calls.append(args) or real(*args))
    several(x, adapter_names=["default", "short", "default", "short", "default"])
    assert len(calls) == 1
    several(x, adapter_names=["default", "short", "other", "other", "__base__"])
    assert len(calls) == 3
    several(x, adapter_names=["__base__"] * 5)
    assert len(calls) == 3


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 2e-2)])
def test_a_mixed_batch_equals_one_adapter_at_a_time(several, dtype, tolerance):
    layer, x = several.to(dtype), tokens(3, 4).to(dtype)
    mixed = layer(x, adapter_names=["default", "__base__", "default"])
    assert mixed.dtype == dtype
    assert_same(mixed[::2], layer(x)[::2], tolerance)
    assert torch.equal(mixed[1], layer.base_layer(x)[1])


def test_adapter_names_must_be_as_many_as_the_inputs(several):
    with pytest.raises(ConfigError, match="got 2 adapter_names for 3 inputs"):
        several(tokens(3), adapter_names=["default", "default"])


def test_adapter_names_are_refused_while_adapters_are_merged(several):
    several.merge()
    with pytest.raises(ConfigError, match=r"call unmerge_adapter\(\) first"):
        several(tokens(3), adapter_names=["default"] * 3)


def test_a_mixed_batch_gives_each_row_its_adapter(adapters):
    outputs = outputs_by_adapter(adapters)
    names = ["other", "__base__", "short", "default"]
    mixed = logits(adapters, adapter_names=names)
    for i, name in enumerate(names):
        assert_same(mixed[i], outputs[name][i])
    assert_same(logits(adapters), outputs["default"])  # the hooks are gone


def test_a_mixed_batch_reaches_adapters_that_not_every_layer_has(make_llama, randomise):
    model = get_peft_model(make_llama(), config(layers_to_transform=[0]))
    model.add_adapter("late", config(target_modules=["down_proj"], layers_to_transform=[2]))
    outputs = []
    for name in ("default", "late"):
        randomise(model, name)
        model.set_adapter(name)
        outputs.append(logits(model))
    mixed = logits(model, adapter_names=["default", "late", "late", "default"])
    assert_same(mixed, torch.stack([outputs[0][0], outputs[1][1], outputs[1][2], outputs[0][3]]))


def test_a_mixed_batch_takes_each_adapters_own_head(make_bert, randomise):
    settings: dict[str, Any] = {
        "n_frequency": 30,
        "target_modules": ["query"],
        "modules_to_save": ["classifier"],
        "task_type": "SEQ_CLS",
    }
    model = get_peft_model(make_bert(), FourierFTConfig(**settings))
    model.add_adapter("second", FourierFTConfig(**settings))
    outputs = []
    for name in ("default", "second"):
        randomise(model, name)
        model.set_adapter(name)
        torch.nn.init.normal_(model.base_model.model.classifier.modules_to_save[name].weight)
        outputs.append(logits(model))
    with model.disable_adapter():
        outputs.append(logits(model))
    mixed = logits(model, adapter_names=["second", "default", "__base__", "second"])
    assert_same(mixed, torch.stack([outputs[1][0], outputs[0][1], outputs[2][2], outputs[1][3]]))


@pytest.mark.parametrize("num_beams", [1, 3])
def test_a_mixed_batch_generates_what_each_adapter_generates(adapters, num_beams):
    names = ["other", "__base__", "short", "default"]
    options = {"max_new_tokens": 6, "num_beams": num_beams, "do_sample": False, "attention_mask": torch.ones_like(IDS)}
    options |= {"eos_token_id": None, "pad_token_id": 0}
    mixed = adapters.generate(input_ids=IDS, adapter_names=names, **options)
    for i, name in enumerate(names):
        if name == "__base__":
            with adapters.disable_adapter():
                alone = adapters.generate(input_ids=IDS, **options)
        else:
            adapters.set_adapter(name)
            alone = adapters.generate(input_ids=IDS, **options)
        assert torch.equal(mixed[i], alone[i]), name


def test_beam_search_of_an_encoder_decoder_keeps_rows_and_adapters_together(randomise):
    torch.manual_seed(0)
    ids: dict[str, Any] = {"decoder_start_token_id": 0, "eos_token_id": None}
    t5 = T5Config(d_model=32, d_kv=8, d_ff=48, num_layers=2, num_heads=2, vocab_size=60, **ids)
    model = get_peft_model(T5ForConditionalGeneration(t5), config(target_modules=["q", "v"])).eval()
    model.add_adapter("second", config(target_modules=["q", "v"], random_loc_seed=2))
    options = {"max_new_tokens": 5, "num_beams": 3, "do_sample": False, "attention_mask": torch.ones_like(IDS)}
    alone = []
    for name in ("default", "second"):
        randomise(model, name)
        model.set_adapter(name)
        alone.append(model.generate(input_ids=IDS, **options))
    mixed = model.generate(input_ids=IDS, adapter_names=["second", "default", "default", "second"], **options)
    assert not torch.equal(alone[0], alone[1])
    assert torch.equal(mixed, torch.stack([alone[1][0], alone[0][1], alone[0][2], alone[1][3]]))


def test_an_unknown_name_in_a_mixed_batch_is_refused(adapters):
    with pytest.raises(ConfigError, match=r"has 'shrot', but the model's adapters are \['default', 'other', 'short'\]"):
        logits(adapters, adapter_names=["shrot"] * 4)


def test_a_mixed_batch_is_refused_in_training_mode(adapters):
    with pytest.raises(ConfigError, match=r"call model\.eval\(\) first"):
        adapters.train()(input_ids=IDS, adapter_names=["default"] * 4)
