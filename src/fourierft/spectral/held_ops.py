"""Held inputs as operators of `torch.library`, as ops.py has the views: what `torch.compile` keeps whole in its graph.

Both operators are linear in the input and in the coefficients, so derivatives of any order are again such operators:

    y = P(held, c),  dheld = Q(dy, c),  dc = R(dy, held);  hold and release are transposes of one another

A schema holds tensors and plain values only, so a basis is named by its key, several with "|" between keys.
Shapes: x [tokens, in], grad [tokens, out], coefficients [n]; held is opaque (compiled/held.py).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from fourierft.spectral.basis import SpectralBasis
from fourierft.spectral.compiled import HeldUpdate, held_input, held_update
from fourierft.spectral.draw import basis_of

_Function = Callable[..., Any]


def _hold(x: Tensor, bases: str) -> Tensor:
    return held_input(_bases(bases)).hold(x)


def _release(held: Tensor, tokens: int, bases: str) -> Tensor:
    return held_input(_bases(bases)).release(held, tokens)


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
    _update(basis, bases).add_product(y, held, coefficients, scaling)
    return y


def _held_backward(
    grad: Tensor, held: Tensor, coefficients: Tensor, basis: str, bases: str, scaling: float
) -> tuple[Tensor, Tensor]:
    return _update(basis, bases).gradients(grad, held, coefficients, scaling)


def _spread(grad: Tensor, coefficients: Tensor, basis: str, bases: str, scaling: float) -> Tensor:
    return _update(basis, bases).gradients(grad, None, coefficients, scaling)[0]


def _held_gradient(grad: Tensor, held: Tensor, basis: str, bases: str, scaling: float) -> Tensor:
    return _update(basis, bases).gradients(grad, held, None, scaling)[1]


def _bases(keys: str) -> tuple[SpectralBasis, ...]:
    return tuple(map(basis_of, keys.split("|")))


def _update(basis: str, bases: str) -> HeldUpdate:
    return held_update(basis_of(basis), _bases(bases))


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
    return linear_backward(grad, ctx.saved_tensors, ctx.needs_input_grad, *ctx.names)


def linear_backward(
    grad: Tensor, saved: Sequence[Any], wanted: Sequence[bool], basis: str, bases: str, scaling: float
) -> tuple:
    """Gradients of the arguments of `held_linear`, as far as they are wanted, from operators, of what it saves."""
    held, weight, coefficients = saved
    wants_held, wants_x, _, _, wants_coefficients, *_ = wanted
    ops, names, grad_held, grad_coefficients = torch.ops.fourierft, (basis, bases, scaling), None, None
    if wants_held and wants_coefficients and not torch.is_grad_enabled():
        grad_held, grad_coefficients = ops.held_backward(grad, held, coefficients, *names)
    else:
        grad_held = ops.spread(grad, coefficients, *names) if wants_held else None
        grad_coefficients = ops.held_gradient(grad, held, *names) if wants_coefficients else None
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
OPS = torch.ops.fourierft
