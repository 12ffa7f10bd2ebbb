"""The views under what torch does to a layer: compiling, autocast, checkpointing, meta tensors, threads of autograd."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint

from fourierft import adapted_linear, delta_weight, spectral_linear, uniform_basis
from fourierft.spectral import dispatch, ops, views

from .adapted import Adapted


def make_model(view: str) -> nn.Sequential:
    first, second = uniform_basis(18, 12, 30, 1), uniform_basis(7, 18, 20, 1)
    return nn.Sequential(Adapted(first, view), nn.GELU(), Adapted(second, view))


def gradients(model: nn.Module, run: Callable[[torch.Tensor], torch.Tensor], x: torch.Tensor) -> list[torch.Tensor]:
    """Output, and gradients of x and of all coefficients."""
    x = x.detach().requires_grad_()
    trained = [p for p in model.parameters() if p.requires_grad]
    y = run(x)
    return [y, *torch.autograd.grad(y.square().sum(), [x, *trained])]


@pytest.fixture
def fresh_compiler() -> Iterator[None]:
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


@pytest.mark.parametrize("view", ["weight", "token", "auto"])
def test_a_compiled_model_gives_the_same_and_trains_the_same(fresh_compiler: None, view: str) -> None:
    model = make_model(view)
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    x = torch.randn(4, 5, 12)
    for expected, found in zip(gradients(model, model, x), gradients(model, compiled, x), strict=True):
        torch.testing.assert_close(found, expected)
    with torch.no_grad():
        torch.testing.assert_close(compiled(x), model(x))
    with torch.inference_mode():
        torch.testing.assert_close(compiled(x), model(x))


def test_a_compiled_function_takes_any_number_of_tokens(fresh_compiler: None) -> None:
    model = make_model("token")
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager", dynamic=True)
    for tokens in (3, 5, 17, 48):
        x = torch.randn(tokens, 12)
        for expected, found in zip(gradients(model, model, x), gradients(model, compiled, x), strict=True):
            torch.testing.assert_close(found, expected)


def test_two_bases_live_in_one_compiled_function(fresh_compiler: None) -> None:
    first, second = uniform_basis(9, 12, 30, 1), uniform_basis(9, 12, 30, 2)

    def both(x: torch.Tensor, c: torch.Tensor) -> torch.Tensor:
        rows = spectral_linear(x, c.expand(4, 1, 30), second, 3.0)
        return spectral_linear(x, c, first, 2.0) + rows + F.linear(x, delta_weight(c, second, 5.0))

    compiled = torch.compile(both, fullgraph=True, backend="aot_eager")
    x, c = torch.randn(4, 3, 12), torch.randn(30, requires_grad=True)
    expected, found = both(x, c), compiled(x, c)
    torch.testing.assert_close(found, expected)
    grad = torch.randn_like(expected)
    torch.testing.assert_close(*(torch.autograd.grad(y, c, grad)[0] for y in (found, expected)))


def test_swapping_the_basis_of_a_compiled_layer_is_noticed(fresh_compiler: None) -> None:
    layer = Adapted(uniform_basis(9, 12, 30, 1), "token")
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    x = torch.randn(4, 12)
    before = compiled(x)
    layer.basis = uniform_basis(9, 12, 30, 2)
    torch.testing.assert_close(compiled(x), layer(x))
    assert not torch.allclose(compiled(x), before)


# Autocast


def test_autocast_never_uses_the_one_product_view(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dispatch, "_dense_cost", lambda *_: 0.0)  # otherwise the cheaper one
    chosen: list[str] = []
    choose = views.choose_view
    monkeypatch.setattr(views, "choose_view", lambda *arguments: chosen.append(choose(*arguments)) or chosen[-1])
    layer, x = Adapted(uniform_basis(9, 12, 30, 1), "auto"), torch.randn(4, 12)
    layer(x)
    with torch.autocast("cpu", torch.bfloat16):
        y = layer(x)
    layer(x)
    assert chosen == ["weight", "token", "weight"]
    assert y.dtype == torch.bfloat16


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_autocast_adds_a_float32_update_and_rounds_once(dtype: torch.dtype) -> None:
    layer, x = Adapted(uniform_basis(9, 12, 30, 1), "auto"), torch.randn(4, 12).to(dtype)
    with torch.autocast("cpu", torch.bfloat16):
        y = layer(x)
        y.float().sum().backward()
    update = spectral_linear(x, layer.coefficients, layer.basis, 20.0)
    assert update.dtype == dtype
    base = F.linear(x.bfloat16(), layer.weight.bfloat16(), layer.bias.bfloat16())
    assert torch.equal(y, (base + update).bfloat16())
    assert layer.coefficients.grad.dtype == torch.float32
    expected = torch.autograd.grad(update.float().sum(), layer.coefficients)[0]
    torch.testing.assert_close(layer.coefficients.grad, expected, rtol=1e-2, atol=1e-2 * expected.abs().max().item())


# Checkpointing, threads, meta tensors


@pytest.mark.parametrize("reentrant", [True, False])
@pytest.mark.parametrize("view", ["weight", "token", "auto"])
def test_checkpointing_gives_the_same_gradients(view: str, reentrant: bool) -> None:
    model, x = make_model(view), torch.randn(4, 5, 12)
    plain = gradients(model, model, x)
    again = x.detach().requires_grad_()
    trained = [p for p in model.parameters() if p.requires_grad]
    y = checkpoint(model, again, use_reentrant=reentrant)
    y.square().sum().backward()
    for expected, found in zip(plain, [y, again.grad, *(p.grad for p in trained)], strict=True):
        torch.testing.assert_close(found, expected, rtol=0, atol=0)


def test_a_step_without_gradients_takes_the_plain_functions(monkeypatch: pytest.MonkeyPatch) -> None:
    model, x = make_model("token"), torch.randn(4, 12)
    expected = model(x).detach()
    monkeypatch.setattr(ops, "OPS", None)
    with torch.no_grad():
        torch.testing.assert_close(model(x), expected, rtol=0, atol=0)


@pytest.mark.parametrize("grad", [True, False])
@pytest.mark.parametrize("view", ["weight", "token", "auto"])
def test_meta_tensors_pass_by_shape_alone(view: str, grad: bool) -> None:
    model = make_model(view).to("meta")
    with torch.set_grad_enabled(grad):
        y = model(torch.randn(4, 5, 12, device="meta"))
    assert y.is_meta
    assert y.shape == (4, 5, 7)


def test_gradients_accumulate_over_two_uses_of_one_set(small, assert_close: Callable) -> None:
    c = small.coefficients.clone().requires_grad_()
    x, z = torch.randn(4, 6, dtype=torch.float64), torch.randn(3, 6, dtype=torch.float64)
    (
        spectral_linear(x, c, small.basis, small.scaling).sum() + delta_weight(c, small.basis, small.scaling).sum()
    ).backward()
    tokens = torch.cat([x, torch.eye(6, dtype=torch.float64)])
    assert_close(c.grad, small.true_coefficient_gradient(torch.ones(10, 5, dtype=torch.float64), tokens))
    first = c.grad.clone()
    spectral_linear(z, c, small.basis, small.scaling).sum().backward()
    assert_close(c.grad - first, small.true_coefficient_gradient(torch.ones(3, 5, dtype=torch.float64), z))


@pytest.mark.parametrize("size", [384, 768])
def test_two_threads_give_the_same(two_threads: None, make_layer: Callable, size: int, assert_close: Callable) -> None:
    layer = make_layer(size, size, 10)
    x, c = torch.randn(2, 96, size), layer.coefficients.float().requires_grad_()
    delta = layer.true_delta()
    assert_close(delta_weight(c, layer.basis, layer.scaling), delta)
    for view in ("weight", "token"):
        y = adapted_linear(x, layer.weight.float(), None, c, layer.basis, layer.scaling, view)
        assert_close(y, x.double() @ (layer.weight + delta).T)
        grad, c.grad = torch.randn_like(y), None
        y.backward(grad)
        assert_close(c.grad, layer.true_coefficient_gradient(grad, x))
