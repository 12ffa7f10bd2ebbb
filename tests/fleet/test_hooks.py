"""Hooks do nothing but in the thread that runs a batch."""

from __future__ import annotations

import threading

import pytest
import torch
from torch import nn

from fourierft.errors import CheckpointError, ConfigError
from fourierft.fleet.hooks import RowHooks


class Plus:
    """Adds a number to a layer's output."""

    def __init__(self, number: float, *layers: str) -> None:
        self.number, self.layers, self.count = number, set(layers), 1

    def output(self, name: str, layer: nn.Module, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return y + self.number


def test_a_batch_is_seen_in_its_own_thread_alone() -> None:
    model, x, seen = nn.Sequential(nn.Linear(3, 3)), torch.randn(2, 3), {}
    base = model(x)
    hooks = RowHooks(model)
    hooks.install(["0"])
    hooks.install(["0"])

    def other() -> None:
        seen["idle"] = model(x)
        with hooks.running(Plus(2.0)):
            seen["own"] = model(x)

    with hooks.running(Plus(1.0)):
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
        assert torch.equal(model(x), base + 1)
    assert torch.equal(seen["idle"], base)
    assert torch.equal(seen["own"], base + 2)
    assert torch.equal(model(x), base)


def test_a_layer_that_is_not_there_is_named() -> None:
    with pytest.raises(CheckpointError, match="the base Linear has no layer encoder"):
        RowHooks(nn.Linear(3, 3)).install(["encoder"])


def test_a_layer_whose_weight_is_read_is_named() -> None:
    model = nn.TransformerEncoderLayer(8, 2, 8, batch_first=True)
    hooks, x = RowHooks(model), torch.randn(2, 3, 8)
    hooks.install(["linear1", "self_attn.out_proj"])
    with hooks.running(Plus(1.0, "linear1")):
        model(x)
    refused = pytest.raises(ConfigError, match=r"reads the weights of self_attn\.out_proj instead of calling")
    with refused, hooks.running(Plus(1.0, "self_attn.out_proj")):
        model(x)


def test_a_layer_that_was_replaced_is_named() -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.ReLU())
    hooks, x = RowHooks(model), torch.randn(2, 3)
    hooks.install(["0"])
    model[0] = nn.Linear(3, 3)
    refused = pytest.raises(ConfigError, match=r"0 of the base was replaced .* make a new FleetModel")
    with refused, hooks.running(Plus(1.0, "0")):
        model(x)


def test_a_layer_inside_of_what_replaced_it_is_still_reached() -> None:
    model, x = nn.Sequential(nn.Linear(3, 3)), torch.randn(2, 3)
    hooks, base = RowHooks(model), model(x)
    hooks.install(["0"])
    model[0] = nn.Sequential(model[0], nn.Identity())
    with hooks.running(Plus(1.0, "0")):
        assert torch.equal(model(x), base + 1)
