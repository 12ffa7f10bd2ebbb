"""Models whose layers share inputs, and a step of them beside one without sharing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import pytest
import torch
from peft import get_peft_model
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from fourierft.spectral.compiled.held import HeldInput
from fourierft.tuner import FourierFTConfig, shared_inputs

WIDTH, INNER = 24, 38


def nothing(x: Any) -> None:
    """Leaves x as it is."""


def plainly(module: nn.Module, x: Tensor) -> Tensor:
    """Calls a module."""
    return module(x)


class Attention(nn.Module):
    """Query, key and value of one tensor, the latter two of one shape; `between` runs before the last."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.v = (nn.Linear(WIDTH, out) for out in (WIDTH, 8, 8))
        self.o = nn.Linear(WIDTH + 16, WIDTH)
        self.between: Callable[[Tensor], object] = nothing
        self.call: Callable[[nn.Module, Tensor], Tensor] = plainly

    def forward(self, x: Tensor) -> Tensor:
        q, k = self.call(self.q, x), self.call(self.k, x)
        changed = self.between(x)
        v = self.call(self.v, changed if isinstance(changed, Tensor) and changed is not x else x)
        return self.o(torch.cat([q, k, v], -1).tanh())


class Block(nn.Module):
    """Attention, then gate, up and down."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = Attention()
        self.gate, self.up, self.down = nn.Linear(WIDTH, INNER), nn.Linear(WIDTH, INNER), nn.Linear(INNER, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(x * 1.5)
        return x + self.down(self.gate(x).sigmoid() * self.up(x))


class Model(nn.Module):
    """Two blocks; `run` calls each."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList([Block(), Block()])
        self.run: Callable[[nn.Module, Tensor], Tensor] = plainly

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = self.run(block, x)
        return x


LAYERS = ["q", "k", "v", "o", "gate", "up", "down"]


def adapted(dtype: torch.dtype = torch.float32, **settings: Any) -> Any:
    torch.manual_seed(3)
    usual: dict[str, Any] = {"n_frequency": 30, "scaling": 60.0, "init_weights": False, "target_modules": LAYERS}
    return get_peft_model(Model().to(dtype), FourierFTConfig(**usual | settings))


def tokens(dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(3, 7, WIDTH, generator=torch.Generator().manual_seed(4)).to(dtype).requires_grad_()


def inner(model: Any) -> Model:
    return model.base_model.model


class Watched(TorchDispatchMode):
    """Sees all operators; inside, layers go by operators, as they do where anyone watches."""

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return function(*args, **(kwargs or {}))


@contextmanager
def counted() -> Iterator[list[int]]:
    """The lengths of inputs that are transformed inside."""
    seen: list[int] = []
    hold = HeldInput.hold

    def noted(held: HeldInput, x: Tensor) -> Tensor:
        seen.append(len(x))
        return hold(held, x)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(HeldInput, "hold", noted)
        yield seen


@contextmanager
def unshared() -> Iterator[None]:
    """Inside, every layer transforms its input itself, by the operators that hold nothing."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shared_inputs, "can_hold", lambda *_: False)
        yield


@contextmanager
def alone() -> Iterator[None]:
    """Inside, every layer transforms its input itself, and holds it; an input may be written to, as none is saved."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shared_inputs._Input, "is_of", lambda *_: False)
        yield


def step(model: Any, dtype: torch.dtype = torch.float32, **named: Any) -> dict[str, Tensor]:
    """The output, and the gradients of a training step."""
    model.zero_grad()
    x = tokens(dtype)
    y = model(x, **named)
    (y.float() * torch.linspace(-1, 1, y.numel()).view(y.shape)).sum().backward()
    trained = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    return {"y": y.detach(), "x": x.grad, **trained}


def gradients_of(y: Tensor, x: Tensor) -> dict[str, Tensor]:
    return {"y": y.detach(), "x": torch.autograd.grad(y.sum(), x)[0]}


def assert_same(found: dict[str, Tensor], expected: dict[str, Tensor], tolerance: float = 1e-5) -> None:
    assert found.keys() == expected.keys()
    assert len(found) > 1
    for name, truth in expected.items():
        error = (found[name] - truth).double().abs().max() / truth.double().abs().max()
        assert error <= tolerance, f"{name} differs by {error:.1e}"


def check(
    model: Any, transforms: int | None = None, tolerance: float = 1e-5, without: Any = unshared, **named: Any
) -> None:
    with without():
        truth = step(model, **named)
    for watched in (nullcontext(), Watched()):
        with counted() as seen, watched:
            found = step(model, **named)
        assert_same(found, truth, tolerance)
        assert transforms is None or len(seen) == transforms
