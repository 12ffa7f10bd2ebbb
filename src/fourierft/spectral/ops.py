"""The views as operators of `torch.library`: what autograd differentiates and `torch.compile` keeps whole in its graph.

An operator names its basis by key, because a schema holds tensors and plain values only. Each gradient is an operator
again, so gradients of any order exist; `token_backward` only shares a transform where no further gradient is wanted.

Shapes: x [rows, tokens, in], coefficients [rows, n] (one set a row of the batch), delta [out, in].
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from fourierft.spectral.basis import SpectralBasis, basis_of
from fourierft.spectral.dispatch import prefers_dense_gradient
from fourierft.spectral.probe import check_token_transforms, check_weight_transforms
from fourierft.spectral.transforms import (
    compute_dtype,
    dense_delta,
    dense_gradient,
    from_token_spectrum,
    mix,
    mix_gradient,
    token_block,
    token_spectrum,
)


def token_view(x: Tensor, coefficients: Tensor, basis: str, scaling: float, transposed: bool) -> Tensor:
    """x [rows, tokens, in] -> dW x [rows, tokens, out]; transposed: x [.., out] -> dW^T x [.., in]."""
    spectral = basis_of(basis)
    length = spectral.in_features if transposed else spectral.out_features
    if x.numel() == 0:
        return x.new_zeros(*x.shape[:2], length)
    dtype = torch.promote_types(compute_dtype(x.dtype), compute_dtype(coefficients.dtype))
    return _apply(_blocks(x, dtype), coefficients.to(dtype), spectral, scaling, transposed).to(x.dtype)


def token_gradient(grad: Tensor, x: Tensor, basis: str, scaling: float) -> Tensor:
    """Gradient of the coefficients, float32 or float64: grad [rows, tokens, out], x [rows, tokens, in] -> [rows, n]."""
    spectral = basis_of(basis)
    dtype = torch.promote_types(compute_dtype(x.dtype), compute_dtype(grad.dtype))
    if x.numel() == 0:
        return x.new_zeros(x.shape[0], spectral.n_frequency, dtype=dtype)
    return _gradient(_blocks(grad, dtype), _blocks(x, dtype), len(x), spectral, scaling)


def token_backward(grad: Tensor, x: Tensor, coefficients: Tensor, basis: str, scaling: float) -> tuple[Tensor, Tensor]:
    """Both gradients of `token_view` from one transform of grad: (that of x, that of the coefficients)."""
    spectral = basis_of(basis)
    if x.numel() == 0:
        return x.new_zeros(x.shape), coefficients.new_zeros(coefficients.shape)
    dtype = torch.promote_types(compute_dtype(x.dtype), compute_dtype(coefficients.dtype))
    grad_spectrum = _blocks(grad, dtype)
    grad_x = _apply(grad_spectrum, coefficients.to(dtype), spectral, scaling, True)
    grad_coefficients = _gradient(grad_spectrum, _blocks(x, dtype), len(x), spectral, scaling)
    return grad_x.to(x.dtype), grad_coefficients.to(coefficients.dtype)


def weight_view(
    x: Tensor, weight: Tensor, bias: Tensor | None, coefficients: Tensor, basis: str, scaling: float
) -> Tensor:
    """x (W + dW)^T + bias in one product: x [rows, tokens, in], coefficients [1, n] -> [rows, tokens, out]."""
    return F.linear(x, weight + delta(coefficients, basis, scaling).to(weight.dtype), bias)


def delta(coefficients: Tensor, basis: str, scaling: float) -> Tensor:
    """The dense update, coefficients [1, n] -> [out, in], in the dtype of the coefficients."""
    spectral, dtype = basis_of(basis), compute_dtype(coefficients.dtype)
    check_weight_transforms(spectral.out_features, spectral.in_features, dtype, coefficients.device)
    return dense_delta(coefficients[0].to(dtype), spectral, scaling).to(coefficients.dtype)


def delta_gradient(grad: Tensor, basis: str, scaling: float) -> Tensor:
    """Gradient of the coefficients, [1, n], from that of the dense update, [out, in]."""
    spectral, dtype = basis_of(basis), compute_dtype(grad.dtype)
    check_weight_transforms(spectral.out_features, spectral.in_features, dtype, grad.device)
    return dense_gradient(grad.to(dtype), spectral, scaling)[None].to(grad.dtype)


def _apply(spectrum: Tensor, coefficients: Tensor, basis: SpectralBasis, scaling: float, transposed: bool) -> Tensor:
    """Token view of blocks [sets * blocks, spectrum rows, block]; returns [sets, tokens, features]."""
    check_token_transforms(basis.out_features, basis.in_features, spectrum.dtype, spectrum.device)
    links = basis.reversed_links(spectrum.device) if transposed else basis.links(spectrum.device)
    source, target = basis.in_features, basis.out_features
    if transposed:
        source, target = target, source
    y = from_token_spectrum(mix(spectrum, coefficients, links, scaling / source), target)
    return y.view(len(coefficients), -1, target)


def _gradient(grad_spectrum: Tensor, spectrum: Tensor, sets: int, basis: SpectralBasis, scaling: float) -> Tensor:
    """Coefficients' gradient from blocks [sets * blocks, spectrum rows, block]; returns [sets, n]."""
    check_token_transforms(basis.out_features, basis.in_features, spectrum.dtype, spectrum.device)
    factor = scaling / (basis.out_features * basis.in_features)
    gradient = mix_gradient(grad_spectrum, spectrum, basis.links(spectrum.device), factor)
    return gradient.view(sets, -1, basis.n_frequency).sum(1)


def _blocks(x: Tensor, dtype: torch.dtype) -> Tensor:
    """Token spectrum of [sets, tokens, length] in blocks, [sets * blocks, spectrum rows, block]."""
    return token_spectrum(x.to(dtype).reshape(-1, token_block(x.shape[1]), x.shape[2]))


def _fake_token_view(x: Tensor, coefficients: Tensor, basis: str, scaling: float, transposed: bool) -> Tensor:
    spectral = basis_of(basis)
    return x.new_empty(*x.shape[:2], spectral.in_features if transposed else spectral.out_features)


def _fake_token_gradient(grad: Tensor, x: Tensor, basis: str, scaling: float) -> Tensor:
    dtype = torch.promote_types(compute_dtype(x.dtype), compute_dtype(grad.dtype))
    return x.new_empty(x.shape[0], basis_of(basis).n_frequency, dtype=dtype)


def _fake_token_backward(
    grad: Tensor, x: Tensor, coefficients: Tensor, basis: str, scaling: float
) -> tuple[Tensor, Tensor]:
    return x.new_empty(x.shape), coefficients.new_empty(coefficients.shape)


def _fake_weight_view(
    x: Tensor, weight: Tensor, bias: Tensor | None, coefficients: Tensor, basis: str, scaling: float
) -> Tensor:
    return x.new_empty(*x.shape[:2], weight.shape[0])


def _fake_delta(coefficients: Tensor, basis: str, scaling: float) -> Tensor:
    spectral = basis_of(basis)
    return coefficients.new_empty(spectral.out_features, spectral.in_features)


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
        return *OPS.token_backward(grad, x, coefficients, ctx.basis.key, ctx.scaling), None, None, None
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


def _save_weight_view(ctx: Any, inputs: tuple, output: Tensor) -> None:
    x, weight, _, coefficients, key, ctx.scaling = inputs
    ctx.basis = basis_of(key)
    ctx.save_for_backward(x, weight, coefficients)


def _weight_view_backward(ctx: Any, grad: Tensor) -> tuple:
    x, weight, coefficients = ctx.saved_tensors
    wants_x, wants_weight, wants_bias, wants_coefficients = ctx.needs_input_grad[:4]
    tokens = grad.shape[0] * grad.shape[1]
    dense = wants_weight or (wants_coefficients and prefers_dense_gradient(tokens, ctx.basis, grad.dtype, grad.device))
    grad_x = grad_weight = grad_coefficients = None
    if dense:
        grad_weight = grad.flatten(0, 1).t() @ x.flatten(0, 1)
    if wants_coefficients and dense:
        grad_coefficients = OPS.delta_gradient(grad_weight, ctx.basis.key, ctx.scaling).to(coefficients.dtype)
    elif wants_coefficients:
        flat = grad.reshape(1, tokens, -1), x.reshape(1, tokens, -1)
        grad_coefficients = OPS.token_gradient(*flat, ctx.basis.key, ctx.scaling).to(coefficients.dtype)
    if wants_x:
        grad_x = grad @ (weight + OPS.delta(coefficients, ctx.basis.key, ctx.scaling).to(weight.dtype))
    grad_bias = grad.sum((0, 1)) if wants_bias else None
    return grad_x, grad_weight if wants_weight else None, grad_bias, grad_coefficients, None, None


def _save_names(ctx: Any, inputs: tuple, output: Tensor) -> None:
    *_, key, ctx.scaling = inputs
    ctx.basis = basis_of(key)


def _delta_backward(ctx: Any, grad: Tensor) -> tuple:
    return OPS.delta_gradient(grad, ctx.basis.key, ctx.scaling), None, None


def _delta_gradient_backward(ctx: Any, direction: Tensor) -> tuple:
    return OPS.delta(direction, ctx.basis.key, ctx.scaling), None, None


def _register() -> None:
    g, c, names = "Tensor grad", "Tensor coefficients", "str basis, float scaling"
    w = "Tensor weight, Tensor? bias"
    table: list[tuple[str, Callable[..., Any], Callable[..., Any], str]] = [
        ("token_view", token_view, _fake_token_view, f"(Tensor x, {c}, {names}, bool transposed) -> Tensor"),
        ("token_gradient", token_gradient, _fake_token_gradient, f"({g}, Tensor x, {names}) -> Tensor"),
        ("token_backward", token_backward, _fake_token_backward, f"({g}, Tensor x, {c}, {names}) -> (Tensor, Tensor)"),
        ("weight_view", weight_view, _fake_weight_view, f"(Tensor x, {w}, {c}, {names}) -> Tensor"),
        ("delta", delta, _fake_delta, f"({c}, {names}) -> Tensor"),
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
    autograd("fourierft::weight_view", _weight_view_backward, setup_context=_save_weight_view)
    autograd("fourierft::delta", _delta_backward, setup_context=_save_names)
    autograd("fourierft::delta_gradient", _delta_gradient_backward, setup_context=_save_names)


_register()
OPS = torch.ops.fourierft
