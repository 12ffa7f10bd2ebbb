"""The settings for PEFT's own comparison, read by PEFT's own classes."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import peft
from peft import PeftConfig, get_peft_model
from transformers import LlamaConfig, LlamaForCausalLM

import fourierft
from fourierft.tuner.scaling import auto_scaling

FOLDER = Path(__file__).parents[2] / "recipes" / "peft-comparison" / "llama-3.2-3B-n_frequency-340-all-linear"
WIDTH, INNER, KEYS = 3072, 8192, 1024  # of Llama-3.2-3B
SHAPES = [(WIDTH, WIDTH)] * 2 + [(KEYS, WIDTH)] * 2 + [(INNER, WIDTH)] * 2 + [(WIDTH, INNER)]


def test_stock_peft_reads_the_settings_and_starts_from_zero() -> None:
    fourierft.disable()
    config = PeftConfig.from_pretrained(str(FOLDER))
    assert type(config) is peft.FourierFTConfig
    sizes: dict[str, Any] = {"hidden_size": 32, "intermediate_size": 64, "vocab_size": 10, "num_hidden_layers": 2}
    model = get_peft_model(LlamaForCausalLM(LlamaConfig(num_attention_heads=4, **sizes)), config)
    trained = [p for p in model.parameters() if p.requires_grad]
    assert [p.numel() for p in trained] == [340] * 2 * len(SHAPES)
    assert not any(p.any() for p in trained)


def test_the_one_scaling_is_the_mean_of_the_rule_over_the_layers() -> None:
    saved = json.loads((FOLDER / "adapter_config.json").read_text())
    each = [auto_scaling(*shape, saved["n_frequency"], WIDTH) for shape in SHAPES]
    mean = math.exp(sum(map(math.log, each)) / len(each))
    assert abs(saved["scaling"] / mean - 1) < 0.05
    assert json.loads((FOLDER / "training_params.json").read_text()) == {"optimizer_kwargs": {"lr": 5e-4}}
