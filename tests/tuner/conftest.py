"""Small models, and the switch between this package's tuner and stock PEFT's."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import pytest
import torch
from torch import nn
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
)

from fourierft.tuner import disable, enable


class Mlp(nn.Module):
    """Layers of three shapes: square, tall and wide."""

    def __init__(self) -> None:
        super().__init__()
        self.square = nn.Linear(16, 16)
        self.tall = nn.Linear(16, 24, bias=False)
        self.wide = nn.Linear(24, 10)
        self.head = nn.Linear(10, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x [..., 16] to [..., 3]."""
        return self.head(torch.tanh(self.wide(torch.tanh(self.tall(torch.tanh(self.square(x)))))))


@pytest.fixture(autouse=True)
def enabled() -> Iterator[None]:
    """Run each test with this package's tuner in place, and leave stock PEFT's behind."""
    enable()
    yield
    disable()


@pytest.fixture
def stock() -> Callable[[], AbstractContextManager[None]]:
    """A context in which stock PEFT's tuner is in place."""

    @contextmanager
    def in_place() -> Iterator[None]:
        disable()
        try:
            yield
        finally:
            enable()

    return in_place


@pytest.fixture
def make_mlp() -> Callable[[], Mlp]:
    """The same `Mlp` at every call."""

    def make() -> Mlp:
        torch.manual_seed(0)
        return Mlp()

    return make


@pytest.fixture
def make_bert() -> Callable[[], BertForSequenceClassification]:
    """The same small BERT classifier at every call, in evaluation mode."""

    def make() -> BertForSequenceClassification:
        torch.manual_seed(0)
        config = BertConfig(
            hidden_size=32,
            intermediate_size=48,
            num_hidden_layers=2,
            num_attention_heads=2,
            vocab_size=60,
            num_labels=3,
        )
        return BertForSequenceClassification(config).eval()

    return make


@pytest.fixture
def make_llama() -> Callable[[], LlamaForCausalLM]:
    """The same small LLaMA with fewer key and value heads, so that its v is wide, in evaluation mode."""

    def make() -> LlamaForCausalLM:
        torch.manual_seed(0)
        config = LlamaConfig(
            hidden_size=32,
            intermediate_size=48,
            num_hidden_layers=3,
            num_attention_heads=4,
            num_key_value_heads=2,
            vocab_size=60,
            bos_token_id=1,
            eos_token_id=2,
            pad_token_id=0,
        )
        return LlamaForCausalLM(config).eval()

    return make


@pytest.fixture
def make_gpt2() -> Callable[[], GPT2LMHeadModel]:
    """The same small GPT-2, whose layers are `Conv1D`, at every call, in evaluation mode."""

    def make() -> GPT2LMHeadModel:
        torch.manual_seed(0)
        config = GPT2Config(
            n_embd=32, n_layer=2, n_head=2, vocab_size=60, n_positions=32, bos_token_id=1, eos_token_id=2
        )
        return GPT2LMHeadModel(config).eval()

    return make


@pytest.fixture
def randomise() -> Callable[[nn.Module, str], None]:
    """Fill an adapter's coefficients from N(0, 1), the same for equal models."""

    def fill(model: nn.Module, adapter_name: str = "default") -> None:
        generator = torch.Generator().manual_seed(sum(adapter_name.encode()))
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if name.endswith(f"fourierft_spectrum.{adapter_name}"):
                    parameter.copy_(torch.randn(parameter.shape, generator=generator))

    return fill
