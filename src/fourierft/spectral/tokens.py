"""The token view: dW x and its gradients, by the kernel of a device where it serves, else by torch's transforms.

Shapes: x [sets, tokens, in], coefficients [sets, n] (one set a row of the batch). Half precision is computed in
float32.
"""

from __future__ import annotations

from torch import Tensor

from fourierft.spectral import token_transforms
from fourierft.spectral.basis import SpectralBasis
from fourierft.spectral.kernels import kernel_of
from fourierft.spectral.token_transforms import token_dtype


def token_product(
    x: Tensor,
    coefficients: Tensor,
    basis: SpectralBasis,
    scaling: float,
    transposed: bool = False,
    onto: Tensor | None = None,
) -> Tensor:
    """dW x, [sets, tokens, out], in the dtype of x; transposed: dW^T x of x [sets, tokens, out], [sets, tokens, in].

    Given `onto`, of the result's shape, adds to it in place and returns it.
    """
    kernel = kernel_of(basis, token_dtype(x, coefficients), x)
    if kernel is not None:
        return kernel.product(x, coefficients, scaling, transposed, onto)
    return token_transforms.token_product(x, coefficients, basis, scaling, transposed, onto)


def token_gradient(grad: Tensor, x: Tensor, basis: SpectralBasis, scaling: float) -> Tensor:
    """Gradient of the coefficients, [sets, n], from grad [sets, tokens, out] and x [sets, tokens, in]."""
    kernel = kernel_of(basis, token_dtype(x, grad), x)
    if kernel is not None:
        return kernel.gradients(grad, x, None, scaling)[1]
    return token_transforms.token_gradient(grad, x, basis, scaling)


def token_backward(
    grad: Tensor, x: Tensor, coefficients: Tensor, basis: SpectralBasis, scaling: float, onto: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Both gradients of `token_product` from one transform of grad: (that of x, that of the coefficients).

    Given `onto`, of the shape of x, adds the gradient of x to it in place and returns it.
    """
    kernel = kernel_of(basis, token_dtype(x, coefficients), x)
    if kernel is not None:
        grad_x, grad_coefficients = kernel.gradients(grad, x, coefficients, scaling, onto)
        return grad_x, grad_coefficients.to(coefficients.dtype)
    return token_transforms.token_backward(grad, x, coefficients, basis, scaling, onto)
