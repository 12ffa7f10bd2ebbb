"""Suite (b): one linear layer over widths, tokens and coefficients, forward (no grad) and forward + backward.

The map from which the rule of views is made. The frozen base computes y = x W^T and, in the backward, the gradient to
x; the others also what they train. In the check, up to 32 tokens spread over the batch carry a gradient and are
compared.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Iterator
from typing import Any

import peft
import torch
from torch import nn

from fourierft.spectral import adapted_linear, uniform_basis
from lab.bench.harness import LAYER_TOLERANCE, Case, Contender, Settings, relative_rms
from lab.bench.methods import RIVALS, SEED, config_of
from lab.bench.suites.stock import excuse_stock
from lab.bench.truth import true_layer

TITLE = "One layer"
CHECKED_TOKENS = 32
LARGEST_ON_CPU = 2**34  # tokens * out * in
VIEWS = {"ours": "auto", "ours-weight": "weight", "ours-token": "token"}
DIRECTIONS = ("forward", "forward+backward")

Shape = tuple[int, int]  # out, in
GRIDS: dict[str, tuple[tuple[Shape, ...], tuple[int, ...], tuple[int, ...]]] = {
    "smoke": (((64, 64), (128, 64)), (1, 32), (50,)),
    "small": (((768, 768), (1024, 1024), (2048, 2048), (4096, 4096)), (1, 16, 128, 512, 2048), (1000,)),
    "full": (
        (*((d, d) for d in (512, 768, 1024, 2048, 4096, 8192)), (11008, 4096)),
        (1, 8, 64, 512, 2048, 8192),
        (100, 1000, 10_000),
    ),
}


def cases(settings: Settings) -> Iterator[Case]:
    """A case per shape, tokens, n and direction; rivals, which n does not touch, only beside the usual n."""
    shapes, tokens, counts = GRIDS[settings.grid]
    usual = 1000 if 1000 in counts else counts[0]
    for (shape, n), t, direction in itertools.product(itertools.product(shapes, counts), tokens, DIRECTIONS):
        if settings.device == "cpu" and t * math.prod(shape) > LARGEST_ON_CPU:
            continue
        layer = Layer(shape, t, n, direction, settings)
        methods = ("base", *(("stock", *RIVALS) if n == usual else ()), *VIEWS)
        yield Case(
            name=f"{shape[0]}x{shape[1]}, {t} tokens, n={n}, {direction}",
            shapes={"out": shape[0], "in": shape[1], "tokens": t, "n": n, "direction": direction},
            contenders={method: functools.partial(layer.contender, method) for method in methods},
            tolerance=LAYER_TOLERANCE,
        )


class Layer:
    """One frozen layer, its input, the gradient to its output, and the truth of the adapted layer."""

    def __init__(self, shape: Shape, tokens: int, n: int, direction: str, settings: Settings) -> None:
        self.shape, self.tokens, self.n, self.settings = shape, tokens, n, settings
        self.backward = direction == "forward+backward"
        out_features, in_features = shape
        self.scaling = out_features * in_features / math.sqrt(in_features * n / 2)  # dW as large as W

    def _randn(self, *size: int, seed: int) -> torch.Tensor:
        drawn = torch.randn(size, generator=torch.Generator().manual_seed(seed))
        return drawn.to(self.settings.device)

    @functools.cached_property
    def weight(self) -> torch.Tensor:
        return (self._randn(*self.shape, seed=0) / math.sqrt(self.shape[1])).to(self.settings.torch_dtype)

    @functools.cached_property
    def x(self) -> torch.Tensor:
        return self._randn(self.tokens, self.shape[1], seed=1).to(self.settings.torch_dtype).requires_grad_()

    @functools.cached_property
    def grad_out(self) -> torch.Tensor:
        return self._randn(self.tokens, self.shape[0], seed=2).to(self.settings.torch_dtype)

    @functools.cached_property
    def coefficients(self) -> torch.Tensor:
        return self._randn(self.n, seed=3)

    @functools.cached_property
    def picked(self) -> torch.Tensor:
        count = min(CHECKED_TOKENS, self.tokens)
        return torch.linspace(0, self.tokens - 1, count).long().unique().to(self.settings.device)

    @functools.cached_property
    def truth(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        x, grad_out, weight = (
            self.x.detach()[self.picked].double(),
            self.grad_out[self.picked].double(),
            self.weight.double(),
        )
        entries = uniform_basis(*self.shape, self.n, SEED).entries
        out, grad_x, grad_c = true_layer(x, grad_out, self.coefficients, entries, self.scaling)
        return out + x @ weight.T, grad_x + grad_out @ weight, grad_c

    def forward_of(self, method: str) -> tuple[Callable[[torch.Tensor], torch.Tensor], list[torch.Tensor]]:
        """The adapted layer as a function of x, and what it trains."""
        if method in VIEWS:
            basis, c = uniform_basis(*self.shape, self.n, SEED), self.coefficients.clone().requires_grad_()
            view = VIEWS[method]
            return lambda x: adapted_linear(x, self.weight, None, c, basis, self.scaling, view=view), [c]
        layer: Any = nn.Linear(self.shape[1], self.shape[0], bias=False, device="meta")
        layer.weight = nn.Parameter(self.weight, requires_grad=False)
        if method == "base":
            return layer, []
        model: Any = peft.inject_adapter_in_model(config_of(method, ("0",), self.n, self.scaling), nn.Sequential(layer))
        trained: list[torch.Tensor] = [p for p in model.parameters() if p.requires_grad]
        if method == "stock":
            trained[0].data.copy_(self.coefficients)
        return model[0], trained

    def distance(self, forward: Callable[[torch.Tensor], torch.Tensor], trained: list[torch.Tensor]) -> float:
        """Distance to the truth of the output, and of both gradients where they are measured: the largest."""
        with torch.set_grad_enabled(self.backward):
            out = forward(self.x)
        errors = [relative_rms(out.detach()[self.picked], self.truth[0])]
        if self.backward:
            grad_out = torch.zeros_like(self.grad_out)
            grad_out[self.picked] = self.grad_out[self.picked]
            grad_x, grad_c = torch.autograd.grad(out, [self.x, *trained], grad_out)
            errors += [relative_rms(grad_x[self.picked], self.truth[1]), relative_rms(grad_c, self.truth[2])]
        return max(errors)

    def contender(self, method: str) -> Contender:
        forward, trained = self.forward_of(method)

        def run() -> None:
            if self.backward:
                torch.autograd.grad(forward(self.x), [self.x, *trained], self.grad_out)
            else:
                with torch.no_grad():
                    forward(self.x)

        distance = functools.partial(self.distance, forward, trained)
        if method == "stock":
            error, note = excuse_stock(distance, self.settings)
            return Contender(run, error, note=note)
        return Contender(run, distance if method in VIEWS else None)
