"""A base is known by the signs of its weights: its copies have them, other models do not."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, BertModel, LlamaForCausalLM

from fourierft.errors import CheckpointError
from fourierft.format.hub import find_near, offline_if_unreachable
from fourierft.format.identity import BaseIdentity, check_same_base, identify_base
from fourierft.format.signs import read_signs, same_signs


@pytest.fixture
def save(tiny_bert: Path, tmp_path: Path) -> Callable[..., BaseIdentity]:
    """Saves a copy of tiny_bert, changed, and identifies it."""

    def save(change: Callable[[Any], Any] = lambda model: model, kind: Any = BertModel, **options: Any) -> BaseIdentity:
        model = kind.from_pretrained(tiny_bert, dtype=options.pop("dtype", torch.float32))
        shutil.rmtree(tmp_path / "copy", ignore_errors=True)
        (change(model) or model).save_pretrained(tmp_path / "copy", **options)
        return identify_base(str(tmp_path / "copy"))

    return save


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64, torch.float32])
def test_a_cast_copy_is_the_base(save: Callable[..., BaseIdentity], tiny_bert: Path, dtype: torch.dtype) -> None:
    base, copy = identify_base(str(tiny_bert)), save(dtype=dtype)
    assert base.is_same(copy)
    assert copy.is_same(base)


def test_a_copy_in_parts_with_a_head_or_with_more_words_is_the_base(
    save: Callable[..., BaseIdentity], tiny_bert: Path
) -> None:
    base = identify_base(str(tiny_bert))
    assert base.is_same(save(max_shard_size="20KB"))
    assert base.is_same(save(kind=AutoModelForSequenceClassification))
    assert base.is_same(save(lambda model: model.resize_token_embeddings(40) and None))


def test_a_fine_tuned_sibling_is_another_base(save: Callable[..., BaseIdentity], tiny_bert: Path) -> None:
    def train(model: Any) -> None:
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(1e-3 * torch.randn_like(parameter))  # weights are of the size 0.3

    sibling = save(train)
    assert not identify_base(str(tiny_bert)).is_same(sibling)
    with pytest.raises(CheckpointError, match=r"runs/a was made for the base .* is another model; give the right base"):
        check_same_base(identify_base(str(tiny_bert)), sibling, "runs/a")


def test_one_layer_that_was_merged_into_makes_another_base(save: Callable[..., BaseIdentity], tiny_bert: Path) -> None:
    def merge(model: Any) -> None:
        with torch.no_grad():
            model.encoder.layer[1].attention.self.query.weight.add_(0.02 * torch.randn(32, 32))

    assert not identify_base(str(tiny_bert)).is_same(save(merge))


@pytest.mark.parametrize("kind", ["nf4", "int8", "torchao-int8"])
def test_a_quantised_copy_is_the_base_and_not_another(kind: str, tmp_path: Path) -> None:
    from transformers import LlamaConfig

    from fourierft.adapters.quantization import quantization_settings

    config = LlamaConfig(
        vocab_size=64,
        hidden_size=64,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=4,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
    )
    for name in ("base", "other"):
        LlamaForCausalLM(config).save_pretrained(tmp_path / name)
    quantised = AutoModelForCausalLM.from_pretrained(tmp_path / "base", **quantization_settings(kind))
    quantised.save_pretrained(tmp_path / "copy")
    base, other, copy = (identify_base(str(tmp_path / name)) for name in ("base", "other", "copy"))
    assert base.is_same(copy)
    assert not other.is_same(copy)
    assert copy.signs is not None
    assert copy.signs.endswith(":-")


def test_signs_are_the_same_of_what_both_have() -> None:
    assert same_signs("1:2", "1:2") is True
    assert same_signs("1:2", "1:3") is False
    assert same_signs("1:-", "1:3") is True
    assert same_signs("-:2", "1:-") is None


@pytest.mark.parametrize(
    "spoil",
    [
        lambda folder: (folder / "model.safetensors").write_bytes(b"\x10\0\0\0\0\0\0\0{}"),
        lambda folder: (folder / "model.safetensors").unlink(),
        lambda folder: (folder / "config.json").write_text("["),
        lambda folder: (folder / "model.safetensors").rename(folder / "pytorch_model.bin"),
        lambda folder: (
            (folder / "model.safetensors").unlink(),
            (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": [3]})),
        ),
    ],
)
def test_what_cannot_be_read_has_no_signs(spoil: Callable[[Path], Any], tiny_bert: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(tiny_bert, tmp_path / "base"))
    spoil(folder)
    assert read_signs(folder) is None
    assert identify_base(str(folder)).signs is None


def test_a_name_that_no_file_can_have_is_a_name_alone() -> None:
    for name in ("x" * 3000, "a\0b", "a/b\0", ""):
        assert identify_base(name).digest is None
        assert find_near(name) == ""
        with offline_if_unreachable(name):
            pass
