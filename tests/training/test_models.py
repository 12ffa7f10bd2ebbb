"""Base models get a head for the task, and what is new in them is known."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    BertConfig,
    BertForSequenceClassification,
    BloomConfig,
    GPT2Config,
    LlamaConfig,
    MambaConfig,
    MptConfig,
    T5Config,
    T5ForConditionalGeneration,
)
from transformers.tokenization_utils_base import VERY_LARGE_INTEGER

from fourierft.errors import CheckpointError, ConfigError
from fourierft.training.arguments import MethodArguments, ModelArguments
from fourierft.training.families.answers import Answers
from fourierft.training.families.classes import Classification
from fourierft.training.families.regression import Regression
from fourierft.training.methods import attach
from fourierft.training.models import context_length, load_model, load_tokenizer, longest_text

TASK = Classification(("bad", "fair", "good"))
START: dict[str, Any] = {"decoder_start_token_id": 0}
LENGTH: dict[str, Any] = {"seq_length": 2048}


def arguments(path: Path, **settings: str) -> ModelArguments:
    return ModelArguments(model_name_or_path=str(path), **settings)  # type: ignore[arg-type]


def test_head_is_new_and_the_body_is_the_file_s(tiny_bert: Path) -> None:
    base = load_model(arguments(tiny_bert), TASK, seed=1)
    assert base.heads == ("classifier",)
    assert base.model.config.id2label == {0: "bad", 1: "fair", 2: "good"}
    stored = load_file(tiny_bert / "model.safetensors")
    loaded = base.model.bert.state_dict()
    assert all(torch.equal(loaded[key], stored[key]) for key in stored)


def test_head_is_drawn_from_the_seed(tiny_bert: Path) -> None:
    models: list[Any] = [load_model(arguments(tiny_bert), TASK, seed).model for seed in (1, 1, 2)]
    first, again, other = models
    assert torch.equal(first.classifier.weight, again.classifier.weight)
    assert not torch.equal(first.classifier.weight, other.classifier.weight)


def test_pooler_without_pretrained_weights_counts_as_head(tiny_bert: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(tiny_bert, tmp_path / "copy")
    stored = load_file(copy / "model.safetensors")
    kept = {key: tensor for key, tensor in stored.items() if "pooler" not in key}
    save_file(kept, copy / "model.safetensors", metadata={"format": "pt"})
    assert load_model(arguments(copy), TASK, seed=1).heads == ("bert.pooler.dense", "classifier")


def test_head_of_another_task_is_replaced(tiny_bert: Path, tmp_path: Path) -> None:
    config = BertConfig.from_pretrained(tiny_bert, num_labels=5)
    BertForSequenceClassification(config).save_pretrained(tmp_path / "five")
    model = load_model(arguments(tmp_path / "five"), Regression(), seed=1).model
    assert model.classifier.weight.shape == (1, 32)
    assert model.config.problem_type == "regression"


def test_weights_of_another_architecture_are_refused(tiny_bert: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(tiny_bert, tmp_path / "copy")
    stored = load_file(copy / "model.safetensors")
    renamed = {f"other.{key}": tensor for key, tensor in stored.items()}
    save_file(renamed, copy / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match="are not those of a BertForSequenceClassification"):
        load_model(arguments(copy), TASK, seed=1)


def test_truncated_weights_are_refused_in_one_line(tiny_bert: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(tiny_bert, tmp_path / "copy")
    (copy / "model.safetensors").write_bytes((copy / "model.safetensors").read_bytes()[:-100])
    with pytest.raises(CheckpointError, match="damaged") as caught:
        load_model(arguments(copy), TASK, seed=1)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["nobody/no-such-model", "no/such/path", "bert"])
def test_model_that_is_not_there_is_refused_in_one_line(name: str) -> None:
    with pytest.raises(ConfigError, match="give a local directory, or a hub id while there is a connection") as caught:
        load_model(ModelArguments(model_name_or_path=name), TASK, seed=1)
    assert "\n" not in str(caught.value)


def test_encoder_and_decoder_are_no_model_of_answers(tmp_path: Path) -> None:
    """transformers' own error lists all the classes that it knows."""
    config = T5Config(d_model=8, num_layers=1, num_heads=2, d_ff=8, d_kv=4, vocab_size=20, **START)
    T5ForConditionalGeneration(config).save_pretrained(tmp_path)
    refused = (
        "AutoModelForCausalLM of transformers can load.*encoder-decoder models, such as T5, cannot be trained here"
    )
    with pytest.raises(ConfigError, match=refused) as told:
        load_model(arguments(tmp_path), Answers(), 0)
    assert "\n" not in str(told.value)


def test_dtype_of_the_base_is_the_one_wanted(tiny_bert: Path) -> None:
    assert load_model(arguments(tiny_bert, dtype="bfloat16"), TASK, seed=1).model.dtype == torch.bfloat16


def test_tokenizer_without_padding_pads_with_its_end(tiny_bert: Path, tmp_path: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny_bert)
    tokenizer.pad_token = None
    tokenizer.save_pretrained(tmp_path / "bare")
    with pytest.raises(ConfigError, match="neither a padding nor an end token"):
        load_tokenizer(arguments(tmp_path / "bare"))
    tokenizer.eos_token = "[SEP]"
    tokenizer.save_pretrained(tmp_path / "ending")
    assert load_tokenizer(arguments(tmp_path / "ending")).pad_token == "[SEP]"


def test_texts_are_as_long_as_the_model_takes(tiny_bert: Path) -> None:
    model, tokenizer = load_model(arguments(tiny_bert), TASK, seed=1).model, load_tokenizer(arguments(tiny_bert))
    assert longest_text(model, tokenizer, None) == 32
    assert longest_text(model, tokenizer, 8) == 8
    with pytest.raises(ConfigError, match="max_length=33 is not between 1 and the 32 tokens"):
        longest_text(model, tokenizer, 33)


def test_the_revision_of_a_base_on_the_hub_goes_into_the_adapter(tiny_bert: Path) -> None:
    class Hub(AutoModelForSequenceClassification):  # a hub whose one model is tiny_bert
        @classmethod
        def from_pretrained(cls, *name: Any, **options: Any) -> Any:
            asked.append((*name, options.pop("revision")))
            return AutoModelForSequenceClassification.from_pretrained(tiny_bert, **options)

    asked: list[tuple[str, str]] = []
    family = type("OfTheHub", (Classification,), {"model_class": Hub})(TASK.labels)
    for revision, kept in (("v2", "v2"), ("main", None)):
        given = ModelArguments(model_name_or_path="someone/bert", model_revision=revision)
        base = load_model(given, family, 0)
        trainable: Any = attach(base, MethodArguments(n_frequency=5))
        assert trainable.model.peft_config["default"].revision == kept
    assert asked == [("someone/bert", "v2"), ("someone/bert", "main")]
    assert load_model(arguments(tiny_bert, model_revision="v2"), TASK, 0).revision is None  # of a folder


def test_a_tokenizer_of_another_name_has_not_the_revision_of_the_model(
    tiny_bert: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    real = AutoTokenizer.from_pretrained

    def load(name: str, revision: str | None, **options: Any) -> Any:
        asked.append(revision)
        return real(tiny_bert, **options)

    monkeypatch.setattr(AutoTokenizer, "from_pretrained", load)
    load_tokenizer(ModelArguments(model_name_or_path="a/b", model_revision="v2"))
    load_tokenizer(ModelArguments(model_name_or_path="a/b", model_revision="v2", tokenizer_name="c/d"))
    assert asked == ["v2", None]


@pytest.mark.parametrize(
    ("config", "told", "limit"),
    [
        (MambaConfig(), VERY_LARGE_INTEGER, VERY_LARGE_INTEGER),
        (MambaConfig(), 4096, 4096),
        (MptConfig(max_seq_len=2048), VERY_LARGE_INTEGER, 2048),
        (BloomConfig(**LENGTH), VERY_LARGE_INTEGER, 2048),
        (GPT2Config(n_positions=1024), VERY_LARGE_INTEGER, 1024),
        (LlamaConfig(max_position_embeddings=8192), 4096, 4096),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_model_takes_as_many_tokens_as_it_says_by_whatever_name(config: Any, told: int, limit: int) -> None:
    model: Any = SimpleNamespace(config=config)
    tokenizer: Any = SimpleNamespace(model_max_length=told)
    assert context_length(model, tokenizer) == limit
    assert longest_text(model, tokenizer, None) == 512
    assert longest_text(model, tokenizer, 1024) == 1024
