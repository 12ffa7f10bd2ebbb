"""Stacks of weights, as those of fused experts: W + dW of each, with one basis and coefficients of its own.

Weights are built one after another, so that beside the result no more than one update is ever held.

Shapes: weight [weights, out, in], coefficients [weights, n].
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from fourierft.errors import ShapeError
from fourierft.spectral.basis import SpectralBasis
from fourierft.spectral.draw import basis_of
from fourierft.spectral.probe import check_weight_transforms
from fourierft.spectral.transforms import compute_dtype, dense_delta, dense_gradient


def adapted_stack(weight: Tensor, coefficients: Tensor, basis: SpectralBasis, scaling: float) -> Tensor:
    """W + dW of each weight of a stack; the sum is rounded once to the dtype of W.

    Semantics: y[i] = weight[i] + delta_weight(coefficients[i], basis, scaling).

    Args:
        weight: [weights, out, in].
        coefficients: [weights, n]; half precision is computed in float32.
        basis: entries of an [out, in] weight.
        scaling: dimensionless.

    Returns: [weights, out, in], dtype and layout in memory of weight.

    Raises:
        ShapeError, if weight or coefficients do not fit the basis or each other.
        BackendError, if the transforms of this backend are wrong for this shape.
    """
    shape = (basis.out_features, basis.in_features)
    if weight.dim() != 3 or weight.shape[1:] != shape or coefficients.shape != (len(weight), basis.n_frequency):
        raise ShapeError(
            f"weights {list(weight.shape)} and coefficients {list(coefficients.shape)} do not fit a basis of "
            f"{shape[0]} x {shape[1]} and n_frequency={basis.n_frequency}; use [weights, {shape[0]}, {shape[1]}] and "
            f"[weights, {basis.n_frequency}]"
        )
    return torch.ops.fourierft.stack(weight, coefficients, basis.key, scaling)


def _stack(weight: Tensor, coefficients: Tensor, basis: str, scaling: float) -> Tensor:
    spectral, dtype = basis_of(basis), torch.promote_types(compute_dtype(weight.dtype), coefficients.dtype)
    check_weight_transforms(spectral.out_features, spectral.in_features, dtype, weight.device)
    result = torch.empty_like(weight)
    for own, base, values in zip(result, weight, coefficients.to(dtype), strict=True):
        own.copy_(dense_delta(values, spectral, scaling, base=base.to(dtype)))
    return result


def _stack_gradient(grad: Tensor, basis: str, scaling: float) -> Tensor:
    spectral, dtype = basis_of(basis), compute_dtype(grad.dtype)
    check_weight_transforms(spectral.out_features, spectral.in_features, dtype, grad.device)
    return torch.stack([dense_gradient(own.to(dtype), spectral, scaling) for own in grad])


def _fake_stack(weight: Tensor, coefficients: Tensor, basis: str, scaling: float) -> Tensor:
    return torch.empty_like(weight)


def _fake_stack_gradient(grad: Tensor, basis: str, scaling: float) -> Tensor:
    return grad.new_empty(len(grad), basis_of(basis).n_frequency, dtype=compute_dtype(grad.dtype))


def _save_names(ctx: Any, inputs: tuple, output: Tensor) -> None:
    *_, key, ctx.scaling = inputs
    ctx.basis, ctx.dtype = basis_of(key), inputs[1].dtype if len(inputs) == 4 else inputs[0].dtype


def _stack_backward(ctx: Any, grad: Tensor) -> tuple:
    wants_weight, wants_coefficients = ctx.needs_input_grad[:2]
    gradient = None
    if wants_coefficients:
        gradient = torch.ops.fourierft.stack_gradient(grad, ctx.basis.key, ctx.scaling).to(ctx.dtype)
    return grad if wants_weight else None, gradient, None, None


def _stack_gradient_backward(ctx: Any, direction: Tensor) -> tuple:
    shape = (len(direction), ctx.basis.out_features, ctx.basis.in_features)
    zeros = direction.new_zeros(shape, dtype=ctx.dtype)
    return torch.ops.fourierft.stack(zeros, direction, ctx.basis.key, ctx.scaling), None, None


def _register() -> None:
    names = "str basis, float scaling"
    table: list[tuple[str, Callable[..., Any], Callable[..., Any], str, Callable[..., Any]]] = [
        ("stack", _stack, _fake_stack, f"(Tensor weight, Tensor coefficients, {names}) -> Tensor", _stack_backward),
        (
            "stack_gradient",
            _stack_gradient,
            _fake_stack_gradient,
            f"(Tensor grad, {names}) -> Tensor",
            _stack_gradient_backward,
        ),
    ]
    for name, function, fake, schema, backward in table:
        torch.library.define(f"fourierft::{name}", schema)
        torch.library.impl(f"fourierft::{name}", "CompositeExplicitAutograd", function)
        torch.library.register_fake(f"fourierft::{name}", fake)
        torch.library.register_autograd(f"fourierft::{name}", backward, setup_context=_save_names)


_register()
