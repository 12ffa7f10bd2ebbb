"""What stock PEFT makes of an adapter: truth that owes nothing to this package."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import peft
import pytest
import torch
from transformers import PreTrainedModel


@pytest.fixture
def stock_logits(load_base: Callable[..., PreTrainedModel], adapter: Path) -> Callable[..., torch.Tensor]:
    """What stock PEFT's forward gives with the adapter beside the base, unmerged."""

    def compute(tokens: torch.Tensor) -> torch.Tensor:
        with torch.inference_mode():
            return peft.PeftModel.from_pretrained(load_base(), adapter).eval()(tokens).logits

    return compute
