"""Suite for a GPU: the kernel of the device and torch's transforms, each against the float64 sum of cosines.

Both are asked for dW x and then for its gradients, to x and to the coefficients, in the dtype of the settings: of many
tokens under one set of coefficients (token view), and of tokens that have a set each (row view).

On a CPU the suite has tiny shapes alone, and the kernel is the one of the CPU.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator

import torch
from torch import Tensor

from fourierft.spectral import SpectralBasis, uniform_basis
from fourierft.spectral.compiled import CompiledUpdate, compiled_update, is_served
from fourierft.spectral.triton import TritonUpdate
from fourierft.spectral.triton.choice import TorchUpdate, is_there, make_update
from fourierft.spectral.triton.plan import has_plan
from lab.bench.harness import LAYER_TOLERANCE, Case, Contender, Settings, relative_rms
from lab.bench.truth import true_layer

TITLE = "Kernels on a GPU"
SEED = 777
Shape = tuple[int, int, int]  # out, in, n
SHAPES: dict[str, tuple[Shape, ...]] = {  # those that tell most come first
    "smoke": ((48, 64, 20),),
    "small": (
        (4096, 4096, 340),
        (4096, 4096, 1000),
        (11008, 4096, 340),
        (4096, 11008, 340),
        (1024, 3072, 340),
        (768, 768, 1000),
        (576, 1536, 340),
    ),
}
VIEWS = {"token view": (1, 2048), "row view": (16, 1)}  # sets, tokens of each
SMOKE_TOKENS = 7
Update = TorchUpdate | CompiledUpdate | TritonUpdate


def cases(settings: Settings) -> Iterator[Case]:
    """Two a shape and view: dW x, and the gradients."""
    smoke = settings.grid == "smoke"
    if settings.device == "cpu" and not smoke:
        return
    for shape in SHAPES["smoke" if smoke else "small"]:
        for view, (sets, tokens) in VIEWS.items():
            product = Product(shape, sets, min(tokens, SMOKE_TOKENS) if smoke else tokens, settings)
            yield from (product.case(view, what) for what in ("dW x", "gradients"))


class Product:
    """Tokens, gradients and coefficients of one shape, and their truth."""

    def __init__(self, shape: Shape, sets: int, tokens: int, settings: Settings) -> None:
        self.shape, self.sets, self.tokens, self.settings = shape, sets, tokens, settings
        self.scaling = shape[0] * math.sqrt(2 * shape[1] / shape[2])  # dW x as large as x

    def case(self, view: str, what: str) -> Case:
        """torch's transforms, and the kernel beside them."""
        out_features, in_features, n = self.shape
        return Case(
            name=f"{out_features}x{in_features}, n={n}, {view}, {what}",
            shapes={"out": out_features, "in": in_features, "n": n, "sets": self.sets, "tokens": self.tokens},
            contenders={
                "torch": lambda: self.contender(TorchUpdate(self.basis), what),
                **({"ours": lambda: self.contender(self.kernel(), what)} if self.has_kernel() else {}),
            },
            cannot={} if self.has_kernel() else {"ours": "no kernel serves this shape here"},
            baseline="torch",
            tolerance=LAYER_TOLERANCE,
        )

    @functools.cached_property
    def basis(self) -> SpectralBasis:
        return uniform_basis(*self.shape, SEED)

    @functools.cached_property
    def inputs(self) -> tuple[Tensor, Tensor, Tensor]:
        """grad [sets, tokens, out], x [sets, tokens, in], coefficients [sets, n]."""
        out_features, in_features, n = self.shape
        generator = torch.Generator().manual_seed(1)

        def random(*size: int) -> Tensor:
            return torch.randn(size, generator=generator).to(self.settings.device)

        tokens = self.sets, self.tokens
        dtype = self.settings.torch_dtype
        return random(*tokens, out_features).to(dtype), random(*tokens, in_features).to(dtype), random(self.sets, n)

    @functools.cached_property
    def truth(self) -> tuple[Tensor, Tensor, Tensor]:
        """dW x, and the gradients of x and of the coefficients, float64."""
        grad, x, coefficients = self.inputs
        entries = self.basis.entries
        found = [true_layer(*one, entries, self.scaling) for one in zip(x, grad, coefficients, strict=True)]
        product, grad_x, grad_coefficients = (torch.stack(part) for part in zip(*found, strict=True))
        return product, grad_x, grad_coefficients

    def has_kernel(self) -> bool:
        """Whether the device has a kernel for the shape."""
        lengths = self.shape[:2]
        if self.settings.device == "cpu":
            return is_served(*lengths, torch.float32, "cpu")
        return is_there() and all(has_plan(length) for length in lengths)

    def kernel(self) -> Update:
        """The kernel of the device, whether or not torch's transforms would be faster."""
        device = torch.device(self.settings.device)
        on_cpu = device.type == "cpu"
        found = compiled_update(self.basis, torch.float32, device) if on_cpu else make_update(self.basis, device)
        assert found is not None  # or the case would not have it
        return found

    def contender(self, update: Update, what: str) -> Contender:
        """One of the two, for dW x or the gradients."""
        grad, x, coefficients = self.inputs
        is_product = what == "dW x"

        def run() -> tuple[Tensor, ...]:
            if is_product:
                return (update.product(x, coefficients, self.scaling),)
            return update.gradients(grad, x, coefficients, self.scaling)

        def distance() -> float:
            truth = self.truth[:1] if is_product else self.truth[1:]
            return max(relative_rms(found, true) for found, true in zip(run(), truth, strict=True))

        return Contender(run, distance)
