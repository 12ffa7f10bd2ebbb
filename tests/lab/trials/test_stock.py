"""Settings for stock PEFT: trained by PEFT's own classes, this package's left out; scaling and table by hand."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import peft
import pytest
from peft.tuners.fourierft.layer import FourierFTLinear
from transformers import LlamaConfig, LlamaForCausalLM

import fourierft
from fourierft.errors import DataError
from fourierft.training.comparison.grid import run_tasks
from fourierft.tuner.scaling import auto_scaling
from lab.trials import stock

SETTINGS = [
    stock.Setting("listed", "fourierft:24,scaling=300,init_weights=false", 1e-4),
    stock.Setting("ours", "fourierft:24,layers=all,scaling=2000,init_weights=true", 1e-3),
]


def test_adapters_are_those_of_peft_even_when_this_package_is_enabled() -> None:
    with stock.stock_classes():
        fourierft.enable()
        config = peft.PeftConfig.from_peft_type(peft_type="FOURIERFT", n_frequency=8, target_modules=["0"])
        model = peft.get_peft_model(torch_model(), config)
        assert type(config) is peft.FourierFTConfig
        assert type(model.base_model.model[0]) is FourierFTLinear
    assert type(peft.PeftConfig.from_peft_type(peft_type="FOURIERFT")) is fourierft.FourierFTConfig


def torch_model() -> Any:
    import torch

    return torch.nn.Sequential(torch.nn.Linear(8, 4))


def test_settings_train_with_stock_classes_and_leave_their_rows(
    write_task: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_task(stock.TASK, layers={"all": ["query", "key", "value"]})
    monkeypatch.setattr(stock, "COMPARISONS", tmp_path)
    file = tmp_path / "stock.jsonl"
    with stock.stock_classes():
        run_tasks(stock.tasks(SETTINGS), file, stamp={"classes": "peft"})
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    assert [(row["learning_rate"], row["parameters"]["adapter"]) for row in rows] == [(1e-4, 24 * 4), (1e-3, 24 * 6)]
    assert [row["config"]["init_weights"] for row in rows] == [False, True]
    assert all(row["score"] is not None for row in rows)


def test_one_scaling_is_the_geometric_mean_over_all_layers_but_the_head(tmp_path: Path) -> None:
    sizes: dict[str, Any] = {
        "hidden_size": 16,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
    }
    LlamaForCausalLM(LlamaConfig(vocab_size=20, num_key_value_heads=2, **sizes)).save_pretrained(tmp_path)
    block = [(16, 16), (8, 16), (8, 16), (16, 16), (64, 16), (64, 16), (16, 64)]
    product = math.prod(auto_scaling(*shape, 40) for shape in block)
    assert stock.mean_scaling(stock.empty_model(tmp_path), 40) == pytest.approx(product ** (1 / 7))


def test_table_sets_the_fall_beside_that_of_lora() -> None:
    compared = [
        {"method": "head", "learning_rate": 0.0, "score": 1.8},
        {"method": "lora:8,layers=all", "learning_rate": 1e-3, "score": 1.6},
        {"method": "lora:8,layers=all", "learning_rate": 3e-3, "score": 1.7},
        {"method": "lora:8,layers=all", "learning_rate": 1e-2, "score": None},
    ]
    rows = [{"method": SETTINGS[0].spec, "learning_rate": 1e-4, "score": 1.79}]
    assert stock.table_rows(SETTINGS, rows, compared)[1:] == [
        ("untrained", "-", "-", "1.800", "-"),
        ("listed", "query and value", "0.0001", "1.790", "5%"),
    ]
    rows.append({"method": SETTINGS[1].spec, "learning_rate": 1e-3, "score": None})
    assert stock.table_rows(SETTINGS, rows, compared)[3] == ("ours", "all linear", "0.001", "diverged", "-")
    with pytest.raises(DataError, match="has no run of head or of lora:8"):
        stock.table_rows(SETTINGS, rows, compared[:1])
