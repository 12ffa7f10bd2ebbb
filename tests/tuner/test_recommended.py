"""The recommended adapter, held to LoRA's own count of numbers."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import peft
import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import nn
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

import fourierft
from fourierft.errors import ConfigError
from fourierft.tuner.recommended import read_count, recommended


def make_llama() -> LlamaForCausalLM:
    sizes: dict[str, Any] = {
        "hidden_size": 64,
        "intermediate_size": 88,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
    }
    return LlamaForCausalLM(LlamaConfig(vocab_size=50, num_hidden_layers=2, **sizes))


def make_gpt2() -> GPT2LMHeadModel:
    return GPT2LMHeadModel(GPT2Config(vocab_size=50, n_embd=64, n_layer=2, n_head=4))


def trained(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)


@pytest.mark.parametrize("rank", [1, 2, 8])
@pytest.mark.parametrize("make", [make_llama, make_gpt2])
def test_as_many_numbers_as_lora_on_the_same_layers(make: type, rank: int) -> None:
    lora = get_peft_model(make(), LoraConfig(r=rank, target_modules="all-linear", fan_in_fan_out=make is make_gpt2))
    model = make()
    ours = get_peft_model(model, fourierft.recommended(model, like=f"lora:{rank}"))
    layers = len([name for name, _ in ours.named_modules() if name.endswith("base_layer")])
    assert trained(lora) - layers < trained(ours) <= trained(lora)


def test_usual_adapter_has_340_coefficients_on_every_linear_layer_but_the_head() -> None:
    model = make_llama()
    ours = get_peft_model(model, recommended(model))
    assert trained(ours) == 2 * 7 * 340  # q, k, v, o, gate, up, down of two blocks
    assert not hasattr(ours.get_base_model().lm_head, "base_layer")


def test_budget_is_kept_and_spread_evenly() -> None:
    config = recommended(make_llama(), parameters="1.5k", target_modules=["q_proj", "down_proj"], task_type="CAUSAL_LM")
    assert (config.n_frequency, config.task_type) == (1500 // 4, "CAUSAL_LM")


def test_a_layer_with_few_entries_gets_them_all_and_the_others_the_rest() -> None:
    """30 x 40, 40 x 5 and 5 x 2: the last has 10 entries, the second 200, and of 1,000 numbers 790 are left."""
    model = nn.Sequential(nn.Linear(30, 40), nn.Linear(40, 5), nn.Linear(5, 2))
    fields: dict[str, Any] = {"target_modules": ["0", "1", "2"]}
    for budget, counts in (
        ({}, [340, 200, 10]),
        ({"parameters": 1000}, [790, 200, 10]),
        ({"parameters": 212}, [101, 101, 10]),
        ({"parameters": 10_000}, [1200, 200, 10]),
        ({"like": "lora:1"}, [56, 56, 10]),  # 70 + 45 + 7 = 122
    ):
        ours = get_peft_model(copy.deepcopy(model), recommended(model, **fields, **budget))
        assert [parameter.numel() for parameter in ours.parameters() if parameter.requires_grad] == counts
    own = recommended(model, n_frequency_pattern={"1": 7}, **fields)
    ours = get_peft_model(model, own)
    assert [parameter.numel() for parameter in ours.parameters() if parameter.requires_grad] == [340, 7, 10]


@pytest.mark.parametrize("fields", [{}, {"n_frequency": 5}, {"parameters": 1000}])
def test_a_pattern_of_another_type_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="n_frequency_pattern=3 is not a dictionary; use names or patterns of layers"):
        recommended(make_llama(), n_frequency_pattern=3, **fields)


def test_skeleton_without_weights_is_enough() -> None:
    with torch.device("meta"):
        model = make_llama()
    assert recommended(model, like="lora:1").n_frequency == recommended(make_llama(), like="lora:1").n_frequency


def test_fields_reach_the_config() -> None:
    config = recommended(make_llama(), n_frequency=7, random_loc_seed=3)
    assert isinstance(config, peft.FourierFTConfig)
    assert (config.n_frequency, config.random_loc_seed, config.scaling) == (7, 3, "auto")


@pytest.mark.parametrize(
    ("text", "count"), [("50k", 50_000), ("1.5M", 1_500_000), (12_240, 12_240), ("12,240", 12_240), ("7", 7)]
)
def test_count_is_read_as_people_write_it(text: str | int, count: int) -> None:
    assert read_count(text) == count


@pytest.mark.parametrize("text", ["", "k", "-5", "0", "1e3", "fifty", "nan", True, "5 apples", "."])
def test_count_that_is_no_number_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=r"write one such as 50000, 50k or 1\.5M"):
        read_count(text)


@pytest.mark.parametrize(
    ("budget", "message"),
    [
        ({"like": "lora"}, "write lora and its rank, such as lora:1"),
        ({"like": "lora:0"}, "write lora and its rank"),
        ({"like": "vera:4"}, "write lora and its rank"),
        ({"parameters": 13}, "fewer numbers than the 14 adapted layers"),
        ({"like": "lora:1", "parameters": 100}, "like and parameters both set the adapter's size; give only one"),
        ({"parameters": 100, "n_frequency": 5}, "parameters and n_frequency both set"),
        ({"like": "lora:1", "target_modules": ["qproj"]}, "names no linear layer of a LlamaForCausalLM"),
    ],
)
def test_wrong_budget_is_told(budget: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        recommended(make_llama(), **budget)  # type: ignore[arg-type]


def test_a_name_in_place_of_a_model_and_a_config_of_lora_are_told_in_a_line() -> None:
    name: Any = "roberta-base"
    with pytest.raises(ConfigError, match="wants a model, and got a str; load it with from_pretrained"):
        recommended(name)
    like: Any = LoraConfig(r=8)
    with pytest.raises(ConfigError, match="is not a LoRA; write lora and its rank, such as lora:1") as caught:
        recommended(make_llama(), like=like)
    assert len(str(caught.value)) < 250


def test_sizes_that_are_no_integers_of_python_are_taken_as_such(randomise: Any, update: Any) -> None:
    def make(size: Any, other: Any) -> nn.Sequential:
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(size(16), other(24)), nn.Linear(other(24), size(8)))

    odd, plain = make(torch.tensor, np.int64), make(int, int)
    config = recommended(odd, parameters=40)
    assert config.n_frequency == recommended(plain, parameters=40).n_frequency == 20
    model, other = get_peft_model(odd, config), get_peft_model(plain, recommended(plain, parameters=40))
    randomise(model)
    layer = model.base_model.model[0]
    assert layer.fourierft_scaling == other.base_model.model[0].fourierft_scaling
    expected = layer.get_base_layer().weight.double() + update(layer)
    torch.testing.assert_close(model.merge_and_unload()[0].weight.double(), expected, rtol=1e-5, atol=1e-6)
