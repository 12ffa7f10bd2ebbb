"""Inputs that are held: layers that get the same tensor transform it once, and keep no more of it than they read.

`hold` transforms an input and keeps the bins that the updates of some bases read; `held_linear` is an adapted layer of
it. Autograd sums the gradients of the held spectrum over these layers, and one transform brings the sum back. What is
saved for the backward pass is the held spectrum, once, and never the input.

Where nothing but autograd watches, both are autograd functions, which start in half the time of operators (held_ops.py)
and give way to them for gradients of gradients.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from fourierft.spectral.basis import SpectralBasis
from fourierft.spectral.compiled import held_input, held_update, is_served
from fourierft.spectral.dispatch import choose_view
from fourierft.spectral.eager import is_eager, is_exported, is_plain, is_transformed
from fourierft.spectral.held_ops import OPS, linear_backward
from fourierft.spectral.transforms import compute_dtype


class Held(NamedTuple):
    """An input, transformed.

    Fields:
        spectrum: float32, opaque.
        bases: those that it was held for.
        x: the input for base products, [tokens, in]: its gradient comes back with that of the spectrum, in one.
    """

    spectrum: Tensor
    bases: tuple[SpectralBasis, ...]
    x: Tensor


def can_hold(
    x: Tensor, product: tuple[Tensor, Tensor | None] | None, coefficients: Tensor, basis: SpectralBasis
) -> bool:
    """Whether an input may be held, and whether that is the cheapest view of the layer.

    Not if the base product has gradients of its own, nor in a graph that is exported: a held spectrum has another
    shape on another processor.

    Args:
        x: [..., in].
        product: weight [out, in] and bias [out] of the base layer, if it is computed in one with the update.
        coefficients: [n], or else it may not.
        basis: entries of an [out, in] weight.
    """
    if coefficients.dtype != torch.float32 or coefficients.dim() != 1 or not x.is_floating_point():
        return False
    if compute_dtype(x.dtype) != torch.float32 or not x.numel() or is_transformed() or is_exported():
        return False
    if product is not None:
        if any(part is not None and part.requires_grad for part in product):
            return False
        if choose_view(x.numel() // basis.in_features, basis, x.dtype, x.device) != "token":
            return False
    return is_served(basis.out_features, basis.in_features, torch.float32, x.device.type)


def hold(x: Tensor, bases: Sequence[SpectralBasis]) -> Held:
    """Transform an input for updates of these bases.

    Args:
        x: [..., in], for which `can_hold`; half precision is computed in float32.
        bases: of one in_features.

    Raises: BackendError, if the kernel is wrong here.
    """
    named = {basis.key: basis for basis in bases}
    kept = tuple(named[key] for key in sorted(named))
    flat = x.reshape(-1, x.shape[-1])
    if is_plain(x) and x.dtype == torch.float32:
        spectrum, flat = _Hold.apply(flat, kept)
        return Held(spectrum, kept, flat)
    return Held(OPS.hold(flat.float(), _joined(kept)), kept, flat)


def held_linear(
    held: Held,
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    coefficients: Tensor,
    basis: SpectralBasis,
    scaling: float,
) -> Tensor:
    """x (W + dW)^T + bias, or x dW^T without a weight.

    Args:
        held: of x, for this basis and maybe others.
        x: [..., in], float32 if there is a weight.
        weight, bias: [out, in] and [out], float32, which get no gradient.
        coefficients: [n], float32.
        basis: entries of this shape.
        scaling: dimensionless.

    Returns: [..., out], float32.
    """
    spectrum, bases, flat = held
    parts = spectrum, flat, weight, bias, coefficients
    if is_plain(x, spectrum, coefficients):
        y = _HeldLinear.apply(*parts, basis, bases, scaling)
    else:
        y = OPS.held_linear(*parts, basis.key, _joined(bases), scaling)
    return y.view(*x.shape[:-1], basis.out_features)


class _Hold(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, bases: tuple[SpectralBasis, ...]) -> tuple[Tensor, Tensor]:
        ctx.tokens, ctx.bases = len(x), bases
        ctx.set_materialize_grads(False)
        return held_input(bases).hold(x), x.view_as(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor | None, onto: Tensor | None) -> tuple:
        if grad is None:
            return onto, None
        if is_eager(grad):
            return held_input(ctx.bases).release(grad, ctx.tokens, onto), None
        released = OPS.release(grad, ctx.tokens, _joined(ctx.bases))
        return released if onto is None else released + onto, None


class _HeldLinear(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        held: Tensor,
        x: Tensor,
        weight: Tensor | None,
        bias: Tensor | None,
        coefficients: Tensor,
        basis: SpectralBasis,
        bases: tuple[SpectralBasis, ...],
        scaling: float,
    ) -> Tensor:
        ctx.names = basis, bases, scaling
        ctx.save_for_backward(held if coefficients.requires_grad else None, weight, coefficients)
        y = held.new_zeros(len(x), basis.out_features) if weight is None else F.linear(x, weight, bias)
        held_update(basis, bases).add_product(y, held, coefficients, scaling)
        return y

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple:
        basis, bases, scaling = ctx.names
        held, weight, coefficients = saved = ctx.saved_tensors
        wants_held, wants_x, _, _, wants_coefficients, *_ = ctx.needs_input_grad
        if not (wants_held and wants_coefficients and is_eager(grad)):
            return linear_backward(grad, saved, ctx.needs_input_grad, basis.key, _joined(bases), scaling)
        grad_held, grad_coefficients = held_update(basis, bases).gradients(grad, held, coefficients, scaling)
        grad_x = grad @ weight if wants_x and weight is not None else None
        return grad_held, grad_x, None, None, grad_coefficients, None, None, None


def _joined(bases: tuple[SpectralBasis, ...]) -> str:
    return "|".join(basis.key for basis in bases)
