"""The base model of the adapters that are kept in files/: a layer of each kind, in two shapes."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn


class Base(nn.Module):
    """An embedding, a convolution, and linear layers of two shapes; its weights follow from seed 0."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.tokens = nn.Embedding(10, 8)
        self.picture = nn.Conv2d(2, 4, 3)
        self.first = nn.Linear(8, 12)
        self.second = nn.Linear(12, 8)
        self.third = nn.Linear(8, 12)
        self.head = nn.Linear(12, 3)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """ids [..., length] to [..., length, 3]."""
        x = self.tokens(ids)
        return self.head(torch.tanh(self.third(torch.tanh(self.second(torch.tanh(self.first(x)))))))


@pytest.fixture
def make_base() -> Callable[[], Base]:
    """The same `Base` at every call."""
    return Base
