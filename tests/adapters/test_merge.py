"""Merging: the full model answers as stock PEFT's adapter does, and nothing is lost when it cannot be made."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from peft.mapping import PEFT_TYPE_TO_TUNER_MAPPING
from safetensors.torch import load_file
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaForCausalLM,
)

from fourierft.adapters.merge import merge_adapter, own_tuner
from fourierft.adapters.report import inspect_adapter
from fourierft.errors import CheckpointError, ConfigError, MissingExtraError, OutputExistsError, ShapeError
from fourierft.format.checkpoint import read_checkpoint
from fourierft.tuner import FourierFTConfig
from fourierft.tuner.quantization import keep_layout

TOKENS = torch.tensor([[2, 5, 8, 13, 3], [2, 4, 9, 17, 3]])
QUERY = "bert.encoder.layer.0.attention.self.query"


def merged_logits(folder: Path) -> torch.Tensor:
    """What the merged model gives, loaded with transformers alone."""
    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    keep_layout(model)
    with torch.inference_mode():
        return model(TOKENS).logits.float()


def test_merged_model_answers_as_stock_peft(adapter: Path, load_base: Any, stock_logits: Any, tmp_path: Path) -> None:
    merged = merge_adapter(adapter, tmp_path / "merged")
    expected = stock_logits(TOKENS)
    with torch.inference_mode():
        assert not torch.allclose(expected, load_base()(TOKENS).logits, atol=1e-2)
    torch.testing.assert_close(merged_logits(tmp_path / "merged"), expected, rtol=1e-4, atol=1e-5)
    assert (merged.model_class, merged.dtype, merged.layers) == ("BertForSequenceClassification", "float32", 4)
    assert merged.rounding == {}
    assert merged.describe_rounding() == ""


def test_tokenizer_is_saved_beside_the_model(adapter: Path, tmp_path: Path) -> None:
    assert merge_adapter(adapter, tmp_path / "merged").processor
    assert AutoTokenizer.from_pretrained(tmp_path / "merged")("the film").input_ids == [2, 5, 6, 3]


def test_label_names_of_the_training_are_carried(adapter: Path, tmp_path: Path) -> None:
    (adapter / "fourierft.json").write_text(json.dumps({"format": 1, "labels": ["bad", "so-so", "good"]}))
    merge_adapter(adapter, tmp_path / "merged")
    config = json.loads((tmp_path / "merged" / "config.json").read_text())
    assert config["id2label"] == {"0": "bad", "1": "so-so", "2": "good"}


def test_bfloat16_says_what_rounding_lost(adapter: Path, load_base: Any, tmp_path: Path) -> None:
    merged = merge_adapter(adapter, tmp_path / "merged", dtype="bfloat16")
    weight = load_base(torch.bfloat16).get_submodule(QUERY).weight.detach().double()
    flat = torch.randperm(32 * 32, generator=torch.Generator().manual_seed(5))[:40]
    coefficients = load_file(adapter / "adapter_model.safetensors")[f"base_model.model.{QUERY}.fourierft_spectrum"]
    spectrum = torch.zeros(32 * 32, dtype=torch.float64).index_put((flat,), coefficients.double()).reshape(32, 32)
    delta = torch.fft.ifft2(spectrum).real * 25.0
    exact = weight + delta
    expected = float((exact.bfloat16().double() - exact).norm() / delta.norm())
    assert merged.rounding[QUERY] == pytest.approx(expected, rel=1e-3)
    assert set(merged.rounding) == set(read_checkpoint(adapter).coefficients)
    assert f"{max(merged.rounding.values()):.1%} in the worst" in merged.describe_rounding()
    saved = load_file(tmp_path / "merged" / "model.safetensors")
    assert {tensor.dtype for tensor in saved.values()} == {torch.bfloat16}
    torch.testing.assert_close(saved[f"{QUERY}.weight"].double(), exact, rtol=2**-8, atol=1e-6)


def test_update_that_rounding_swallows_is_measured_as_lost(edit_weights: Any, tmp_path: Path) -> None:
    path = edit_weights(lambda tensors: [t.mul_(1e-6) for key, t in tensors.items() if key.endswith("spectrum")])
    merged = merge_adapter(path, tmp_path / "merged", dtype="bfloat16")
    assert min(merged.rounding.values()) > 0.9


@pytest.mark.parametrize("kind", ["nf4", "int8", "torchao-int8"])
def test_quantised_base_gives_a_quantised_model_and_the_error(
    kind: str, adapter: Path, edit_weights: Any, tmp_path: Path
) -> None:
    edit_weights(lambda tensors: [t.mul_(20) for key, t in tensors.items() if key.endswith("spectrum")])
    exact = merge_adapter(adapter, tmp_path / "exact")
    merged = merge_adapter(adapter, tmp_path / "merged", quantization=kind)
    assert (merged.quantization, merged.layers, set(merged.rounding)) == (
        kind,
        4,
        set(read_checkpoint(adapter).coefficients),
    )
    assert merged.describe_rounding().startswith(f"quantising the sum ({kind}) erred by ")
    difference = merged_logits(tmp_path / "merged") - merged_logits(tmp_path / "exact")
    assert 0 < difference.norm() < (0.5 if kind == "nf4" else 0.1) * merged_logits(tmp_path / "exact").norm()
    again = merge_adapter(adapter, tmp_path / "again", base=str(tmp_path / "merged"))  # stored quantised
    assert again.quantization in ("bitsandbytes", "torchao")
    assert exact.quantization is None


@pytest.mark.parametrize(("kind", "library"), [("nf4", "bitsandbytes"), ("torchao-int8", "torchao")])
def test_quantised_base_without_the_library_names_the_extra(
    kind: str, library: str, adapter: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(MissingExtraError, match=rf"needs {library}; pip install 'fourierft\[quantized\]'"):
        merge_adapter(adapter, tmp_path / "merged", quantization=kind)
    assert not (tmp_path / "merged").exists()


def test_unknown_quantisation_is_refused(adapter: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="quantization=int3 is unknown; use one of nf4, int8, torchao-int8"):
        merge_adapter(adapter, tmp_path / "merged", quantization="int3")


def test_conv1d_is_merged_the_right_way_round(wrap: Any, tmp_path: Path) -> None:
    settings = GPT2Config(vocab_size=20, n_positions=8, n_embd=16, n_layer=1, n_head=2, bos_token_id=0, eos_token_id=0)
    base = GPT2LMHeadModel(settings)
    base.save_pretrained(tmp_path / "base")
    config = peft.FourierFTConfig(
        n_frequency=30, target_modules=["c_attn"], fan_in_fan_out=True, task_type="CAUSAL_LM", scaling=40.0
    )
    base.name_or_path = str(tmp_path / "base")
    model = wrap(base, config)
    model.save_pretrained(tmp_path / "adapter")
    tokens = torch.tensor([[1, 5, 9]])
    merged = merge_adapter(tmp_path / "adapter", tmp_path / "merged", base=str(tmp_path / "base"), dtype="float32")
    assert merged.model_class == "GPT2LMHeadModel"
    assert not merged.processor
    with torch.inference_mode():
        plain = GPT2LMHeadModel.from_pretrained(tmp_path / "merged").eval()
        torch.testing.assert_close(plain(tokens).logits, model(tokens).logits, rtol=1e-4, atol=1e-5)


@pytest.mark.filterwarnings("ignore:Input and output embeddings are no longer tied")
def test_embedding_is_merged_without_the_head_that_was_tied_to_it(wrap: Any, tmp_path: Path) -> None:
    settings = GPT2Config(vocab_size=20, n_positions=8, n_embd=16, n_layer=1, n_head=2, bos_token_id=0, eos_token_id=0)
    GPT2LMHeadModel(settings).save_pretrained(tmp_path / "base")
    with own_tuner():
        config = FourierFTConfig(
            n_frequency=30, target_modules=["c_attn", "wte"], task_type="CAUSAL_LM", scaling=40.0, init_weights=False
        )
        model = wrap(GPT2LMHeadModel.from_pretrained(tmp_path / "base"), config)
        model.save_pretrained(tmp_path / "adapter")
    tokens = torch.tensor([[1, 5, 9]])
    assert merge_adapter(tmp_path / "adapter", tmp_path / "merged").layers == 2
    assert inspect_adapter(tmp_path / "adapter").layers[1].shape == (20, 16)
    with torch.inference_mode():
        plain = GPT2LMHeadModel.from_pretrained(tmp_path / "merged").eval()
        torch.testing.assert_close(plain(tokens).logits, model(tokens).logits, rtol=1e-4, atol=1e-5)


def test_tuner_in_peft_is_the_same_after_a_merge(adapter: Path, tmp_path: Path) -> None:
    before = PEFT_TYPE_TO_TUNER_MAPPING[peft.PeftType.FOURIERFT]
    merge_adapter(adapter, tmp_path / "merged")
    assert PEFT_TYPE_TO_TUNER_MAPPING[peft.PeftType.FOURIERFT] is before


def test_empty_folder_may_stand_where_the_result_goes(adapter: Path, tmp_path: Path) -> None:
    (tmp_path / "merged").mkdir()
    merge_adapter(adapter, tmp_path / "merged")
    assert (tmp_path / "merged" / "model.safetensors").is_file()


def test_folder_that_holds_something_is_left_alone(adapter: Path, tmp_path: Path) -> None:
    (tmp_path / "merged").mkdir()
    (tmp_path / "merged" / "mine.txt").write_text("mine")
    with pytest.raises(OutputExistsError, match="is not an empty folder"):
        merge_adapter(adapter, tmp_path / "merged")
    assert [path.name for path in (tmp_path / "merged").iterdir()] == ["mine.txt"]


def test_merge_that_fails_leaves_nothing(adapter: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> bool:
        raise KeyboardInterrupt

    monkeypatch.setattr("fourierft.adapters.merge.save_processor", fail)
    with pytest.raises(KeyboardInterrupt):
        merge_adapter(adapter, tmp_path / "merged")
    assert [path.name for path in tmp_path.iterdir()] == ["adapter"]


def test_unknown_dtype_is_refused(adapter: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="dtype=int8 is unknown"):
        merge_adapter(adapter, tmp_path / "merged", dtype="int8")


def test_base_that_is_not_there_is_named(edit_config: Callable[..., Path], tmp_path: Path) -> None:
    adapter = edit_config(base_model_name_or_path=str(tmp_path / "gone"))
    with pytest.raises(CheckpointError, match="gone cannot be loaded"):
        merge_adapter(adapter, tmp_path / "merged")


def test_adapter_without_base_asks_for_one(edit_config: Callable[..., Path], tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="names no base model; give it with --model_name_or_path"):
        merge_adapter(edit_config(base_model_name_or_path=None), tmp_path / "merged")


def test_base_of_another_shape_is_refused(adapter: Path, tmp_path: Path) -> None:
    from transformers import BertConfig, BertModel

    other = BertConfig(vocab_size=24, hidden_size=8, num_hidden_layers=2, num_attention_heads=2, intermediate_size=8)
    BertModel(other).save_pretrained(tmp_path / "other")
    with pytest.raises((CheckpointError, ShapeError)):
        merge_adapter(adapter, tmp_path / "merged", base=str(tmp_path / "other"))
    assert not (tmp_path / "merged").exists()


def test_layer_that_the_base_has_not_is_named(edit_weights: Any, tmp_path: Path) -> None:
    def move(tensors: dict[str, torch.Tensor]) -> None:
        key = f"base_model.model.{QUERY}.fourierft_spectrum"
        tensors[key.replace("layer.0", "layer.9")] = tensors.pop(key)

    with pytest.raises(CheckpointError, match=r"has no layer bert\.encoder\.layer\.9"):
        merge_adapter(edit_weights(move), tmp_path / "merged")


def test_unknown_task_is_refused(edit_config: Callable[..., Path], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="task_type='DREAMING'"):
        merge_adapter(edit_config(task_type="DREAMING"), tmp_path / "merged")


def causal_logits(folder: Path) -> torch.Tensor:
    with torch.inference_mode():
        return AutoModelForCausalLM.from_pretrained(folder).eval()(torch.arange(3, 15).view(2, 6)).logits


@pytest.mark.filterwarnings("ignore:Setting `save_embedding_layers` to `True`")
@pytest.mark.parametrize("options", [{}, {"save_embedding_layers": True}, {"tokens": 41}], ids=["", "whole", "resized"])
@pytest.mark.parametrize("targets", [("lm_head",), ("embed_tokens",), ("lm_head", "embed_tokens")])
def test_head_and_embedding_part_in_the_merged_model(
    make_headed: Any, headed_logits: Any, tmp_path: Path, targets: tuple[str, ...], options: dict[str, Any]
) -> None:
    adapter = make_headed(targets=targets, **options)
    merge_adapter(adapter, tmp_path / "merged")
    torch.testing.assert_close(causal_logits(tmp_path / "merged"), headed_logits(adapter), rtol=1e-5, atol=1e-5)
    config = json.loads((tmp_path / "merged" / "config.json").read_text())
    assert not config["tie_word_embeddings"]
    assert config["vocab_size"] == options.get("tokens", 37)
    assert {"lm_head.weight", "model.embed_tokens.weight"} <= set(load_file(tmp_path / "merged" / "model.safetensors"))


@pytest.mark.filterwarnings("ignore:Setting `save_embedding_layers` to `True`")
def test_half_of_a_resized_vocabulary_is_refused(make_headed: Any, tied_llama: Path, tmp_path: Path) -> None:
    adapter = make_headed(tokens=41, targets=("lm_head",))
    untied = LlamaForCausalLM.from_pretrained(tied_llama, tie_word_embeddings=False)
    untied.save_pretrained(tmp_path / "untied")
    with pytest.raises(
        CheckpointError, match=r"lm_head\.weight for a vocabulary of 41, but the base has 37, and the adapter's"
    ):
        merge_adapter(adapter, tmp_path / "merged", base=str(tmp_path / "untied"))
    assert not (tmp_path / "merged").exists()


def test_trained_biases_are_merged(adapter: Path, tiny_bert: Path, tmp_path: Path) -> None:
    model = AutoModelForSequenceClassification.from_pretrained(tiny_bert, num_labels=3)
    config = peft.FourierFTConfig(n_frequency=20, target_modules=["query"], bias="all", task_type="SEQ_CLS")
    adapted = peft.get_peft_model(model, config).eval()
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if name.endswith("bias"):
                parameter.normal_()
    adapted.base_model.model.name_or_path = str(tiny_bert)
    adapted.save_pretrained(str(tmp_path / "biased"))
    merge_adapter(tmp_path / "biased", tmp_path / "merged", base=str(tiny_bert))
    with torch.inference_mode():
        torch.testing.assert_close(merged_logits(tmp_path / "merged"), adapted(TOKENS).logits, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_fused_experts_are_merged(
    expert_adapter: Path, headed_logits: Callable[[Path], torch.Tensor], tmp_path: Path, dtype: str
) -> None:
    merged = merge_adapter(expert_adapter, tmp_path / "merged", dtype=dtype)
    close: dict[str, Any] = {"rtol": 1e-4, "atol": 1e-5} if dtype == "float32" else {"rtol": 0.1, "atol": 0.05}
    found = causal_logits(tmp_path / "merged").float()
    torch.testing.assert_close(found, headed_logits(expert_adapter), **close)
    place = "model.layers.0.mlp.experts"
    assert merged.layers == 3
    assert (f"{place}.down_proj" in merged.rounding) == (dtype == "bfloat16")


def test_experts_of_another_number_are_refused(expert_adapter: Path, tmp_path: Path) -> None:
    config = AutoConfig.from_pretrained(tmp_path / "mixtral", num_local_experts=6)
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path / "six")
    with pytest.raises(ShapeError, match=r"down_proj is \[6, 16, 24\] in the base .*six, but the adapter has coeffici"):
        merge_adapter(expert_adapter, tmp_path / "merged", base=str(tmp_path / "six"), allow_other_base=True)
