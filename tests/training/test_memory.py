"""The memory estimate: each part against real tensors, real optimizers and hand-counted cases."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM, TrainingArguments

from fourierft.training.memory import WEIGHT_BYTES, estimate_memory


def settings(**changes: Any) -> TrainingArguments:
    return TrainingArguments(use_cpu=True, **changes)


class Two(nn.Module):
    """Two linear layers without bias, 4 -> 6 -> 2, and a tanh between them."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(4, 6, bias=False), nn.Linear(6, 2, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.second(torch.tanh(self.first(x)))


def make(kind: type[nn.Module], *shape: int) -> tuple[nn.Module, dict[str, Tensor]]:
    with torch.device("meta"):
        return kind(), {"x": torch.empty(*shape)}


def test_parts_are_those_counted_by_hand() -> None:
    model, batch = make(Two, 3, 4)
    found = estimate_memory(model, batch, settings())
    weights = 4 * (4 * 6 + 6 * 2)
    activations = 4 * (3 * 4 + 3 * 6)  # the input, and the tanh's output, which is the second layer's input
    parts = {"weights": weights, "gradients": weights, "optimizer": 2 * weights, "activations": activations}
    assert found == {**parts, "together": 4 * weights + activations}


def test_frozen_layers_have_neither_gradients_nor_moments_nor_kept_inputs() -> None:
    model, batch = make(Two, 3, 4)
    model.first.requires_grad_(False)
    found = estimate_memory(model, batch, settings())
    assert (found["gradients"], found["optimizer"]) == (4 * 6 * 2, 2 * 4 * 6 * 2)
    assert found["activations"] == 4 * 3 * 6


@pytest.mark.parametrize("optim", ["adamw_torch", "sgd"])
def test_optimizer_state_is_that_of_the_real_optimizer(optim: str) -> None:
    model = Two()
    optimizer = {"adamw_torch": torch.optim.AdamW, "sgd": torch.optim.SGD}[optim](model.parameters(), lr=0.1)
    model(torch.randn(3, 4)).sum().backward()
    optimizer.step()
    states = [value for state in optimizer.state.values() for value in state.values()]
    real = sum(value.nbytes for value in states if isinstance(value, Tensor) and value.numel() > 1)
    assert estimate_memory(*make(Two, 3, 4), settings(optim=optim))["optimizer"] == real


def test_activations_are_those_a_real_forward_pass_keeps(tiny_llama: Path) -> None:
    real = AutoModelForCausalLM.from_pretrained(tiny_llama).train()
    tokens, kept = torch.randint(0, 20, (3, 11)), {}

    def keep(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        real(input_ids=tokens, labels=tokens)
    held = {parameter.data_ptr() for parameter in real.parameters()}
    expected = sum(t.untyped_storage().nbytes() for place, t in kept.items() if place not in held)
    with torch.device("meta"):
        model, ids = LlamaForCausalLM(real.config), torch.empty(3, 11, dtype=torch.long)
    batch = {"input_ids": ids, "labels": ids}
    found = estimate_memory(model, batch, settings())
    assert found["activations"] == expected
    again = estimate_memory(model, batch, settings(activation_checkpointing=True))
    assert again["activations"] == found["activations"] // 2 + 2 * (3 * 11 * 32 * 4)  # two blocks, 32 wide
    assert estimate_memory(model, batch, settings(bf16=True))["activations"] == found["activations"] // 2


def test_quantised_weights_weigh_what_bitsandbytes_makes_of_them() -> None:
    import bitsandbytes

    layer: Any = bitsandbytes.nn.Linear4bit(512, 512, bias=False, quant_type="nf4", compress_statistics=True).to("cpu")
    state = layer.weight.quant_state
    assert state is not None
    real = layer.weight.nbytes + state.absmax.nbytes + state.state2.absmax.nbytes
    assert WEIGHT_BYTES["nf4"] * 512 * 512 == pytest.approx(real, rel=0.01)


def test_the_output_layer_is_not_quantised(tiny_llama: Path) -> None:
    with torch.device("meta"):
        model = LlamaForCausalLM(LlamaConfig.from_pretrained(tiny_llama)).requires_grad_(False)
        batch = {"input_ids": torch.empty(1, 4, dtype=torch.long)}
    floats, ints = (estimate_memory(model, batch, settings(), kind)["weights"] for kind in (None, "int8"))
    per_layer = 2 * 32 * 32 + 2 * 32 * 16 + 3 * 32 * 64  # queries and outputs, keys and values, the MLP
    assert floats - ints == 2 * per_layer * 3  # of four bytes, one is left
