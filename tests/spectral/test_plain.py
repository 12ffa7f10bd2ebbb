"""Transforms of `torch.func` and forward-mode gradients go through the views, with the right values."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import forward_ad
from torch.func import grad, hessian, jacfwd, jacrev, jvp, vmap

from fourierft.spectral import (
    adapted_linear,
    delta_weight,
    plain,
    spectral_embedding,
    spectral_linear,
    uniform_basis,
)
from fourierft.spectral.ops import OPS

# what torch says of its own decompositions for forward-mode gradients
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")
SHAPES = [(1, 9, 4), (9, 1, 4), (4, 6, 24), (7, 5, 20)]  # out, in, n
VIEWS = ["adapted", "token", "delta", "lookup"]


@pytest.fixture(params=VIEWS)
def pair(request: pytest.FixtureRequest, layer) -> tuple[Callable[[Tensor, Tensor], Tensor], Callable, Tensor]:
    """A view of x and c, the same by a dense update that torch differentiates itself, and x [2, 3, in]; float64."""
    basis, scaling, n = layer.basis, layer.scaling, layer.basis.n_frequency
    atoms = torch.stack([layer.true_delta(row) for row in torch.eye(n, dtype=torch.float64)])  # [n, out, in]
    x = torch.randn(2, 3, basis.in_features, dtype=torch.float64)
    ids = torch.arange(6).view(2, 3) % basis.out_features

    def dense(c: Tensor) -> Tensor:
        return torch.tensordot(c, atoms, 1)

    views = {
        "adapted": (
            lambda x, c: adapted_linear(x, layer.weight, layer.bias, c, basis, scaling),
            lambda x, c: F.linear(x, layer.weight + dense(c), layer.bias),
        ),
        "token": (lambda x, c: spectral_linear(x, c, basis, scaling), lambda x, c: F.linear(x, dense(c))),
        "delta": (lambda x, c: x @ delta_weight(c, basis, scaling).T, lambda x, c: x @ dense(c).T),
        "lookup": (
            lambda x, c: spectral_embedding(ids, c, basis, scaling) * x.sum(),
            lambda x, c: dense(c)[ids] * x.sum(),
        ),
    }
    return *views[request.param], x


def assert_same(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10 * max(1.0, float(expected.abs().max())))


@pytest.mark.parametrize("layer", SHAPES, indirect=True, ids=str)
def test_gradients_and_tangents_are_those_of_the_dense_update(pair, layer) -> None:
    view, truth, x = pair
    c, dx, dc = layer.coefficients, torch.randn_like(x), torch.randn_like(layer.coefficients)
    for argnum in (0, 1):
        found, expected = (grad(lambda x, c, f=f: f(x, c).sin().sum(), argnum)(x, c) for f in (view, truth))
        assert_same(found, expected)
    for found, expected in zip(*(jvp(f, (x, c), (dx, dc)) for f in (view, truth)), strict=True):
        assert_same(found, expected)


@pytest.mark.parametrize("gradients", [True, False])
def test_dual_tensors_keep_their_tangents(small, gradients: bool) -> None:
    x, c, dx, dc = (torch.randn(*shape, dtype=torch.float64) for shape in [(4, 6), (9,), (4, 6), (9,)])

    def product(x: Tensor, c: Tensor) -> Tensor:
        return adapted_linear(x, small.weight, small.bias, c, small.basis, small.scaling)

    with torch.set_grad_enabled(gradients), forward_ad.dual_level():
        y = forward_ad.unpack_dual(product(forward_ad.make_dual(x, dx), forward_ad.make_dual(c, dc)))
    weight = small.weight + small.true_delta(c)
    assert_same(y.primal, x @ weight.T + small.bias)
    assert_same(y.tangent, dx @ weight.T + x @ small.true_delta(dc).T)


def test_sets_of_coefficients_are_a_dimension_to_map_over(small) -> None:
    x, sets = torch.randn(4, 6, dtype=torch.float64), torch.randn(3, 9, dtype=torch.float64)
    found = vmap(lambda c: adapted_linear(x, small.weight, None, c, small.basis, small.scaling))(sets)
    for y, c in zip(found, sets, strict=True):
        assert_same(y, x @ (small.weight + small.true_delta(c)).T)


def test_gradients_of_each_sample_are_those_of_the_sample_alone(small) -> None:
    x = torch.randn(5, 3, 6, dtype=torch.float64)

    def loss(c: Tensor, x: Tensor) -> Tensor:
        return spectral_linear(x, c, small.basis, small.scaling).square().sum()

    found = vmap(grad(loss), (None, 0))(small.coefficients, x)
    for row, sample in zip(found, x, strict=True):
        y = sample @ small.true_delta().T
        assert_same(row, small.true_coefficient_gradient(2 * y, sample))


def test_jacobians_and_hessians_agree_both_ways(small) -> None:
    x, c = torch.randn(6, dtype=torch.float64), small.coefficients

    def product(x: Tensor) -> Tensor:
        return adapted_linear(x, small.weight, small.bias, c, small.basis, small.scaling)

    weight = small.weight + small.true_delta()
    assert_same(jacrev(product)(x), weight)
    assert_same(jacfwd(product)(x), weight)
    atoms = torch.stack([small.true_delta(row) @ x for row in torch.eye(9, dtype=torch.float64)])
    found = hessian(lambda c: spectral_linear(x, c, small.basis, small.scaling).square().sum())(c)
    assert_same(found, 2 * atoms @ atoms.T)


def test_a_compiled_transform_gives_the_same() -> None:
    basis, c = uniform_basis(9, 12, 30, 4321), torch.randn(30)
    torch._dynamo.reset()

    def gradient(x: Tensor) -> Tensor:
        return grad(lambda x: spectral_linear(x, c, basis, 2.0).square().sum())(x)

    x = torch.randn(4, 12)
    torch.testing.assert_close(torch.compile(gradient, fullgraph=True, backend="aot_eager")(x), gradient(x))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_each_function_gives_what_its_operator_gives(small, dtype: torch.dtype) -> None:
    key, c = small.basis.key, torch.randn(3, 9)
    x, grad, ids = torch.randn(3, 4, 6).to(dtype), torch.randn(3, 4, 5).to(dtype), torch.randint(5, (3, 4))
    weight, bias = torch.randn(5, 6).to(dtype), torch.randn(5).to(dtype)
    for name, arguments in [
        ("token_view", (x, c, key, 2.0, False)),
        ("token_view", (grad, c, key, 2.0, True)),
        ("lookup_view", (ids, c, key, 2.0)),
        ("delta", (c[:1], key, 2.0)),
        ("adapted", (x, weight, bias, c, key, 2.0, False)),
    ]:
        found, expected = getattr(plain, name)(*arguments), getattr(OPS, name)(*arguments)
        assert found.dtype == expected.dtype
        tolerance = 1e-5 if dtype == torch.float32 else 2e-2
        torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance)
