"""Inputs that are held: layers that get the same tensor transform it once, and keep no more of it than they read.

`hold` transforms an input and keeps the bins that the updates of some bases read; `held_linear` is an adapted layer of
it. Autograd sums the gradients of the held spectrum over these layers, and one transform brings the sum back. What is
saved for the backward pass is the held spectrum, once, and never the input.

Both are linear in the input and in the coefficients, so derivatives of any order are again such operators:

    y = P(held, c),  dheld = Q(dy, c),  dc = R(dy, held);  hold and release are transposes of one another

Shapes: x [tokens, in], grad [tokens, out], coefficients [n]; held is opaque (compiled/held.py).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from fourierft.spectral.basis import SpectralBasis, basis_of
from fourierft.spectral.compiled import HeldUpdate, compiled_update, held_input, held_update, is_served
from fourierft.spectral.dispatch import choose_view
from fourierft.spectral.eager import is_exported, is_transformed
from fourierft.spectral.transforms import compute_dtype

_Function = Callable[..., Any]


class Held(NamedTuple):
    """An input, transformed.

    Fields:
        spectrum: float32, opaque.
        bases: the keys of those that it was held for.
    """

    spectrum: Tensor
    bases: tuple[str, ...]


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
    keys = tuple(sorted({basis.key for basis in bases}))
    return Held(torch.ops.fourierft.hold(x.reshape(-1, x.shape[-1]).float(), "|".join(keys)), keys)


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
    flat = x.reshape(-1, x.shape[-1])
    names = basis.key, "|".join(held.bases), scaling
    y = torch.ops.fourierft.held_linear(held.spectrum, flat, weight, bias, coefficients, *names)
    return y.view(*x.shape[:-1], basis.out_features)


def _hold(x: Tensor, bases: str) -> Tensor:
    for basis in _bases(bases):
        compiled_update(basis, x.dtype, x.device)  # whose results are checked once
    return held_input(_bases(bases)).hold(x.contiguous())


def _release(held: Tensor, tokens: int, bases: str) -> Tensor:
    return held_input(_bases(bases)).release(_aligned(held), tokens)


def _held_linear(
    held: Tensor,
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    coefficients: Tensor,
    basis: str,
    bases: str,
    scaling: float,
) -> Tensor:
    y = held.new_zeros(len(x), basis_of(basis).out_features) if weight is None else F.linear(x, weight, bias)
    _update(basis, bases).add_product(y, _aligned(held), coefficients.contiguous(), scaling)
    return y


def _held_backward(
    grad: Tensor, held: Tensor, coefficients: Tensor, basis: str, bases: str, scaling: float
) -> tuple[Tensor, Tensor]:
    return _update(basis, bases).gradients(grad.contiguous(), _aligned(held), coefficients.contiguous(), scaling)


def _spread(grad: Tensor, coefficients: Tensor, basis: str, bases: str, scaling: float) -> Tensor:
    return _update(basis, bases).gradients(grad.contiguous(), None, coefficients.contiguous(), scaling)[0]


def _held_gradient(grad: Tensor, held: Tensor, basis: str, bases: str, scaling: float) -> Tensor:
    return _update(basis, bases).gradients(grad.contiguous(), _aligned(held), None, scaling)[1]


def _bases(keys: str) -> tuple[SpectralBasis, ...]:
    return tuple(map(basis_of, keys.split("|")))


def _update(basis: str, bases: str) -> HeldUpdate:
    return held_update(basis_of(basis), _bases(bases))


def _aligned(held: Tensor) -> Tensor:
    """As the kernel reads it: torch's own memory starts at multiples of 64 bytes, that of others may not."""
    held = held.contiguous()
    return held if held.data_ptr() % 64 == 0 else held.clone()


def _fake_hold(x: Tensor, bases: str) -> Tensor:
    return x.new_empty(held_input(_bases(bases)).shape(x.shape[0]))


def _fake_release(held: Tensor, tokens: int, bases: str) -> Tensor:
    return held.new_empty(tokens, _bases(bases)[0].in_features)


def _fake_held_linear(
    held: Tensor,
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    coefficients: Tensor,
    basis: str,
    bases: str,
    scaling: float,
) -> Tensor:
    return held.new_empty(x.shape[0], basis_of(basis).out_features)


def _fake_held_backward(
    grad: Tensor, held: Tensor, coefficients: Tensor, basis: str, bases: str, scaling: float
) -> tuple[Tensor, Tensor]:
    return held.new_empty(held.shape), coefficients.new_empty(coefficients.shape)


def _fake_spread(grad: Tensor, coefficients: Tensor, basis: str, bases: str, scaling: float) -> Tensor:
    return grad.new_empty(held_input(_bases(bases)).shape(grad.shape[0]))


def _fake_held_gradient(grad: Tensor, held: Tensor, basis: str, bases: str, scaling: float) -> Tensor:
    return grad.new_empty(basis_of(basis).n_frequency)


def _save_hold(ctx: Any, inputs: tuple, output: Tensor) -> None:
    x, bases = inputs
    ctx.tokens, ctx.bases = x.shape[0], bases
    ctx.kept = _bases(bases)  # keeps them alive until the backward pass


def _hold_backward(ctx: Any, grad: Tensor) -> tuple:
    return torch.ops.fourierft.release(grad, ctx.tokens, ctx.bases), None


def _save_release(ctx: Any, inputs: tuple, output: Tensor) -> None:
    _, _, ctx.bases = inputs
    ctx.kept = _bases(ctx.bases)


def _release_backward(ctx: Any, grad: Tensor) -> tuple:
    return torch.ops.fourierft.hold(grad, ctx.bases), None, None


def _save_held_linear(ctx: Any, inputs: tuple, output: Tensor) -> None:
    held, _, weight, _, coefficients, *ctx.names = inputs
    ctx.kept = _bases(ctx.names[1])
    ctx.save_for_backward(held if coefficients.requires_grad else None, weight, coefficients)


def _held_linear_backward(ctx: Any, grad: Tensor) -> tuple:
    held, weight, coefficients = ctx.saved_tensors
    wants_held, wants_x, *_ = ctx.needs_input_grad
    wants_coefficients = ctx.needs_input_grad[4]
    ops, grad_held, grad_coefficients = torch.ops.fourierft, None, None
    if wants_held and wants_coefficients and not torch.is_grad_enabled():
        grad_held, grad_coefficients = ops.held_backward(grad, held, coefficients, *ctx.names)
    else:
        grad_held = ops.spread(grad, coefficients, *ctx.names) if wants_held else None
        grad_coefficients = ops.held_gradient(grad, held, *ctx.names) if wants_coefficients else None
    grad_x = grad @ weight if wants_x and weight is not None else None
    return grad_held, grad_x, None, None, grad_coefficients, None, None, None


def _save_pair(ctx: Any, inputs: tuple, output: Tensor) -> None:
    grad, other, *ctx.names = inputs
    ctx.kept = _bases(ctx.names[1])
    ctx.save_for_backward(grad, other)


def _spread_backward(ctx: Any, direction: Tensor) -> tuple:
    grad, coefficients = ctx.saved_tensors
    ops, (wants_grad, wants_coefficients) = torch.ops.fourierft, ctx.needs_input_grad[:2]
    along = ops.held_linear(direction, grad, None, None, coefficients, *ctx.names) if wants_grad else None
    return along, ops.held_gradient(grad, direction, *ctx.names) if wants_coefficients else None, None, None, None


def _held_gradient_backward(ctx: Any, direction: Tensor) -> tuple:
    grad, held = ctx.saved_tensors
    ops, (wants_grad, wants_held) = torch.ops.fourierft, ctx.needs_input_grad[:2]
    along = ops.held_linear(held, grad, None, None, direction, *ctx.names) if wants_grad else None
    return along, ops.spread(grad, direction, *ctx.names) if wants_held else None, None, None, None


def _register() -> None:
    names = "str basis, str bases, float scaling"
    g, c, h = "Tensor grad", "Tensor coefficients", "Tensor held"
    linear = f"({h}, Tensor x, Tensor? weight, Tensor? bias, {c}, {names}) -> Tensor"
    table: list[tuple[str, _Function, _Function, str, _Function | None, _Function | None]] = [
        ("hold", _hold, _fake_hold, "(Tensor x, str bases) -> Tensor", _hold_backward, _save_hold),
        (
            "release",
            _release,
            _fake_release,
            f"({h}, SymInt tokens, str bases) -> Tensor",
            _release_backward,
            _save_release,
        ),
        ("held_linear", _held_linear, _fake_held_linear, linear, _held_linear_backward, _save_held_linear),
        (
            "held_backward",
            _held_backward,
            _fake_held_backward,
            f"({g}, {h}, {c}, {names}) -> (Tensor, Tensor)",
            None,
            None,
        ),
        ("spread", _spread, _fake_spread, f"({g}, {c}, {names}) -> Tensor", _spread_backward, _save_pair),
        (
            "held_gradient",
            _held_gradient,
            _fake_held_gradient,
            f"({g}, {h}, {names}) -> Tensor",
            _held_gradient_backward,
            _save_pair,
        ),
    ]
    for name, function, fake, schema, backward, save in table:
        torch.library.define(f"fourierft::{name}", schema)
        torch.library.impl(f"fourierft::{name}", "CompositeExplicitAutograd", function)
        torch.library.register_fake(f"fourierft::{name}", fake)
        if backward is not None:
            torch.library.register_autograd(f"fourierft::{name}", backward, setup_context=save)


_register()
