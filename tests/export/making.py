"""Adapters of stock PEFT to export, and what they answer there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import peft
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

TEXTS = ["the film is good", "a book was quite dull but fine", "awful", "so very lovely film"]


def make_adapter(base: Path, folder: Path, seed: int, **settings: Any) -> Path:
    """A stock PEFT adapter of normal coefficients and a head, both drawn from a seed."""
    torch.manual_seed(seed)
    model = AutoModelForSequenceClassification.from_pretrained(base, num_labels=3)
    given = {"n_frequency": 40, "scaling": 25.0, "target_modules": ["query", "value", "dense"], "task_type": "SEQ_CLS"}
    config = peft.FourierFTConfig(**{**given, **settings})
    peft.get_peft_model(model, config).save_pretrained(str(folder))
    return folder


def stock_logits(base: Path, adapter: Path, texts: list[str]) -> np.ndarray:
    model = AutoModelForSequenceClassification.from_pretrained(base, num_labels=3)
    batch = AutoTokenizer.from_pretrained(base)(texts, padding=True, return_tensors="pt")
    with torch.inference_mode():
        return peft.PeftModel.from_pretrained(model, adapter).eval()(**batch).logits.numpy()
