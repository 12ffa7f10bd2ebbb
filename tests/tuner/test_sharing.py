"""Layers that get one tensor transform it once, and get the gradients that they would get alone."""

from __future__ import annotations

import copy
import gc
import pickle
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from functorch.compile import make_boxed_func
from functorch.compile import min_cut_rematerialization_partition as partition
from peft import get_peft_model
from torch import Tensor, nn
from torch._dynamo.backends.common import aot_autograd
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.checkpoint import checkpoint

from fourierft.spectral.compiled.build import load_kernel
from fourierft.tuner import FourierFTConfig, sharing

pytestmark = pytest.mark.parametrize("kernel", [kernel for kernel in [load_kernel()] if kernel], ids=["compiled"])
WIDTH, INNER = 24, 38


def nothing(x: Any) -> None:
    """Leaves x as it is."""


def plainly(module: nn.Module, x: Tensor) -> Tensor:
    """Calls a module."""
    return module(x)


class Attention(nn.Module):
    """Query, key and value of one tensor, the latter two of one shape; `between` runs before the last."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.v = (nn.Linear(WIDTH, out) for out in (WIDTH, 8, 8))
        self.o = nn.Linear(WIDTH + 16, WIDTH)
        self.between: Callable[[Tensor], object] = nothing
        self.call: Callable[[nn.Module, Tensor], Tensor] = plainly

    def forward(self, x: Tensor) -> Tensor:
        q, k = self.call(self.q, x), self.call(self.k, x)
        changed = self.between(x)
        v = self.call(self.v, changed if isinstance(changed, Tensor) and changed is not x else x)
        return self.o(torch.cat([q, k, v], -1).tanh())


class Block(nn.Module):
    """Attention, then gate, up and down."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = Attention()
        self.gate, self.up, self.down = nn.Linear(WIDTH, INNER), nn.Linear(WIDTH, INNER), nn.Linear(INNER, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(x * 1.5)
        return x + self.down(self.gate(x).sigmoid() * self.up(x))


class Model(nn.Module):
    """Two blocks; `run` calls each."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList([Block(), Block()])
        self.run: Callable[[nn.Module, Tensor], Tensor] = plainly

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = self.run(block, x)
        return x


LAYERS = ["q", "k", "v", "o", "gate", "up", "down"]


def adapted(dtype: torch.dtype = torch.float32, **settings: Any) -> Any:
    torch.manual_seed(3)
    usual = {"n_frequency": 30, "scaling": 60.0, "init_weights": False, "target_modules": LAYERS}
    return get_peft_model(Model().to(dtype), FourierFTConfig(**usual | settings))


def tokens(dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(3, 7, WIDTH, generator=torch.Generator().manual_seed(4)).to(dtype).requires_grad_()


def inner(model: Any) -> Model:
    return model.base_model.model


class Transforms(TorchDispatchMode):
    """Counts transforms of inputs."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += function is torch.ops.fourierft.hold.default
        return function(*args, **(kwargs or {}))


@contextmanager
def unshared() -> Iterator[None]:
    """Inside, every layer transforms its input itself, by the operators that hold nothing."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sharing, "can_hold", lambda *_: False)
        yield


@contextmanager
def alone() -> Iterator[None]:
    """Inside, every layer transforms its input itself, and holds it; an input may be written to, as none is saved."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sharing._Input, "is_of", lambda *_: False)
        yield


def step(model: Any, dtype: torch.dtype = torch.float32, **named: Any) -> dict[str, Tensor]:
    """The output, and the gradients of a training step."""
    model.zero_grad()
    x = tokens(dtype)
    y = model(x, **named)
    (y.float() * torch.linspace(-1, 1, y.numel()).view(y.shape)).sum().backward()
    trained = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    return {"y": y.detach(), "x": x.grad, **trained}


def gradients_of(y: Tensor, x: Tensor) -> dict[str, Tensor]:
    return {"y": y.detach(), "x": torch.autograd.grad(y.sum(), x)[0]}


def assert_same(found: dict[str, Tensor], expected: dict[str, Tensor], tolerance: float = 1e-5) -> None:
    assert found.keys() == expected.keys()
    assert len(found) > 1
    for name, truth in expected.items():
        error = (found[name] - truth).double().abs().max() / truth.double().abs().max()
        assert error <= tolerance, f"{name} differs by {error:.1e}"


def check(
    model: Any, transforms: int | None = None, tolerance: float = 1e-5, without: Any = unshared, **named: Any
) -> None:
    with Transforms() as seen:
        found = step(model, **named)
    with without():
        assert_same(found, step(model, **named), tolerance)
    if transforms is not None:
        assert seen.count == transforms


def test_what_is_the_same_tensor_is_transformed_once(kernel) -> None:
    check(adapted(), transforms=2 * 4)


def test_a_layer_alone_transforms_for_itself(kernel) -> None:
    check(adapted(target_modules=["q", "down"]), transforms=2 * 2)


@pytest.mark.parametrize("reentrant", [True, False])
def test_checkpointed_blocks_get_the_same_gradients(kernel, reentrant: bool) -> None:
    model = adapted()
    inner(model).run = lambda block, x: checkpoint(block, x, use_reentrant=reentrant)
    check(model)


@pytest.mark.parametrize("reentrant", [True, False])
def test_checkpointed_layers_get_the_same_gradients(kernel, reentrant: bool) -> None:
    model = adapted()
    for block in inner(model).blocks:
        block.attention.call = lambda layer, x: checkpoint(layer, x, use_reentrant=reentrant)
    check(model)


def test_layers_of_which_one_alone_is_checkpointed_get_the_same_gradients(kernel) -> None:
    model = adapted()
    for block in inner(model).blocks:
        block.attention.call = lambda layer, x, own=block.attention.k: (
            checkpoint(layer, x, use_reentrant=False) if layer is own else layer(x)
        )
    check(model)


def test_a_compiled_model_gets_the_same_gradients_from_as_few_transforms(kernel) -> None:
    model, graphs = adapted(), []

    def keep(graph: torch.fx.GraphModule, _: Any) -> Callable[..., Any]:
        graphs.append(graph)
        return make_boxed_func(graph.forward)

    torch._dynamo.reset()
    found = step(torch.compile(model, backend=aot_autograd(fw_compiler=keep, partition_fn=partition), fullgraph=True))
    with unshared():
        assert_same({name.replace("_orig_mod.", ""): value for name, value in found.items()}, step(model))
    transforms = [node for node in graphs[0].graph.nodes if node.target is torch.ops.fourierft.hold.default]
    assert len(transforms) == 2 * 4


def test_distributed_training_gets_the_same_gradients(kernel, tmp_path: Path) -> None:
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        check(nn.parallel.DistributedDataParallel(adapted()), transforms=2 * 4)
    finally:
        torch.distributed.destroy_process_group()


def test_autocast_gives_the_same_gradients(kernel) -> None:
    model = adapted()
    with torch.autocast("cpu", torch.bfloat16):
        check(model, transforms=2 * 4, tolerance=2e-2)


def test_a_half_precision_base_gives_the_same_gradients(kernel) -> None:
    check(adapted(torch.bfloat16), transforms=2 * 4, tolerance=2e-2, dtype=torch.bfloat16)


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
    check(model, transforms=2 * 5)


def test_an_input_that_is_made_to_want_a_gradient_between_two_layers_gets_it(kernel) -> None:
    attention = inner(adapted()).blocks[0].attention
    attention.between = lambda x: x.requires_grad_()
    found = []
    for without in (nullcontext, unshared):
        attention.zero_grad()
        x = tokens().detach()
        with without():
            attention(x).pow(2).sum().backward()
        found.append({"x": x.grad, **{n: p.grad for n, p in attention.named_parameters() if p.grad is not None}})
    assert_same(*found)


def test_several_active_adapters_share_too(kernel) -> None:
    model = adapted()
    for name, seed in (("second", 777), ("third", 5)):
        settings = {"n_frequency": 20, "scaling": 60.0, "init_weights": False, "random_loc_seed": seed}
        model.add_adapter(name, FourierFTConfig(**settings, target_modules=LAYERS))
    model.base_model.set_adapter(["default", "second", "third"])
    check(model, transforms=2 * 4)


def test_mixed_rows_get_the_same_gradients(kernel) -> None:
    model = adapted()
    model.add_adapter("second", FourierFTConfig(n_frequency=20, scaling=9.0, init_weights=False, target_modules=LAYERS))
    for name, parameter in model.named_parameters():
        parameter.requires_grad_("fourierft" in name)
    check(model.eval(), adapter_names=["default", "second", "__base__"])


def test_transforms_of_torch_func_give_the_same_gradients(kernel) -> None:
    model = adapted()
    trained, x = {name: p.detach() for name, p in model.named_parameters() if p.requires_grad}, tokens().detach()

    def loss(parameters: dict[str, Tensor]) -> Tensor:
        return torch.func.functional_call(model, parameters, (x,)).square().sum()

    found = torch.func.grad(loss)(trained)
    with unshared():
        assert_same(found, torch.func.grad(loss)(trained))


def test_two_threads_do_not_take_each_others_inputs(kernel) -> None:
    model, results = adapted(), {}
    inputs = {name: tokens().detach() * scale for name, scale in (("a", 1.0), ("b", -2.0))}
    barrier = threading.Barrier(2)
    for block in inner(model).blocks:
        block.attention.between = lambda x: barrier.wait(20)

    def run(name: str) -> None:
        x = inputs[name].clone().requires_grad_()
        y = model(x)
        results[name] = gradients_of(y, x)

    threads = [threading.Thread(target=run, args=(name,)) for name in inputs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for block in inner(model).blocks:
        block.attention.between = nothing
    for name, x in inputs.items():
        x = x.clone().requires_grad_()
        with unshared():
            y = model(x)
            assert_same(results[name], gradients_of(y, x))


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
        with Transforms() as seen:
            attention(tokens())
        assert seen.count == 2
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
