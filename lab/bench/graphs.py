"""Graphs of a GPU's work: captured and replayed; without a GPU, what would keep them from being captured is found."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from fourierft.errors import BackendError
from fourierft.spectral import ops, prepared, tokens

READ_BY_THE_HOST = ("aten::_local_scalar_dense", "aten::equal", "aten::is_nonzero", "aten::item")
SHAPED_BY_NUMBERS = (
    "aten::nonzero",
    "aten::masked_select",
    "aten::_unique",
    "aten::bincount",
    "aten::unique",
    "aten::repeat_interleave",
)
MADE_BY_THE_HOST = ("aten::lift_fresh", "aten::_pin_memory")


class Captured(TorchDispatchMode):
    """Inside, work that no graph of a GPU could hold is refused, on any device.

    That is: numbers of a tensor read by the host, shapes that follow from numbers, tensors made of lists, and copies
    from one device to another. The operators of this package are looked into.

    Raises: BackendError, from such work.
    """

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict[str, Any] | None = None) -> Any:
        name = func._schema.name
        if name.startswith(READ_BY_THE_HOST + SHAPED_BY_NUMBERS + MADE_BY_THE_HOST) or _is_masked(name, args):
            raise BackendError(f"{name} cannot be captured in a graph")
        if name.startswith("fourierft::"):
            with self:
                return getattr(ops, name.removeprefix("fourierft::"))(*args, **kwargs or {})
        return func(*args, **kwargs or {})


def _is_masked(name: str, args: tuple) -> bool:
    """Whether an index is a mask, which counts its numbers."""
    if not name.startswith(("aten::index", "aten::_index")) or len(args) < 2 or not isinstance(args[1], (list, tuple)):
        return False
    return any(isinstance(index, Tensor) and index.dtype in (torch.bool, torch.uint8) for index in args[1])


@contextmanager
def by_torch() -> Iterator[None]:
    """Inside, torch's transforms are used, which `Captured` can watch: not the kernel of the CPU, which it cannot."""
    with ExitStack() as stack:
        for module in (tokens, prepared):
            stack.enter_context(patch.object(module, "kernel_of", lambda *_: None))
        yield


class Graph:
    """Work captured once, and replayed on whatever stands in the memory it reads.

    On a CPU it is run under `Captured`, and a replay runs it again.

    Args:
        work: reads and writes memory that stays where it is; gives a tensor.
        device: it runs on.
    """

    def __init__(self, work: Callable[[], Tensor], device: str) -> None:
        self._work, self._graph = work, None
        if device == "cpu":
            with by_torch():
                work()
                with Captured():
                    self.result = work()
            return
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):  # first use compares, and puts tables on the device
            for _ in range(2):
                work()
        torch.cuda.current_stream().wait_stream(side)
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph):
            self.result = work()

    def replay(self) -> Tensor:
        """The result, in the memory of the last replay."""
        if self._graph is None:
            self.result = self._work()
        else:
            self._graph.replay()
        return self.result
