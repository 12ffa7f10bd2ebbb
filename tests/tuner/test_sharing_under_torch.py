"""Shared inputs under checkpoints, compilation, several processes and threads, and low precision."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from functorch.compile import make_boxed_func
from functorch.compile import min_cut_rematerialization_partition as partition
from torch import Tensor, nn
from torch._dynamo.backends.common import aot_autograd
from torch.utils.checkpoint import checkpoint

from fourierft.spectral.compiled.build import load_kernel

from .sharing_models import adapted, assert_same, check, gradients_of, inner, nothing, step, tokens, unshared

pytestmark = pytest.mark.parametrize("kernel", [kernel for kernel in [load_kernel()] if kernel], ids=["compiled"])


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
        block.attention.between = lambda x: barrier.wait(600)

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
