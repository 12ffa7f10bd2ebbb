"""The views as operators of `torch.library`: what autograd differentiates and `torch.compile` keeps whole in its graph.

An operator names its basis by key, because a schema holds tensors and plain values only. Each gradient is an operator
again, so gradients of any order exist; `token_backward` only shares a transform where no further gradient is wanted.

Shapes: x [rows, tokens, in], ids [rows, tokens], coefficients [rows, n] (one set a row of the batch), delta [out, in].
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from fourierft.spectral import tokens
from fourierft.spectral.dispatch import prefers_dense_gradient
from fourierft.spectral.draw import basis_of
from fourierft.spectral.lookup import lookup, lookup_gradient
from fourierft.spectral.probe import check_weight_transforms
from fourierft.spectral.transforms import compute_dtype, dense_delta, dense_gradient


def token_view(x: Tensor, coefficients: Tensor, basis: str, scaling: float, transposed: bool) -> Tensor:
    """x [rows, tokens, in] -> dW x [rows, tokens, out]; transposed: x [.., out] -> dW^T x [.., in]."""
    return tokens.token_product(x, coefficients, basis_of(basis), scaling, transposed)


def token_gradient(grad: Tensor, x: Tensor, basis: str, scaling: float) -> Tensor:
    """Gradient of the coefficients, float32 or float64: grad [rows, tokens, out], x [rows, tokens, in] -> [rows, n]."""
    return tokens.token_gradient(grad, x, basis_of(basis), scaling)


def token_backward(
    grad: Tensor, x: Tensor, weight: Tensor | None, coefficients: Tensor, basis: str, scaling: float
) -> tuple[Tensor, Tensor]:
    """Gradients (of x, of coefficients) of `token_view`, or of `adapted` if a weight is given, from one transform."""
    onto = None if weight is None else grad @ weight
    return tokens.token_backward(grad, x, coefficients, basis_of(basis), scaling, onto)


def adapted(
    x: Tensor, weight: Tensor, bias: Tensor | None, coefficients: Tensor, basis: str, scaling: float, dense: bool
) -> Tensor:
    """x (W + dW)^T + bias: x [rows, tokens, in] -> [rows, tokens, out]; dense: one product with W + dW, rows = 1."""
    if dense:
        return F.linear(x, adapted_weight(weight, coefficients, basis, scaling), bias)
    return tokens.token_product(x, coefficients, basis_of(basis), scaling, onto=F.linear(x, weight, bias))


def lookup_view(ids: Tensor, coefficients: Tensor, basis: str, scaling: float) -> Tensor:
    """Rows of dW, float32 or float64: ids [rows, tokens] of its `out` rows -> [rows, tokens, in]."""
    return lookup(ids, coefficients, basis_of(basis), scaling)


def lookup_view_gradient(grad: Tensor, ids: Tensor, basis: str, scaling: float) -> Tensor:
    """Gradient of the coefficients of `lookup_view`, float32 or float64: grad [rows, tokens, in] -> [rows, n]."""
    return lookup_gradient(grad, ids, basis_of(basis), scaling)


def delta(coefficients: Tensor, basis: str, scaling: float) -> Tensor:
    """The dense update, coefficients [1, n] -> [out, in], in the dtype of the coefficients."""
    spectral, dtype = basis_of(basis), compute_dtype(coefficients.dtype)
    check_weight_transforms(spectral.out_features, spectral.in_features, dtype, coefficients.device)
    return dense_delta(coefficients[0].to(dtype), spectral, scaling).to(coefficients.dtype)


def adapted_weight(weight: Tensor, coefficients: Tensor, basis: str, scaling: float) -> Tensor:
    """W + dW in the dtype of weight, float32 or float64: weight [out, in], coefficients [1, n] -> [out, in]."""
    spectral = basis_of(basis)
    check_weight_transforms(spectral.out_features, spectral.in_features, weight.dtype, weight.device)
    return dense_delta(coefficients[0].to(weight.dtype), spectral, scaling, base=weight)


def delta_gradient(grad: Tensor, basis: str, scaling: float) -> Tensor:
    """Gradient of the coefficients, [1, n], from that of the dense update, [out, in]."""
    spectral, dtype = basis_of(basis), compute_dtype(grad.dtype)
    check_weight_transforms(spectral.out_features, spectral.in_features, dtype, grad.device)
    return dense_gradient(grad.to(dtype), spectral, scaling)[None].to(grad.dtype)


def _fake_token_view(x: Tensor, coefficients: Tensor, basis: str, scaling: float, transposed: bool) -> Tensor:
    spectral = basis_of(basis)
    return x.new_empty(*x.shape[:2], spectral.in_features if transposed else spectral.out_features)


def _fake_token_gradient(grad: Tensor, x: Tensor, basis: str, scaling: float) -> Tensor:
    dtype = torch.promote_types(compute_dtype(x.dtype), compute_dtype(grad.dtype))
    return x.new_empty(x.shape[0], basis_of(basis).n_frequency, dtype=dtype)


def _fake_token_backward(
    grad: Tensor, x: Tensor, weight: Tensor | None, coefficients: Tensor, basis: str, scaling: float
) -> tuple[Tensor, Tensor]:
    return x.new_empty(x.shape), coefficients.new_empty(coefficients.shape)


def _fake_adapted(
    x: Tensor, weight: Tensor, bias: Tensor | None, coefficients: Tensor, basis: str, scaling: float, dense: bool
) -> Tensor:
    return x.new_empty(*x.shape[:2], weight.shape[0])


def _fake_lookup_view(ids: Tensor, coefficients: Tensor, basis: str, scaling: float) -> Tensor:
    return coefficients.new_empty(*ids.shape, basis_of(basis).in_features, dtype=compute_dtype(coefficients.dtype))


def _fake_lookup_view_gradient(grad: Tensor, ids: Tensor, basis: str, scaling: float) -> Tensor:
    return grad.new_empty(len(ids), basis_of(basis).n_frequency, dtype=compute_dtype(grad.dtype))


def _fake_delta(coefficients: Tensor, basis: str, scaling: float) -> Tensor:
    spectral = basis_of(basis)
    return coefficients.new_empty(spectral.out_features, spectral.in_features)


def _fake_adapted_weight(weight: Tensor, coefficients: Tensor, basis: str, scaling: float) -> Tensor:
    return weight.new_empty(weight.shape)


def _fake_delta_gradient(grad: Tensor, basis: str, scaling: float) -> Tensor:
    return grad.new_empty(1, basis_of(basis).n_frequency)


def _save_token_view(ctx: Any, inputs: tuple, output: Tensor) -> None:
    x, coefficients, key, ctx.scaling, ctx.transposed = inputs
    ctx.basis = basis_of(key)  # keeps it alive until the backward pass
    ctx.save_for_backward(x, coefficients)


def _token_view_backward(ctx: Any, grad: Tensor) -> tuple:
    x, coefficients = ctx.saved_tensors
    wants_x, wants_coefficients = ctx.needs_input_grad[:2]
    if wants_x and wants_coefficients and not ctx.transposed and not torch.is_grad_enabled():
        return *OPS.token_backward(grad, x, None, coefficients, ctx.basis.key, ctx.scaling), None, None, None
    grad_x = grad_coefficients = None
    if wants_x:
        grad_x = OPS.token_view(grad, coefficients, ctx.basis.key, ctx.scaling, not ctx.transposed)
    if wants_coefficients:
        pair = (x, grad) if ctx.transposed else (grad, x)
        grad_coefficients = OPS.token_gradient(*pair, ctx.basis.key, ctx.scaling).to(coefficients.dtype)
    return grad_x, grad_coefficients, None, None, None


def _save_token_gradient(ctx: Any, inputs: tuple, output: Tensor) -> None:
    grad, x, key, ctx.scaling = inputs
    ctx.basis = basis_of(key)
    ctx.save_for_backward(grad, x)


def _token_gradient_backward(ctx: Any, direction: Tensor) -> tuple:
    grad, x = ctx.saved_tensors  # the gradient is bilinear in both, so each derivative is a view again
    grad_grad = OPS.token_view(x, direction, ctx.basis.key, ctx.scaling, False) if ctx.needs_input_grad[0] else None
    grad_x = OPS.token_view(grad, direction, ctx.basis.key, ctx.scaling, True) if ctx.needs_input_grad[1] else None
    return grad_grad, grad_x, None, None


def _save_lookup_view(ctx: Any, inputs: tuple, output: Tensor) -> None:
    ids, coefficients, key, ctx.scaling = inputs
    ctx.basis, ctx.dtype = basis_of(key), coefficients.dtype
    ctx.save_for_backward(ids)


def _lookup_view_backward(ctx: Any, grad: Tensor) -> tuple:
    (ids,) = ctx.saved_tensors
    return None, OPS.lookup_view_gradient(grad, ids, ctx.basis.key, ctx.scaling).to(ctx.dtype), None, None


def _save_lookup_view_gradient(ctx: Any, inputs: tuple, output: Tensor) -> None:
    grad, ids, key, ctx.scaling = inputs
    ctx.basis, ctx.dtype = basis_of(key), grad.dtype
    ctx.save_for_backward(ids)


def _lookup_view_gradient_backward(ctx: Any, direction: Tensor) -> tuple:
    (ids,) = ctx.saved_tensors
    return OPS.lookup_view(ids, direction, ctx.basis.key, ctx.scaling).to(ctx.dtype), None, None, None


def _save_adapted(ctx: Any, inputs: tuple, output: Tensor) -> None:
    x, weight, _, coefficients, key, ctx.scaling, ctx.dense = inputs
    ctx.basis = basis_of(key)
    ctx.save_for_backward(x, weight, coefficients)


def _adapted_backward(ctx: Any, grad: Tensor) -> tuple:
    x, weight, coefficients = ctx.saved_tensors
    wants_x, wants_weight, wants_bias, wants_coefficients = ctx.needs_input_grad[:4]
    names = ctx.basis.key, ctx.scaling
    grad_weight = grad.flatten(0, 1).t() @ x.flatten(0, 1) if _forms_grad_weight(ctx, grad) else None
    grad_x = grad_coefficients = None
    if wants_coefficients and grad_weight is not None and len(coefficients) == 1:
        grad_coefficients = OPS.delta_gradient(grad_weight, *names).to(coefficients.dtype)
    elif wants_coefficients and wants_x and not ctx.dense and not torch.is_grad_enabled():
        grad_x, grad_coefficients = OPS.token_backward(grad, x, weight, coefficients, *names)
    elif wants_coefficients:
        sets = len(coefficients)
        flat = grad.reshape(sets, -1, grad.shape[-1]), x.reshape(sets, -1, x.shape[-1])
        grad_coefficients = OPS.token_gradient(*flat, *names).to(coefficients.dtype)
    if wants_x and ctx.dense:
        grad_x = grad @ OPS.adapted_weight(weight, coefficients, *names)
    elif wants_x and grad_x is None:
        grad_x = grad @ weight + OPS.token_view(grad, coefficients, *names, True)
    grad_bias = grad.sum((0, 1)) if wants_bias else None
    return grad_x, grad_weight if wants_weight else None, grad_bias, grad_coefficients, None, None, None


def _forms_grad_weight(ctx: Any, grad: Tensor) -> bool:
    """Whether the [out, in] gradient is wanted for itself, or is the cheaper way to that of the coefficients."""
    _, wants_weight, _, wants_coefficients = ctx.needs_input_grad[:4]
    count = grad.shape[0] * grad.shape[1]
    cheaper = ctx.dense and wants_coefficients and prefers_dense_gradient(count, ctx.basis, grad.dtype, grad.device)
    return wants_weight or cheaper


def _save_names(ctx: Any, inputs: tuple, output: Tensor) -> None:
    *_, key, ctx.scaling = inputs
    ctx.basis = basis_of(key)


def _delta_backward(ctx: Any, grad: Tensor) -> tuple:
    return OPS.delta_gradient(grad, ctx.basis.key, ctx.scaling), None, None


def _adapted_weight_backward(ctx: Any, grad: Tensor) -> tuple:
    wants_weight, wants_coefficients = ctx.needs_input_grad[:2]
    gradient = OPS.delta_gradient(grad, ctx.basis.key, ctx.scaling) if wants_coefficients else None
    return grad if wants_weight else None, gradient, None, None


def _delta_gradient_backward(ctx: Any, direction: Tensor) -> tuple:
    return OPS.delta(direction, ctx.basis.key, ctx.scaling), None, None


def _register() -> None:
    g, c, names = "Tensor grad", "Tensor coefficients", "str basis, float scaling"
    w = "Tensor weight, Tensor? bias"
    table: list[tuple[str, Callable[..., Any], Callable[..., Any], str]] = [
        ("token_view", token_view, _fake_token_view, f"(Tensor x, {c}, {names}, bool transposed) -> Tensor"),
        ("token_gradient", token_gradient, _fake_token_gradient, f"({g}, Tensor x, {names}) -> Tensor"),
        (
            "token_backward",
            token_backward,
            _fake_token_backward,
            f"({g}, Tensor x, Tensor? weight, {c}, {names}) -> (Tensor, Tensor)",
        ),
        ("lookup_view", lookup_view, _fake_lookup_view, f"(Tensor ids, {c}, {names}) -> Tensor"),
        (
            "lookup_view_gradient",
            lookup_view_gradient,
            _fake_lookup_view_gradient,
            f"({g}, Tensor ids, {names}) -> Tensor",
        ),
        ("adapted", adapted, _fake_adapted, f"(Tensor x, {w}, {c}, {names}, bool dense) -> Tensor"),
        ("delta", delta, _fake_delta, f"({c}, {names}) -> Tensor"),
        ("adapted_weight", adapted_weight, _fake_adapted_weight, f"(Tensor weight, {c}, {names}) -> Tensor"),
        ("delta_gradient", delta_gradient, _fake_delta_gradient, f"({g}, {names}) -> Tensor"),
    ]
    for name, function, fake, schema in table:
        name = f"fourierft::{name}"
        torch.library.define(name, schema)
        torch.library.impl(name, "CompositeExplicitAutograd", function)
        torch.library.register_fake(name, fake)
    autograd = torch.library.register_autograd
    autograd("fourierft::token_view", _token_view_backward, setup_context=_save_token_view)
    autograd("fourierft::token_gradient", _token_gradient_backward, setup_context=_save_token_gradient)
    autograd("fourierft::lookup_view", _lookup_view_backward, setup_context=_save_lookup_view)
    autograd(
        "fourierft::lookup_view_gradient", _lookup_view_gradient_backward, setup_context=_save_lookup_view_gradient
    )
    autograd("fourierft::adapted", _adapted_backward, setup_context=_save_adapted)
    autograd("fourierft::delta", _delta_backward, setup_context=_save_names)
    autograd("fourierft::adapted_weight", _adapted_weight_backward, setup_context=_save_names)
    autograd("fourierft::delta_gradient", _delta_gradient_backward, setup_context=_save_names)


_register()
OPS = torch.ops.fourierft
