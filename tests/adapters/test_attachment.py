"""An adapter meets a base in memory: what does not fit is refused, and no pattern of its files is run."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForSequenceClassification, BertConfig

import fourierft
from fourierft.adapters.attachment import attach
from fourierft.errors import CheckpointError, ShapeError
from fourierft.format.checkpoint import read_checkpoint
from fourierft.format.identity import identify_base
from fourierft.format.record import made_for, with_record

BOMB = "(" + "a|" * 40 + "a)*" + "(.*.*)*" * 6 + "query_"


@pytest.fixture(autouse=True)
def enabled() -> Iterator[None]:
    fourierft.enable()
    yield
    fourierft.disable()


@pytest.fixture
def tokens() -> torch.Tensor:
    return torch.randint(4, 20, (3, 7), generator=torch.Generator().manual_seed(1))


def logits(model: Any, tokens: torch.Tensor) -> torch.Tensor:
    with torch.inference_mode():
        return model.eval()(tokens).logits


def test_the_model_is_that_of_stock_peft(
    adapter: Path, load_base: Callable[..., Any], stock_logits: Callable[..., torch.Tensor], tokens: torch.Tensor
) -> None:
    fourierft.disable()
    expected = stock_logits(tokens)
    fourierft.enable()
    found = logits(attach(load_base(), read_checkpoint(adapter)), tokens)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("field", ["target_modules", "exclude_modules", "layers_pattern"])
def test_no_pattern_of_the_files_is_run(
    edit_config: Callable[..., Path], load_base: Callable[..., Any], tokens: torch.Tensor, field: str
) -> None:
    expected = logits(attach(load_base(), read_checkpoint(edit_config())), tokens)
    path = edit_config(**{field: BOMB, "layers_to_transform": [0] if field == "layers_pattern" else None})
    start = time.thread_time()  # its own, which others' work does not lengthen
    found = logits(attach(load_base(), read_checkpoint(path)), tokens)
    assert time.thread_time() - start < 5
    assert torch.equal(found, expected)


def test_layers_keep_their_own_counts(
    edit_config: Callable[..., Path], edit_weights: Any, load_base: Callable[..., Any]
) -> None:
    key = "base_model.model.bert.encoder.layer.0.attention.self.query.fourierft_spectrum"
    edit_weights(lambda tensors: tensors.update({key: tensors[key][:30].clone()}))
    model = attach(load_base(), read_checkpoint(edit_config(n_frequency_pattern={r"layer\.0\..*query": 30})))
    layers = {name: m for name, m in model.get_base_model().named_modules() if hasattr(m, "fourierft_basis")}
    counts = {name: layer.fourierft_basis["default"].n_frequency for name, layer in layers.items()}
    assert len(counts) == 4
    assert [name for name, n in counts.items() if n != 40] == ["bert.encoder.layer.0.attention.self.query"]


def test_another_base_is_refused_unless_it_is_allowed(
    adapter: Path, load_base: Callable[..., Any], tmp_path: Path, tokens: torch.Tensor
) -> None:
    load_base().save_pretrained(tmp_path / "base")
    torch.manual_seed(5)
    other = AutoModelForSequenceClassification.from_config(BertConfig.from_pretrained(tmp_path / "base"))
    other.save_pretrained(tmp_path / "other")
    base, file = identify_base(str(tmp_path / "base")), adapter / "adapter_config.json"
    content = with_record(json.loads(file.read_text()), file, digest=base.digest, signs=base.signs)
    file.write_text(json.dumps(content))
    checkpoint = read_checkpoint(adapter)

    def load(name: str) -> Any:
        return AutoModelForSequenceClassification.from_pretrained(tmp_path / name)

    with pytest.raises(CheckpointError, match=r"was made for the base .* but .*other .* is another model"):
        attach(load("other"), checkpoint)
    assert not torch.equal(logits(attach(load("other"), checkpoint, True), tokens), logits(load("other"), tokens))
    attach(load("base"), checkpoint)
    attach(load("base").bfloat16(), checkpoint)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"hidden_size": 48}, r"query is 48 x 48 in the base .*, but the adapter was made for 32 x 32"),
        ({"num_hidden_layers": 1}, r"has no layer bert\.encoder\.layer\.1\.attention\.self\.query"),
        ({"num_labels": 2}, r"classifier\.(weight|bias) has the shape \[3"),
    ],
)
def test_a_base_of_other_shapes_is_refused(
    adapter: Path, tiny_bert: Path, change: dict[str, Any], message: str
) -> None:
    file = adapter / "adapter_config.json"
    names = read_checkpoint(adapter).coefficients
    content = with_record(json.loads(file.read_text()), file, **made_for(dict.fromkeys(names, (32, 32))))
    del content["modules_to_save"]
    file.write_text(json.dumps(content))
    config = BertConfig.from_pretrained(tiny_bert, **{"num_labels": 3} | change)
    checkpoint = read_checkpoint(adapter)
    if "hidden_size" in change:
        checkpoint.saved_modules.clear()
    with pytest.raises((CheckpointError, ShapeError), match=message):
        attach(AutoModelForSequenceClassification.from_config(config), checkpoint)
