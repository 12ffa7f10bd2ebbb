"""The public functions of the spectral core: a dense update, its product with tokens, and the adapted layer.

All views are exact and differentiable in x and in the coefficients. The first use of a basis on a device checks the
transforms there against one cosine (probe.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from fourierft.errors import ConfigError, ShapeError
from fourierft.spectral import ops, plain
from fourierft.spectral.basis import SpectralBasis
from fourierft.spectral.dispatch import choose_view
from fourierft.spectral.eager import is_eager, is_transformed

VIEWS = ("auto", "weight", "token")


def delta_weight(coefficients: Tensor, basis: SpectralBasis, scaling: float) -> Tensor:
    """Dense weight update of one adapter (paper Eq. 2-4).

    Semantics: scaling * ifft2(F).real, F zero except F[u[k], v[k]] = coefficients[k].

    Args:
        coefficients: [n], float32 or float64; half precision is computed in float32.
        basis: entries of an [out, in] weight.
        scaling: dimensionless; the transform itself carries 1 / (out * in).

    Returns: [out, in], dtype of coefficients.

    Raises:
        ShapeError, if coefficients is not [n] for this basis.
        BackendError, if the transforms of this backend are wrong for this shape.
    """
    _check_coefficients(coefficients, basis)
    if coefficients.dim() != 1:
        raise ShapeError(
            f"coefficients are {list(coefficients.shape)}; a dense update takes one set, [{basis.n_frequency}]"
        )
    return (plain if is_transformed() else ops.OPS).delta(coefficients[None], basis.key, scaling)


def spectral_linear(x: Tensor, coefficients: Tensor, basis: SpectralBasis, scaling: float) -> Tensor:
    """x dW^T without building dW: transform, scale the entries, transform back (token view and row view).

    Semantics: y[i] = x[i] @ delta_weight(coefficients[i], basis, scaling).T, coefficients broadcast to the rows of x.

    Args:
        x: [..., in]; half precision is computed in float32.
        coefficients: [n], one set for all rows, or [..., n], whose leading dimensions broadcast against those of x as
            usual: [batch, 1, n] gives each sequence of x [batch, tokens, in] a set of its own.
        basis: entries of an [out, in] weight.
        scaling: dimensionless.

    Returns: [..., out], dtype of x.

    Raises:
        ShapeError, if x or coefficients do not fit the basis or each other.
        BackendError, if the transforms of this backend are wrong for this shape.
    """
    _check_coefficients(coefficients, basis)
    _check_input(x, basis)
    rows, sets, lead = _batch(x, coefficients)
    return _operators(x).token_view(rows, sets, basis.key, scaling, False).view(*lead, basis.out_features)


def spectral_embedding(ids: Tensor, coefficients: Tensor, basis: SpectralBasis, scaling: float) -> Tensor:
    """Rows of dW, without the others: what an embedding [tokens, width] gets beside the rows it looks up.

    Semantics: y[i] = delta_weight(coefficients[i], basis, scaling)[ids[i]], coefficients broadcast to the ids.

    Args:
        ids: [...], integers in 0 .. out - 1.
        coefficients: [n], one set for all ids, or [..., n] as in `spectral_linear`.
        basis: entries of an [out, in] weight: out tokens, in the width.
        scaling: dimensionless.

    Returns: [..., in], float64 if the coefficients are, else float32.

    Raises:
        ShapeError, if ids are no integers, or coefficients do not fit the basis or the ids.
        BackendError, if the transforms of this backend are wrong for this width.
    """
    _check_coefficients(coefficients, basis)
    if ids.is_floating_point() or ids.is_complex() or ids.dtype == torch.bool:
        raise ShapeError(f"ids have the dtype {ids.dtype}; use integers")
    rows, sets, lead = _batch(ids[..., None], coefficients)
    return _operators(ids).lookup_view(rows[..., 0], sets, basis.key, scaling).view(*lead, basis.in_features)


def adapted_linear(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    coefficients: Tensor,
    basis: SpectralBasis,
    scaling: float,
    view: str = "auto",
) -> Tensor:
    """A linear layer with its update: x (W + dW)^T + bias.

    Args:
        x: [..., in].
        weight: [out, in], the base weight; trained too if it requires a gradient.
        bias: [out] or None.
        coefficients: [n], or [..., n] as in `spectral_linear`.
        basis: entries of this shape.
        scaling: dimensionless.
        view: "weight" (one product with W + dW), "token" (base product plus `spectral_linear`), or "auto", the cheaper
            of the two. Only "token" serves several sets of coefficients, and a base product below float32, where W + dW
            would round the update away.

    Returns: [..., out], dtype of the base product.

    Raises:
        ShapeError, if shapes do not fit, or x or coefficients are not floating.
        ConfigError, if the view is unknown or cannot serve these arguments.
        BackendError, if the transforms of this backend are wrong for this shape.
    """
    if view not in VIEWS:
        raise ConfigError(f"view={view!r} is unknown; use one of {', '.join(VIEWS)}")
    if _differ(weight.shape, (basis.out_features, basis.in_features)):
        raise ShapeError(
            f"weight is {list(weight.shape)} but the basis is of a {basis.out_features} x {basis.in_features} weight; "
            "use a basis of the weight's shape"
        )
    if bias is not None and _differ(bias.shape, (basis.out_features,)):
        raise ShapeError(
            f"bias is {list(bias.shape)}; use [{basis.out_features}], one number for each row of the weight"
        )
    _check_coefficients(coefficients, basis)
    _check_input(x, basis)
    dtype = _product_dtype(x, weight)
    if dtype == weight.dtype != x.dtype:
        raise ShapeError(f"x is {x.dtype} but the weight is {weight.dtype}; cast one of them, or use torch.autocast")
    several = coefficients.dim() > 1
    if view == "weight" and (several or dtype not in (torch.float32, torch.float64)):
        reason = f"{list(coefficients.shape)} coefficients" if several else f"a base product in {dtype}"
        raise ConfigError(f"view='weight' cannot serve {reason}; use view='token' or 'auto'")
    if view == "auto":
        tokens = x.numel() // basis.in_features
        view = "token" if several else choose_view(tokens, basis, dtype, x.device)
    if dtype != x.dtype or dtype != weight.dtype:  # autocast casts for the base product alone
        y = F.linear(x, weight, bias)
        return (y + spectral_linear(x, coefficients, basis, scaling)).to(y.dtype)
    rows, sets, lead = _batch(x, coefficients)
    y = _operators(x).adapted(rows, weight, bias, sets, basis.key, scaling, view == "weight")
    return y.view(*lead, basis.out_features)


def _operators(x: Tensor) -> Any:
    """The registered operators; where nothing watches x, the functions under them, which start faster."""
    if is_eager(x):
        return ops
    return plain if is_transformed() else ops.OPS


def _product_dtype(x: Tensor, weight: Tensor) -> torch.dtype:
    """In which the base product runs: autocast, where it is on, decides."""
    device = x.device.type
    autocast = device != "meta" and torch.is_autocast_enabled(device)
    return torch.get_autocast_dtype(device) if autocast else weight.dtype


def _batch(x: Tensor, coefficients: Tensor) -> tuple[Tensor, Tensor, torch.Size]:
    """x as [rows, tokens, in] and coefficients as [rows, n]: tokens are the trailing dimensions that share one set."""
    sets_lead, x_lead = coefficients.shape[:-1], x.shape[:-1]
    if all(size == 1 for size in sets_lead) and len(sets_lead) <= len(x_lead):
        return x.reshape(1, -1, x.shape[-1]), coefficients.reshape(1, -1), x_lead
    try:
        lead = torch.broadcast_shapes(sets_lead, x_lead)
    except RuntimeError:
        raise ShapeError(
            f"coefficients {list(coefficients.shape)} do not broadcast against x {list(x.shape)}; give one set, or as "
            "many as x has rows (for x [batch, tokens, in], coefficients [batch, 1, n])"
        ) from None
    n, padded = coefficients.shape[-1], (1,) * (len(lead) - len(sets_lead)) + tuple(sets_lead)
    split = 1 + max(i for i, size in enumerate(padded) if size != 1) if any(s != 1 for s in padded) else 0
    rows = lead[:split].numel()
    sets = coefficients.reshape(*padded[:split], n).expand(*lead[:split], n).reshape(rows, n)
    return x.expand(*lead, -1).reshape(rows, lead[split:].numel(), x.shape[-1]), sets, lead


def _check_coefficients(coefficients: Tensor, basis: SpectralBasis) -> None:
    if coefficients.dim() < 1 or _differ(coefficients.shape[-1:], (basis.n_frequency,)):
        raise ShapeError(
            f"coefficients are {list(coefficients.shape)} but the basis has n_frequency={basis.n_frequency}; "
            f"use [{basis.n_frequency}], or [..., {basis.n_frequency}] for one set a row"
        )
    _check_floating("coefficients", coefficients)


def _check_input(x: Tensor, basis: SpectralBasis) -> None:
    if x.dim() < 1 or _differ(x.shape[-1:], (basis.in_features,)):
        raise ShapeError(
            f"x is {list(x.shape)} but the weight is {basis.out_features} x {basis.in_features}; "
            f"use x [..., {basis.in_features}]"
        )
    _check_floating("x", x)


def _differ(shape: Sequence[int], expected: tuple[int, ...]) -> bool:
    """Whether a shape is not what it should be; `torch.jit.trace` makes tensors of sizes, and warns of a comparison."""
    return not torch.jit.is_tracing() and tuple(shape) != expected


def _check_floating(name: str, tensor: Tensor) -> None:
    if not tensor.is_floating_point():
        raise ShapeError(f"{name} have the dtype {tensor.dtype}; use float64, float32, bfloat16 or float16")
