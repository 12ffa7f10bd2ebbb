"""Layers that get one tensor transform it once, and get the gradients that they would get alone."""

from __future__ import annotations

import copy
import gc
import pickle
import weakref
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import numpy as np
import pytest
import torch
from peft import get_peft_model
from torch import Tensor, nn

from fourierft.spectral.compiled.build import load_kernel
from fourierft.tuner import FourierFTConfig

from .sharing_models import (
    LAYERS,
    WIDTH,
    Attention,
    Model,
    adapted,
    alone,
    assert_same,
    check,
    counted,
    inner,
    nothing,
    step,
    tokens,
    unshared,
)

pytestmark = pytest.mark.parametrize("kernel", [kernel for kernel in [load_kernel()] if kernel], ids=["compiled"])


def test_what_is_the_same_tensor_is_transformed_once(kernel) -> None:
    check(adapted(), transforms=2 * 4)


def test_a_layer_alone_transforms_for_itself(kernel) -> None:
    check(adapted(target_modules=["q", "down"]), transforms=2 * 2)


@pytest.mark.parametrize("kind", ["another tensor", "in place", "past autograd"])
@pytest.mark.parametrize("place", ["layer", "base layer"])
def test_hooks_that_change_an_input_are_seen(kernel, kind: str, place: str) -> None:
    model = adapted()

    def change(_: nn.Module, args: tuple[Tensor]) -> tuple[Tensor] | None:
        if kind == "another tensor":
            return (args[0] * 2,)
        (args[0] if kind == "in place" else args[0].data).mul_(2)
        return None

    for block in inner(model).blocks:
        layer = block.attention.v
        (layer if place == "layer" else layer.base_layer).register_forward_pre_hook(change)
    without = unshared if kind == "another tensor" else alone
    check(model, 2 * 4 + (0 if place == "base layer" and kind == "another tensor" else 2), without=without)


@pytest.mark.parametrize(
    "write",
    [
        lambda x: x.mul_(-1),
        lambda x: x.data.mul_(-1),
        lambda x: x.data.__setitem__((0, 0, 0), 9.0),
        lambda x: np.multiply(x.detach().numpy(), 2, out=x.detach().numpy()),
        lambda x: x.view(-1)[5:9].zero_(),
    ],
    ids=["in place", "data", "one number", "numpy", "a view"],
)
def test_what_is_written_between_two_layers_is_seen(kernel, write: Callable[[Tensor], object]) -> None:
    model = adapted()
    for block in inner(model).blocks:
        block.attention.between = lambda x: nothing(write(x))
    check(model, transforms=2 * 5, without=alone)


def test_an_equal_tensor_is_another_input(kernel) -> None:
    model = adapted()
    for block in inner(model).blocks:
        block.attention.between = lambda x: x.clone()
    check(model, transforms=2 * 5)


@pytest.mark.parametrize("frozen", ["q", "k", "v", "gate", "down"])
def test_a_frozen_layer_among_trained_ones_gets_no_gradient(kernel, frozen: str) -> None:
    model = adapted()
    for name, parameter in model.named_parameters():
        if f".{frozen}." in name:
            parameter.requires_grad_(False)
    check(model, transforms=2 * 4)


def test_an_input_that_is_first_used_without_gradients_gets_them_later(kernel) -> None:
    model = adapted()

    def first_without(layer: nn.Module, x: Tensor) -> Tensor:
        if layer in [block.attention.q for block in inner(model).blocks]:
            with torch.no_grad():
                layer(x)
        return layer(x)

    for block in inner(model).blocks:
        block.attention.call = first_without
    check(model)


def test_an_input_that_is_made_to_want_a_gradient_between_two_layers_gets_it(kernel) -> None:
    attention = inner(adapted()).blocks[0].attention
    attention.between = lambda x: x.requires_grad_()
    found: list[dict[str, Any]] = []
    for without in (nullcontext, unshared):
        attention.zero_grad()
        x = tokens().detach()
        with without():
            attention(x).pow(2).sum().backward()
        found.append({"x": x.grad, **{n: p.grad for n, p in attention.named_parameters() if p.grad is not None}})
    assert_same(found[0], found[1])


def test_several_active_adapters_share_too(kernel) -> None:
    model = adapted()
    for name, seed in (("second", 777), ("third", 5)):
        settings: dict[str, Any] = {"n_frequency": 20, "scaling": 60.0, "init_weights": False, "random_loc_seed": seed}
        model.add_adapter(name, FourierFTConfig(**settings, target_modules=LAYERS))
    model.base_model.set_adapter(["default", "second", "third"])
    check(model, transforms=2 * 4)


def test_mixed_rows_get_the_same_gradients(kernel) -> None:
    model = adapted()
    model.add_adapter("second", FourierFTConfig(n_frequency=20, scaling=9.0, init_weights=False, target_modules=LAYERS))
    for name, parameter in model.named_parameters():
        parameter.requires_grad_("fourierft" in name)
    check(model.eval(), adapter_names=["default", "second", "__base__"])


@pytest.mark.parametrize("fails", [False, True])
def test_nothing_is_held_when_the_module_is_done(kernel, fails: bool) -> None:
    model, seen = adapted(), []

    def between(x: Tensor) -> None:
        seen.append(weakref.ref(x))
        if fails:
            raise ArithmeticError

    attention = inner(model).blocks[0].attention
    attention.between = between
    x = tokens() * 1.0
    if fails:
        with pytest.raises(ArithmeticError):
            attention(x)
    else:
        attention(x)
    assert seen[0]() is x
    del x
    gc.collect()
    assert seen[0]() is None
    assert not attention.q.shared_inputs._last


def test_a_copy_of_a_model_shares_for_itself(kernel) -> None:
    model = adapted()
    truth = step(model)
    for copied in (copy.deepcopy(model), pickle.loads(pickle.dumps(inner(model).blocks[0].attention))):
        attention = copied if isinstance(copied, Attention) else inner(copied).blocks[0].attention
        assert attention.q.shared_inputs is attention.k.shared_inputs
        assert attention.q.shared_inputs is not inner(model).blocks[0].attention.q.shared_inputs
        with counted() as seen:
            attention(tokens())
        assert len(seen) == 2
    assert_same(step(copy.deepcopy(model)), truth)


def test_an_unloaded_model_has_no_hooks_left(kernel) -> None:
    model = adapted()
    assert inner(model).blocks[0]._forward_hooks
    base = model.unload()
    for module in base.modules():
        assert not module._forward_hooks
        assert not module._forward_pre_hooks
        assert not module._forward_hooks_always_called


def test_what_is_saved_for_the_backward_pass_is_less_than_for_lora(kernel) -> None:
    from peft import LoraConfig

    def saved(model: Any) -> int:
        fixed = {p.untyped_storage().data_ptr() for p in model.parameters()}
        storages: dict[int, int] = {}

        def pack(tensor: Tensor) -> Tensor:
            if tensor.untyped_storage().data_ptr() not in fixed:
                storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
            y = model(torch.randn(64, WIDTH, requires_grad=True))
        assert y.requires_grad
        return sum(storages.values())

    torch.manual_seed(3)
    lora = get_peft_model(Model(), LoraConfig(r=8, target_modules=LAYERS))
    assert saved(adapted()) <= saved(lora)
