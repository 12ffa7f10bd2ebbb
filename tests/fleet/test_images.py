"""Adapters of images want the size that they were trained on; the model itself takes any."""

from __future__ import annotations

import json
from pathlib import Path

import peft
import pytest
import torch
from transformers import AutoImageProcessor, AutoModelForImageClassification

from fourierft.errors import ConfigError
from fourierft.fleet import BASE, AdapterBank, FleetModel
from fourierft.fleet.images import read_size


def test_the_size_is_that_of_what_a_processor_makes(tiny_dinov2: Path) -> None:
    processor = AutoImageProcessor.from_pretrained(tiny_dinov2, backend="pil")
    made = processor(torch.zeros(3, 40, 50, dtype=torch.uint8), return_tensors="pt")["pixel_values"]
    assert read_size(json.dumps({"processor": json.loads(processor.to_json_string())})) == tuple(made.shape[-2:])
    assert read_size(json.dumps({"processor": {"size": {"height": 14, "width": 21}}})) == (14, 21)
    assert read_size(json.dumps({"processor": {"size": {"shortest_edge": 14}}})) is None
    assert read_size(json.dumps({"tokenizer": None})) is read_size(None) is None


def test_images_of_another_size_are_refused_and_name_the_adapter(tiny_dinov2: Path, tmp_path: Path) -> None:
    base = AutoModelForImageClassification.from_pretrained(tiny_dinov2, num_labels=2)
    config = peft.FourierFTConfig(n_frequency=20, target_modules=["q_proj"])
    peft.get_peft_model(base, config).save_pretrained(str(tmp_path / "a"))
    (tmp_path / "a" / "fourierft.json").write_text(json.dumps({"processor": {"size": {"height": 28, "width": 28}}}))
    bank = AdapterBank()
    bank.add("a", tmp_path / "a")
    model = FleetModel(AutoModelForImageClassification.from_pretrained(tiny_dinov2, num_labels=2), bank)
    right, wrong = torch.rand(2, 3, 28, 28), torch.rand(2, 3, 56, 56)
    assert model(right, names=["a", BASE]).logits.shape == (2, 2)
    message = r"'a' was trained on images of 28 x 28 pixels, but these have 56 x 56; prepare them with"
    with pytest.raises(ConfigError, match=message):
        model(wrong, names=["a", BASE])
    with pytest.raises(ConfigError, match=message):
        model(pixel_values=wrong, names=["a", "a"])
    assert model(wrong, names=[BASE, BASE]).logits.shape == (2, 2)
