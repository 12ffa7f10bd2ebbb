"""An adapter takes another one's numbers: all of them or none, in place, and only where they mean the same."""

from __future__ import annotations

import json
from typing import Any

import peft
import pytest
import torch
from peft import PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import MixtralConfig, MixtralForCausalLM

import fourierft
from fourierft import hotswap_adapter
from fourierft.errors import CheckpointError, ConfigError, ShapeError
from fourierft.tuner import FourierFTConfig, FourierFTLayer

TARGETS = ["q_proj", "v_proj", "down_proj"]  # of two shapes
IDS = torch.randint(3, 60, (2, 7), generator=torch.Generator().manual_seed(0))


@torch.no_grad()
def logits(model):
    return model.eval()(input_ids=IDS).logits


def assert_same(actual, expected):
    torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-5 * float(expected.abs().max()))


def config(**settings):
    usual: dict[str, Any] = {"n_frequency": 40, "target_modules": TARGETS, "init_weights": False}
    return FourierFTConfig(**usual | settings)


@pytest.fixture
def save(make_llama, tmp_path):
    """Saves an adapter of random numbers: (name, config, seed=); returns its folder and what it makes of the base."""

    def save(name, settings, seed=0):
        torch.manual_seed(seed)
        model = get_peft_model(make_llama(), settings)
        model.save_pretrained(tmp_path / name)
        return tmp_path / name, logits(model)

    return save


@pytest.fixture
def first(save):
    return save("first", config())


def test_a_model_gives_what_the_other_adapter_gives_and_comes_back(make_llama, save, first):
    folder, expected = save("second", config(), seed=1)
    model = PeftModel.from_pretrained(make_llama(), first[0])
    before, parameters = logits(model), {name: id(parameter) for name, parameter in model.named_parameters()}
    hotswap_adapter(model, folder)
    assert_same(logits(model), expected)
    hotswap_adapter(model, first[0])
    assert torch.equal(logits(model), before)
    assert parameters == {name: id(parameter) for name, parameter in model.named_parameters()}


@pytest.mark.parametrize("settings", [{"scaling": 7.0}, {"scaling": -200.0}, {"scaling": "auto"}])
def test_another_scaling_goes_into_the_coefficients(make_llama, save, settings, tmp_path):
    folder, expected = save("second", config(**settings), seed=1)
    torch.manual_seed(0)
    model = get_peft_model(make_llama(), config(scaling=33.0))
    hotswap_adapter(model, folder)
    assert_same(logits(model), expected)
    model.save_pretrained(tmp_path / "again")
    assert_same(logits(PeftModel.from_pretrained(make_llama(), tmp_path / "again")), expected)


def test_an_adapter_of_stock_peft_is_taken(make_llama, first, stock, tmp_path):
    with stock():
        torch.manual_seed(3)
        settings = peft.FourierFTConfig(n_frequency=40, target_modules=TARGETS, scaling=60.0)
        model = get_peft_model(make_llama(), settings)
        expected = logits(model)
        model.save_pretrained(tmp_path / "stock")
    ours = PeftModel.from_pretrained(make_llama(), first[0])
    hotswap_adapter(ours, tmp_path / "stock")
    assert_same(logits(ours), expected)


def test_a_model_of_transformers_and_further_adapters_take_it_too(make_llama, save, first, transformers_loader):
    folder, expected = save("second", config(), seed=1)
    with transformers_loader:
        model = make_llama()
        model.load_adapter(str(first[0]), adapter_name="customer")
        hotswap_adapter(model, folder, "customer")
        assert_same(logits(model), expected)
    model = PeftModel.from_pretrained(make_llama(), first[0])
    model.load_adapter(first[0], "other")
    hotswap_adapter(model, folder, "other")
    assert_same(logits(model), first[1])
    model.set_adapter("other")
    assert_same(logits(model), expected)


def test_a_compiled_model_is_not_compiled_again(make_mlp, tmp_path):
    x, expected = torch.randn(2, 16), []
    for seed in (0, 1):
        torch.manual_seed(seed)
        model = get_peft_model(make_mlp(), config(target_modules=["square", "tall"])).eval()
        model.save_pretrained(tmp_path / str(seed))
        expected.append(model(x).detach())
    compiled: Any = torch.compile(model, backend="eager")
    assert_same(compiled(x), expected[1])
    hotswap_adapter(compiled, tmp_path / "0")
    with torch.compiler.set_stance("fail_on_recompile"):
        assert_same(compiled(x), expected[0])


def test_heads_that_adapters_bring_are_swapped_with_them(make_bert, tmp_path):
    settings = {"target_modules": ["query"], "task_type": "SEQ_CLS"}
    expected = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        model = get_peft_model(make_bert(), config(**settings))
        nn.init.normal_(model.base_model.model.classifier.modules_to_save["default"].weight)
        model.save_pretrained(tmp_path / str(seed))
        expected.append(logits(model))
    hotswap_adapter(model, tmp_path / "0")
    assert_same(logits(model), expected[0])
    get_peft_model(make_bert(), config(target_modules=["query"])).save_pretrained(tmp_path / "bare")
    with pytest.raises(CheckpointError, match=r"only the model's adapter has classifier\.bias beside its coefficients"):
        hotswap_adapter(model, tmp_path / "bare")
    bare = PeftModel.from_pretrained(make_bert(), tmp_path / "bare")
    with pytest.raises(CheckpointError, match=r"only .*0 has classifier\.bias beside its coefficients"):
        hotswap_adapter(bare, tmp_path / "0")


def test_stacks_of_experts_are_swapped(tmp_path):
    settings: dict[str, Any] = {"vocab_size": 60, "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1}
    heads: dict[str, Any] = {"num_attention_heads": 2, "num_key_value_heads": 2, "num_local_experts": 3}
    expected = []
    for seed in (0, 1):
        torch.manual_seed(5)
        model = MixtralForCausalLM(MixtralConfig(**settings, **heads))
        torch.manual_seed(seed)
        model = get_peft_model(model, config(target_modules=["q_proj"], target_parameters=["experts.down_proj"]))
        model.save_pretrained(tmp_path / str(seed))
        expected.append(logits(model))
    hotswap_adapter(model, tmp_path / "0")
    assert_same(logits(model), expected[0])


@pytest.mark.parametrize(
    ("settings", "error", "text"),
    [
        (
            {"n_frequency": 30},
            ShapeError,
            r"has 30 coefficients for .*, but the model's adapter 40; swap adapters of the same n",
        ),
        (
            {"random_loc_seed": 5},
            CheckpointError,
            "has entries of random_loc_seed=5, but the model's .*random_loc_seed=777",
        ),
        (
            {"entries": "bandpass", "center": 3.0, "width": 2.0},
            CheckpointError,
            "random_loc_seed=777, center=3, width=2",
        ),
        ({"target_modules": ["q_proj", "v_proj"]}, CheckpointError, r"the model alone has model\.layers\.0\.mlp\.down"),
        ({"target_modules": [*TARGETS, "k_proj"]}, CheckpointError, r"the file alone has .*self_attn\.k_proj; swap"),
    ],
)
def test_adapters_that_mean_something_else_change_nothing(make_llama, save, first, settings, error, text):
    folder, _ = save("second", config(**settings), seed=1)
    model = PeftModel.from_pretrained(make_llama(), first[0])
    before = logits(model)
    with pytest.raises(error, match=text):
        hotswap_adapter(model, folder)
    assert torch.equal(logits(model), before)


def test_layers_of_another_shape_are_refused(make_mlp, tmp_path):
    model = get_peft_model(make_mlp(), config(target_modules=["tall"]))
    model.save_pretrained(tmp_path)
    other = nn.ModuleDict({"tall": nn.Linear(24, 16, bias=False)})
    other = get_peft_model(other, config(target_modules=["tall"]))
    with pytest.raises(ShapeError, match="tall is 16 x 24 in this model, but the adapter was made for 24 x 16"):
        hotswap_adapter(other, tmp_path)


def test_a_damaged_file_and_numbers_that_do_not_fit_change_nothing(make_llama, first, tmp_path):
    model = PeftModel.from_pretrained(make_llama(), first[0])
    tensors = load_file(first[0] / "adapter_model.safetensors")
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "adapter_config.json").write_bytes((first[0] / "adapter_config.json").read_bytes())
    key = sorted(tensors)[-1]
    for value, error, text in (
        (torch.nan, CheckpointError, "NaN"),
        (3e30, ShapeError, "too large for torch.float16"),
    ):
        save_file(
            {**tensors, key: torch.full_like(tensors[key], value)}, tmp_path / "bad" / "adapter_model.safetensors"
        )
        model = model.half() if error is ShapeError else model
        before = [parameter.clone() for parameter in model.parameters()]
        with pytest.raises(error, match=text):
            hotswap_adapter(model, tmp_path / "bad")
        assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))


def test_what_was_written_is_put_back_if_one_write_fails(make_llama, save, first):
    folder, _ = save("second", config(), seed=1)
    model = PeftModel.from_pretrained(make_llama(), first[0])
    last = [module for module in model.modules() if isinstance(module, FourierFTLayer)][-1]
    with torch.inference_mode():  # torch refuses to write to it from outside
        last.fourierft_coefficients["default"].weight = nn.Parameter(
            last.coefficients("default") + 0.0, requires_grad=False
        )
    with pytest.raises(RuntimeError, match="Inplace update to inference tensor"):
        hotswap_adapter(model, folder)
    assert_same(logits(model), first[1])


def test_a_merged_or_missing_adapter_is_refused(make_llama, first):
    model = PeftModel.from_pretrained(make_llama(), first[0])
    with pytest.raises(ConfigError, match="has no FourierFT adapter 'other'; load one first"):
        hotswap_adapter(model, first[0], "other")
    model.merge_adapter()
    with pytest.raises(ConfigError, match="'default' is merged into the base weights; unmerge it first"):
        hotswap_adapter(model, first[0])


def test_an_adapter_without_scaling_takes_none(make_llama, first):
    model = get_peft_model(make_llama(), config(scaling=0.0))
    with pytest.raises(CheckpointError, match=r"has scaling=0 in .*, so new coefficients would have no effect"):
        hotswap_adapter(model, first[0])


def test_the_strength_that_was_set_stays(make_llama, save, first):
    folder, expected = save("second", config(), seed=1)
    model = PeftModel.from_pretrained(make_llama(), first[0])
    for module in model.modules():
        if isinstance(module, FourierFTLayer):
            module.set_scale("default", 0.0)
    hotswap_adapter(model, folder)
    assert_same(logits(model), logits(make_llama()))
    for module in model.modules():
        if isinstance(module, FourierFTLayer):
            module.unscale_layer()
    assert_same(logits(model), expected)


def test_another_base_of_the_same_shapes_is_told_of(make_llama, first, save):
    folder, expected = save("second", config(), seed=1)
    for place, digest in ((first[0], "sha256:" + 64 * "a"), (folder, "sha256:" + 64 * "b")):
        content = json.loads((place / "adapter_config.json").read_text())
        content["base_model_name_or_path"] = f"org/{digest[-1]}"
        content["fourierft"]["base"] = {"digest": digest}
        (place / "adapter_config.json").write_text(json.dumps(content))
    model = PeftModel.from_pretrained(make_llama(), first[0])
    with pytest.warns(UserWarning, match="was made for the base org/b.*'default' for org/a.*another model of the same"):
        hotswap_adapter(model, folder)
    assert_same(logits(model), expected)


def test_it_is_a_public_name():
    assert fourierft.hotswap_adapter is hotswap_adapter
