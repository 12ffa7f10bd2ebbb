"""Models that may hand tokens on before rows."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from transformers import BertConfig, BertModel, LlamaConfig, LlamaForCausalLM

from fourierft.rows.turned import may_turn

SIZES: dict[str, Any] = {
    "vocab_size": 37,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
}


class Turning(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.transpose(0, 1)


class Permuting(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.permute(1, 0, 2)


class Steady(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.transpose(1, 2).transpose(0, 2)  # and not x.transpose(0, 1)


class Heir(Turning):
    pass


@pytest.mark.parametrize("part", [Turning, Permuting, Heir])
def test_a_source_that_exchanges_the_first_two_dimensions_may(part: type[nn.Module]) -> None:
    assert may_turn(nn.Sequential(nn.Linear(2, 2), part()))


def test_a_part_may_say_so_itself() -> None:
    assert may_turn(nn.Sequential(nn.MultiheadAttention(4, 2)))
    assert may_turn(nn.Sequential(nn.LSTM(4, 4)))
    assert not may_turn(nn.Sequential(nn.MultiheadAttention(4, 2, batch_first=True), nn.LSTM(4, 4, batch_first=True)))


def test_usual_models_do_not() -> None:
    assert not may_turn(Steady())
    assert not may_turn(LlamaForCausalLM(LlamaConfig(**SIZES, pad_token_id=0)))
    assert not may_turn(BertModel(BertConfig(**SIZES)))
