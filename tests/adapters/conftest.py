"""Adapters made by stock PEFT on a tiny model: truth that owes nothing to this package."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForSequenceClassification, PreTrainedModel


@contextmanager
def peft_quiet() -> Iterator[None]:
    """PEFT itself uses what transformers has deprecated."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="`is_gradient_checkpointing`", category=FutureWarning)
        yield


@pytest.fixture
def load_base(tiny_bert: Path) -> Callable[..., PreTrainedModel]:
    """Loads the tiny model with a head of three classes."""

    def load(dtype: torch.dtype = torch.float32) -> PreTrainedModel:
        return AutoModelForSequenceClassification.from_pretrained(tiny_bert, num_labels=3, dtype=dtype).eval()

    return load


@pytest.fixture
def wrap() -> Callable[[PreTrainedModel, peft.PeftConfig], peft.PeftModel]:
    """Puts a stock PEFT adapter on a model."""

    def wrap(model: PreTrainedModel, config: peft.PeftConfig) -> peft.PeftModel:
        with peft_quiet():
            return peft.get_peft_model(model, config).eval()

    return wrap


@pytest.fixture
def stock_logits(load_base: Callable[..., PreTrainedModel], adapter: Path) -> Callable[..., torch.Tensor]:
    """What stock PEFT's forward gives with the adapter beside the base, unmerged."""

    def compute(tokens: torch.Tensor) -> torch.Tensor:
        with peft_quiet(), torch.inference_mode():
            return peft.PeftModel.from_pretrained(load_base(), adapter).eval()(tokens).logits

    return compute


@pytest.fixture
def adapter(load_base: Callable[..., PreTrainedModel], wrap: Any, tmp_path: Path) -> Path:
    """A stock PEFT adapter of 40 normal coefficients on query and value, 2 layers of 32 x 32 each, with its head."""
    config = peft.FourierFTConfig(
        n_frequency=40, scaling=25.0, random_loc_seed=5, target_modules=["query", "value"], task_type="SEQ_CLS"
    )
    wrap(load_base(), config).save_pretrained(tmp_path / "adapter")
    return tmp_path / "adapter"


@pytest.fixture
def edit_config(adapter: Path) -> Callable[..., Path]:
    """Change fields of the adapter's config on disk."""

    def edit(**fields: Any) -> Path:
        file = adapter / "adapter_config.json"
        file.write_text(json.dumps({**json.loads(file.read_text()), **fields}))
        return adapter

    return edit


@pytest.fixture
def edit_weights(adapter: Path) -> Callable[[Callable[[dict[str, torch.Tensor]], None]], Path]:
    """Change the tensors of the adapter's weights file."""

    def edit(change: Callable[[dict[str, torch.Tensor]], None]) -> Path:
        tensors = load_file(adapter / "adapter_model.safetensors")
        change(tensors)
        save_file(tensors, adapter / "adapter_model.safetensors")
        return adapter

    return edit
