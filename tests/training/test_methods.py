"""Which parameters a method trains, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import TaskType
from transformers import MixtralConfig, MixtralForCausalLM

from fourierft.errors import ConfigError
from fourierft.training.arguments import MethodArguments, ModelArguments
from fourierft.training.families.classes import Classification
from fourierft.training.methods import Trainable, attach, is_head_parameter
from fourierft.training.models import BaseModel, load_model


@pytest.fixture
def base(tiny_bert: Path) -> BaseModel:
    return load_model(ModelArguments(model_name_or_path=str(tiny_bert)), Classification(("n", "y")), seed=0)


def trained_names(trainable: Trainable) -> set[str]:
    return {name for name, parameter in trainable.model.named_parameters() if parameter.requires_grad}


def test_adapter_starts_as_the_base_model(base: BaseModel) -> None:
    tokens = {"input_ids": torch.tensor([[2, 5, 6, 3]])}
    before = base.model.eval()(**tokens).logits
    trainable = attach(base, MethodArguments(n_frequency=20))
    assert torch.equal(trainable.model.eval()(**tokens).logits, before)


def test_paper_starts_from_normal_coefficients(base: BaseModel) -> None:
    trainable = attach(base, MethodArguments(n_frequency=400, init_weights=False))
    drawn = [value for name, value in trainable.model.named_parameters() if "coefficients" in name]
    assert all(abs(value.std() - 1) < 0.2 and value.requires_grad for value in drawn)


def test_fourierft_trains_coefficients_and_head(base: BaseModel) -> None:
    trainable = attach(base, MethodArguments(n_frequency=20, target_modules=["query"], scaling="3"))
    names = trained_names(trainable)
    assert len([name for name in names if "fourierft_coefficients" in name]) == 2
    assert {name for name in names if "coefficients" not in name} == {
        "base_model.model.classifier.modules_to_save.default.weight",
        "base_model.model.classifier.modules_to_save.default.bias",
    }
    assert trainable.settings == {
        "n_frequency": 20, "scaling": 3.0, "random_loc_seed": 777, "target_modules": ["query"]
    }  # fmt: skip
    assert (trainable.layers, trainable.adapter_parameters, trainable.adapter_bytes) == (2, 40, 160)


def test_all_linear_adapts_every_layer_below_the_head(base: BaseModel) -> None:
    trainable = attach(base, MethodArguments(n_frequency=20, target_modules=["all-linear"]))
    assert trainable.layers == 2 * 6 + 1  # four of attention, two of the block, the pooler
    assert trainable.head_parameters == 66


def test_bitfit_trains_biases_and_head(base: BaseModel) -> None:
    names = trained_names(attach(base, MethodArguments(method="bitfit")))
    assert all(name.endswith("bias") or name.startswith("classifier.") for name in names)
    assert "bert.encoder.layer.1.output.LayerNorm.bias" in names


def test_lora_takes_its_settings(base: BaseModel) -> None:
    trainable = attach(base, MethodArguments(method="lora", lora_r=2, lora_alpha=6))
    assert trainable.settings == {"r": 2, "lora_alpha": 6, "target_modules": "all-linear"}
    assert trainable.adapter_parameters == 2 * (2 * (4 * (32 + 32) + 2 * (32 + 64)) + 32 + 32)  # and the pooler


def test_directory_of_an_adapter_names_its_config(base: BaseModel, tmp_path: Path) -> None:
    content = {
        "peft_type": "FOURIERFT",
        "n_frequency": 9,
        "random_loc_seed": 4,
        "scaling": 12.0,
        "inference_mode": True,
    }
    (tmp_path / "adapter_config.json").write_text(json.dumps(content))
    trainable = attach(base, MethodArguments(method=str(tmp_path)))
    assert trainable.method == "fourierft"
    assert trainable.settings["random_loc_seed"] == 4
    assert trainable.adapter_parameters == 4 * 9


@pytest.mark.parametrize(
    "content",
    ["{", "[]", "{}", '{"peft_type": "NEW"}', '{"peft_type": "LORA", "r": "four"}', '{"peft_type": "PROMPT_TUNING"}'],
)
def test_file_that_is_no_config_is_refused(base: BaseModel, tmp_path: Path, content: str) -> None:
    (tmp_path / "c.json").write_text(content)
    with pytest.raises(
        ConfigError, match=r"c\.json is not a (readable )?PEFT|adapts no layers|do not fit this model"
    ) as caught:
        attach(base, MethodArguments(method=str(tmp_path / "c.json")))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"method": "laura"}, "method laura is unknown; did you mean lora"),
        ({"target_modules": ["qeury"]}, "target module qeury is not in the model; did you mean query"),
        ({"target_modules": ["xyz"]}, "its layers are .*classifier, .*query"),
        ({"n_frequency": 0}, "n_frequency=0"),
        ({"method": "lora", "lora_r": 0}, "r"),
    ],
)
def test_unknown_method_layer_or_size_is_refused(base: BaseModel, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        attach(base, MethodArguments(**settings))


def test_head_is_known_with_and_without_an_adapter() -> None:
    heads = ("classifier", "bert.pooler.dense")
    assert is_head_parameter("classifier.weight", heads)
    assert is_head_parameter("base_model.model.bert.pooler.dense.modules_to_save.default.bias", heads)
    assert not is_head_parameter("bert.encoder.layer.0.output.dense.weight", heads)
    assert not is_head_parameter("base_model.model.classifier.original_module.bias", heads)


def test_usual_adapter_is_on_every_linear_layer_and_so_is_lora(base: BaseModel, tiny_bert: Path) -> None:
    linear = [name for name, module in base.model.named_modules() if isinstance(module, torch.nn.Linear)]
    adapted = set(linear) - {"classifier"}
    trainable = attach(base, MethodArguments(n_frequency=20))
    assert (trainable.layers, trainable.adapter_parameters) == (len(adapted), 20 * len(adapted))
    other = load_model(ModelArguments(model_name_or_path=str(tiny_bert)), Classification(("n", "y")), seed=0)
    assert attach(other, MethodArguments(method="lora:1")).layers == len(adapted)


def test_budget_sizes_the_adapter(base: BaseModel) -> None:
    trainable = attach(base, MethodArguments(parameters="1k", target_modules=["query", "value"]))
    assert (trainable.layers, trainable.adapter_parameters) == (4, 1000)


def test_budget_leaves_the_head_out(base: BaseModel) -> None:
    rank_one = 2 * (4 * (32 + 32) + 2 * (32 + 64)) + 32 + 32  # two blocks and the pooler, 13 layers
    assert attach(base, MethodArguments(like="lora:1")).adapter_parameters == 13 * (rank_one // 13)


@pytest.mark.parametrize("method", ["fourierft:50", "fourierft,n_frequency=50", "lora:8"])
def test_budget_beside_a_method_with_a_size_is_refused(base: BaseModel, method: str) -> None:
    with pytest.raises(ConfigError, match="like=lora:1 sets the size of a FourierFT adapter, but method="):
        attach(base, MethodArguments(method=method, like="lora:1"))


def test_parameters_of_experts_are_trained_by_name() -> None:
    sizes: dict[str, Any] = {"vocab_size": 37, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1}
    experts: dict[str, Any] = {"num_attention_heads": 2, "num_key_value_heads": 1, "num_local_experts": 4}
    stacks = ["experts.gate_up_proj", "experts.down_proj"]
    made = []
    for method in ("fourierft", "lora:2"):
        model = MixtralForCausalLM(MixtralConfig(**sizes, **experts, pad_token_id=0))
        arguments = MethodArguments(method=method, n_frequency=20, target_modules=["q_proj"], target_parameters=stacks)
        made.append(attach(BaseModel(model, (), TaskType.CAUSAL_LM), arguments))
    assert made[0].settings["target_parameters"] == stacks
    assert sum(p.numel() for p in made[0].model.parameters() if p.requires_grad) == 20 + 2 * 4 * 20
    assert any("experts" in name for name in trained_names(made[1]))
    with pytest.raises(ConfigError, match="target module down_proj is a parameter of the model; name it with --target"):
        attach(BaseModel(model, (), TaskType.CAUSAL_LM), MethodArguments(target_modules=["down_proj"]))
    with pytest.raises(ConfigError, match="method vera adapts no parameters; leave --target_parameters out"):
        attach(BaseModel(model, (), TaskType.CAUSAL_LM), MethodArguments(method="vera", target_parameters=stacks))
