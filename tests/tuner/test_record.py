"""What the files of an adapter say of its base is written at every save, and checked at every load."""

from __future__ import annotations

import dataclasses
import json
import warnings
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from peft import PeftModel, get_peft_model, inject_adapter_in_model
from safetensors.torch import load_file
from transformers import BertConfig, BertForSequenceClassification, LlamaConfig, LlamaForCausalLM

from fourierft.errors import ShapeError
from fourierft.format.checkpoint import read_checkpoint
from fourierft.format.identity import identify_base
from fourierft.tuner import FourierFTConfig

TARGETS = ["q_proj", "v_proj", "down_proj"]


def config(**settings: Any) -> FourierFTConfig:
    usual: dict[str, Any] = {"n_frequency": 60, "target_modules": TARGETS, "task_type": "CAUSAL_LM"}
    return FourierFTConfig(**usual | settings)


def llama(**settings: Any) -> LlamaForCausalLM:
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4}
    more = {"num_key_value_heads": 2, "vocab_size": 60, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
    return LlamaForCausalLM(LlamaConfig(**sizes | more | settings))


def record_of(path: Path) -> dict[str, Any]:
    return json.loads((path / "adapter_config.json").read_text())["fourierft"]


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """An adapter of a LLaMA that has files of its own."""
    llama().save_pretrained(tmp_path / "base")
    base = LlamaForCausalLM.from_pretrained(str(tmp_path / "base"))
    get_peft_model(base, config()).save_pretrained(str(tmp_path / "adapter"))
    return tmp_path / "adapter"


def test_the_record_says_shapes_layers_and_base(saved: Path) -> None:
    base = identify_base(str(saved.parent / "base"))
    assert record_of(saved) == {
        "format": 2,
        "scaling": "auto",
        "rule": 3,
        "shapes": {"q_proj": [32, 32], "v_proj": [16, 32], "down_proj": [32, 48]},
        "layers": 9,
        "base": {"digest": base.digest, "signs": base.signs},
    }
    checkpoint = read_checkpoint(saved)
    assert checkpoint.shapes is not None
    assert len(checkpoint.shapes) == 9
    assert checkpoint.config.made_for.is_same(base)


def test_a_model_without_files_is_told_by_its_shapes_alone(tmp_path: Path) -> None:
    get_peft_model(llama(), config(scaling=3.0)).save_pretrained(str(tmp_path))
    assert record_of(tmp_path) == {
        "format": 2,
        "shapes": {"q_proj": [32, 32], "v_proj": [16, 32], "down_proj": [32, 48]},
        "layers": 9,
    }


def test_other_ways_to_save_say_the_same(saved: Path, tmp_path: Path, transformers_own: Any) -> None:
    with transformers_own:
        model = LlamaForCausalLM.from_pretrained(saved.parent / "base")
        model.add_adapter(config(), adapter_name="own")
        model.set_adapter("own")
        model.save_pretrained(tmp_path / "transformers")
        assert record_of(tmp_path / "transformers") == record_of(saved)
    loaded = PeftModel.from_pretrained(LlamaForCausalLM.from_pretrained(saved.parent / "base"), saved)
    loaded.save_pretrained(str(tmp_path / "again"))
    assert record_of(tmp_path / "again") == record_of(saved)
    FourierFTConfig.from_pretrained(str(saved)).save_pretrained(tmp_path / "config")
    assert record_of(tmp_path / "config") == record_of(saved)


def test_a_config_that_two_models_share_says_of_each_what_it_is(tmp_path: Path) -> None:
    shared = config(target_modules=["q_proj"])
    models = [get_peft_model(llama(hidden_size=size, num_hidden_layers=2), shared) for size in (32, 64)]
    for model, size in zip(models, (32, 64), strict=True):
        model.save_pretrained(str(tmp_path / str(size)))
        assert record_of(tmp_path / str(size))["shapes"] == {"q_proj": [size, size]}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"hidden_size": 48}, r"q_proj is 48 x 48 in this model, but the adapter was made for 32 x 32"),
        ({"num_key_value_heads": 4}, r"v_proj is 32 x 32 in this model, but the adapter was made for 16 x 32"),
        ({"num_hidden_layers": 2}, r"made for 9 layers, but its settings match 6 of this model"),
        ({"num_hidden_layers": 4}, r"made for 9 layers, but its settings match 12 of this model"),
    ],
)
def test_a_model_of_other_shapes_is_refused_and_left_as_it_was(
    saved: Path, change: Any, message: str, transformers_loader: Any
) -> None:
    other = llama(**change)
    before = [(name, type(module)) for name, module in other.named_modules()]
    adapted = get_peft_model(llama(**change), config(), adapter_name="mine")
    nameless = peft.PeftConfig.from_pretrained(str(saved))
    nameless.base_model_name_or_path = None  # PEFT warns of a name that changes
    for load in (
        lambda: PeftModel.from_pretrained(other, saved),
        lambda: inject_adapter_in_model(peft.PeftConfig.from_pretrained(str(saved)), other),
        lambda: get_peft_model(other, nameless),
    ):
        with pytest.raises(ShapeError, match=message):
            load()
        assert [(name, type(module)) for name, module in other.named_modules()] == before
    with transformers_loader, pytest.raises(ShapeError, match=message):
        other.load_adapter(str(saved))
    assert [(name, type(module)) for name, module in other.named_modules()] == before
    with pytest.raises(ShapeError, match=message):
        adapted.load_adapter(str(saved), "theirs")
    assert adapted.active_adapters == ["mine"]
    adapted(input_ids=torch.tensor([[1, 2]]))


def test_layers_that_a_state_dict_names_are_checked_too(saved: Path) -> None:
    state = load_file(saved / "adapter_model.safetensors")
    state = {key.removeprefix("base_model.model."): value for key, value in state.items()}
    with pytest.raises(ShapeError, match="q_proj is 48 x 48 in this model, but the adapter was made for 32 x 32"):
        inject_adapter_in_model(peft.PeftConfig.from_pretrained(str(saved)), llama(hidden_size=48), state_dict=state)
    inject_adapter_in_model(peft.PeftConfig.from_pretrained(str(saved)), llama(), state_dict=state)


def test_settings_of_an_old_adapter_make_a_new_one_for_another_model(saved: Path) -> None:
    old = peft.PeftConfig.from_pretrained(str(saved))
    fresh = get_peft_model(llama(hidden_size=48), dataclasses.replace(old, base_model_name_or_path=None))
    assert fresh.peft_config["default"].n_frequency == 60


def test_an_adapter_without_record_meets_any_model_that_has_room(saved: Path) -> None:
    file = saved / "adapter_config.json"
    fields = json.loads(file.read_text())
    del fields["fourierft"]
    file.write_text(json.dumps(fields))
    PeftModel.from_pretrained(llama(hidden_size=48), saved)
    with pytest.raises(ShapeError, match="exceeds the 32 entries"):
        PeftModel.from_pretrained(llama(hidden_size=8, num_key_value_heads=2), saved)


def test_another_model_of_the_same_shapes_is_warned_of_once(saved: Path, tmp_path: Path) -> None:
    llama().save_pretrained(tmp_path / "sibling")  # other random weights
    sibling = LlamaForCausalLM.from_pretrained(tmp_path / "sibling")
    with pytest.warns(UserWarning, match=r"made for the base .*base .* but .*sibling .* is another model") as caught:
        PeftModel.from_pretrained(sibling, saved)
    assert len([warning for warning in caught if warning.category is UserWarning]) == 1


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_cast_copy_is_the_same_model(saved: Path, tmp_path: Path, dtype: torch.dtype) -> None:
    copy = LlamaForCausalLM.from_pretrained(saved.parent / "base", dtype=dtype)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        PeftModel.from_pretrained(copy, saved)
        LlamaForCausalLM.from_pretrained(saved.parent / "base", dtype=dtype).save_pretrained(tmp_path / "copy")
        PeftModel.from_pretrained(LlamaForCausalLM.from_pretrained(tmp_path / "copy"), saved)


def test_a_model_loaded_in_four_bits_is_the_same_model(saved: Path) -> None:
    from fourierft.adapters.quantization import quantization_settings

    quantised = LlamaForCausalLM.from_pretrained(saved.parent / "base", **quantization_settings("nf4"))
    with warnings.catch_warnings():
        warnings.filterwarnings("error", "the adapter was made for the base")
        PeftModel.from_pretrained(quantised, saved)


def test_a_head_that_was_saved_has_to_fit_too(tmp_path: Path) -> None:
    def classifier(labels: int) -> BertForSequenceClassification:
        sizes: dict[str, Any] = {
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "num_labels": labels,
        }
        return BertForSequenceClassification(BertConfig(**sizes, vocab_size=60))

    settings = config(target_modules=["query"], task_type="SEQ_CLS", n_frequency=9)
    get_peft_model(classifier(3), settings).save_pretrained(str(tmp_path))
    with pytest.raises(RuntimeError, match=r"size mismatch for .*classifier"):
        PeftModel.from_pretrained(classifier(2), tmp_path)
