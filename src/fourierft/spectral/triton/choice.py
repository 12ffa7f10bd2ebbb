"""Whether the kernel serves a basis on a GPU: it is compared with torch's transforms, and timed beside them, once.

The first call for a shape, a count of entries and a dtype of tokens does so. A kernel that is wrong beyond rounding, or
slower, leaves the work to torch; the first is told once.
"""

from __future__ import annotations

import logging
import os
import time
import warnings
from collections.abc import Callable
from importlib.util import find_spec
from typing import NamedTuple

import torch
from torch import Tensor

from fourierft.errors import FourierFTError
from fourierft.spectral import token_transforms
from fourierft.spectral.basis import SpectralBasis
from fourierft.spectral.eager import real_tensors
from fourierft.spectral.triton.plan import plan_of
from fourierft.spectral.triton.update import TritonUpdate

SWITCH = "FOURIERFT_KERNEL"  # =torch: no kernel
TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 1e-2, torch.float16: 2e-3}  # of the norm: a rounding, and a margin
_TOKENS, _ROUNDS = 256, 3
_LOG = logging.getLogger(__name__)
_verdicts: dict[tuple, bool] = {}


class Comparison(NamedTuple):
    """How far a kernel is from torch's transforms, and how long both take."""

    error: float  # the largest of three, relative to the norm: dW x, and both gradients
    seconds: float  # of the kernel, for a product and its gradients
    torch_seconds: float


class TorchUpdate:
    """torch's transforms, as a kernel has them: see `TritonUpdate`."""

    def __init__(self, basis: SpectralBasis) -> None:
        self._basis = basis

    def product(self, x: Tensor, coefficients: Tensor, scaling: float) -> Tensor:
        """dW x."""
        return token_transforms.token_product(x, coefficients, self._basis, scaling)

    def gradients(self, grad: Tensor, x: Tensor, coefficients: Tensor, scaling: float) -> tuple[Tensor, Tensor]:
        """Of x, and of the coefficients."""
        return token_transforms.token_backward(grad, x, coefficients, self._basis, scaling)


def triton_update(basis: SpectralBasis, dtype: torch.dtype, x: Tensor) -> TritonUpdate | None:
    """The kernel for tokens x on a GPU, computed in dtype; None where torch's transforms are to be used.

    While a graph is captured nothing can be compared: a kernel not used before is left out of it.
    """
    if dtype != torch.float32 or x.dtype not in TOLERANCE or not is_there():
        return None
    key = (basis.out_features, basis.in_features, basis.n_frequency, x.dtype, x.device)
    if key not in _verdicts and torch.cuda.is_current_stream_capturing():
        return None
    update = basis.keep(("triton", x.device), lambda basis: make_update(basis, x.device), x.device)
    if update is not None and key not in _verdicts:
        with real_tensors():
            _verdicts[key] = serves(update, basis, x.dtype, x.device)
    return update if _verdicts.get(key) else None


def is_there() -> bool:
    """Whether Triton is installed, and the environment does not rule the kernel out."""
    return os.environ.get(SWITCH) != "torch" and find_spec("triton") is not None


def make_update(basis: SpectralBasis, device: torch.device) -> TritonUpdate | None:
    """The kernel of a basis, unchecked; None if a length has no plan."""
    inner, outer = plan_of(basis.in_features), plan_of(basis.out_features)
    return None if inner is None or outer is None else TritonUpdate(basis, inner, outer, device)


def serves(update: TritonUpdate | TorchUpdate, basis: SpectralBasis, dtype: torch.dtype, device: torch.device) -> bool:
    """Whether a kernel runs on a device, and is right and no slower there; warns if it does not run, or is wrong."""
    try:
        found = compare(update, basis, dtype, device)
    except FourierFTError:  # torch's transforms are wrong here
        raise
    except Exception as error:  # Triton's: no compiler, or too little shared memory for the width
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        _warn(f"{_shape(basis, dtype)} can't be run here ({reason}), and torch's transforms are used")
        return False
    return judge(found, basis, dtype)


def compare(
    update: TritonUpdate | TorchUpdate,
    basis: SpectralBasis,
    dtype: torch.dtype,
    device: torch.device,
    tokens: int = _TOKENS,
) -> Comparison:
    """A kernel beside torch's transforms on random tokens of a dtype."""
    generator = torch.Generator().manual_seed(0)

    def random(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator).to(device)

    x, grad = random(1, tokens, basis.in_features).to(dtype), random(1, tokens, basis.out_features).to(dtype)
    coefficients = random(1, basis.n_frequency)

    def run(which: TritonUpdate | TorchUpdate) -> tuple[Tensor, ...]:
        return which.product(x, coefficients, 1.0), *which.gradients(grad, x, coefficients, 1.0)

    other = TorchUpdate(basis)
    pairs = zip(run(update), run(other), strict=True)
    errors = [float((found.float() - truth.float()).norm() / truth.float().norm()) for found, truth in pairs]
    error = max(errors) if all(value == value for value in errors) else float("inf")
    return Comparison(error, _seconds(lambda: run(update), device), _seconds(lambda: run(other), device))


def judge(found: Comparison, basis: SpectralBasis, dtype: torch.dtype) -> bool:
    """Whether the kernel is right and no slower; warns if it is wrong."""
    shape = _shape(basis, dtype)
    if found.error > TOLERANCE[dtype]:
        _warn(f"{shape} is {found.error:.1e} off torch's transforms, which are used")
        return False
    _LOG.info("GPU kernel, %s: %.0f us, torch %.0f us", shape, found.seconds * 1e6, found.torch_seconds * 1e6)
    return found.seconds <= found.torch_seconds


def _shape(basis: SpectralBasis, dtype: torch.dtype) -> str:
    return f"{basis.out_features} x {basis.in_features}, n_frequency={basis.n_frequency}, {dtype}"


def _warn(what: str) -> None:
    warnings.warn(
        f"the GPU kernel's update of {what} instead; set {SWITCH}=torch to choose them without this warning",
        stacklevel=2,
    )


def _seconds(work: Callable[[], object], device: torch.device) -> float:
    """The least time of a few rounds."""
    times = []
    for _ in range(_ROUNDS):
        _wait(device)
        start = time.perf_counter()
        work()
        _wait(device)
        times.append(time.perf_counter() - start)
    return min(times)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
