"""An adapter as one row of numbers, in the order in which a graph takes it: coefficients layer by layer, then heads."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from fourierft.errors import ExportError
from fourierft.format.checkpoint import AdapterCheckpoint, read_checkpoint
from fourierft.spectral import SpectralBasis
from fourierft.store import AdapterStore


class Part(NamedTuple):
    """A stretch of the row: [start, stop).

    Fields:
        start: where it begins.
        shape: of a head's parameter; of a layer [n].
    """

    start: int
    shape: tuple[int, ...]

    @property
    def stop(self) -> int:
        """Where it ends."""
        return self.start + math.prod(self.shape)

    def take(self, rows: Tensor) -> Tensor:
        """This part of rows [batch, numbers], as [batch, *shape]."""
        return rows[:, self.start : self.stop].unflatten(1, self.shape)


class Order(NamedTuple):
    """The order of an adapter's numbers.

    Fields:
        layers: layer name -> its coefficients, which the graph takes with the scaling and 1 / (out in) multiplied in.
        heads: parameter name in the base -> its values.
        bases: layer name -> its entries.
        length: numbers of an adapter.
    """

    layers: dict[str, Part]
    heads: dict[str, Part]
    bases: dict[str, SpectralBasis]
    length: int


def order_of(checkpoint: AdapterCheckpoint, shapes: dict[str, tuple[int, int]]) -> Order:
    """The order of an adapter's numbers.

    Args:
        checkpoint: the adapter.
        shapes: layer name -> (out_features, in_features) in the base.
    """
    layers, heads, bases, start = {}, {}, {}, 0
    for name in sorted(checkpoint.coefficients):
        n = checkpoint.coefficients[name].shape[-1]
        layers[name], bases[name] = Part(start, (n,)), checkpoint.basis(*shapes[name], n)
        start += n
    for name in sorted(checkpoint.saved_modules):
        heads[name] = Part(start, tuple(checkpoint.saved_modules[name].shape))
        start = heads[name].stop
    return Order(layers, heads, bases, start)


def flatten(checkpoint: AdapterCheckpoint, order: Order) -> Tensor:
    """The row of an adapter, float32 [numbers].

    Raises: ExportError, if it has another order.
    """
    shapes = {name: (basis.out_features, basis.in_features) for name, basis in order.bases.items()}
    if set(checkpoint.coefficients) != set(order.layers) or order_of(checkpoint, shapes) != order:
        raise ExportError(
            f"{checkpoint.path} has other layers, n_frequency, entries or heads than "
            "the first adapter, but one graph needs the same; export it alone"
        )
    row = torch.empty(order.length)
    for name, part in order.layers.items():
        basis = order.bases[name]
        scale = checkpoint.scaling / (basis.out_features * basis.in_features)
        row[part.start : part.stop] = (checkpoint.coefficients[name].double() * scale).float()
    for name, part in order.heads.items():
        row[part.start : part.stop] = checkpoint.saved_modules[name].float().flatten()
    return row


@contextmanager
def open_adapters(sources: Sequence[str | Path]) -> Iterator[dict[str, AdapterCheckpoint]]:
    """Adapters by name: of a folder or hub id its last part, of a store all that it has.

    Raises: ExportError, if two have one name. CheckpointError or StoreError, if one is missing or damaged.
    """
    with tempfile.TemporaryDirectory() as scratch:
        found: dict[str, AdapterCheckpoint] = {}
        for source in sources:
            for name, path in _unpack(source, Path(scratch)):
                if name in found:
                    raise ExportError(f"two adapters have the name {name}; rename one folder")
                found[name] = read_checkpoint(path)
        yield found


def _unpack(source: str | Path, scratch: Path) -> Iterator[tuple[str, str | Path]]:
    if "://" not in str(source) and not Path(source).is_file():
        yield Path(source).resolve().name, source
        return
    with AdapterStore(source, create=False) as store:
        for number, name in enumerate(store.names()):
            folder = scratch / f"{len(list(scratch.iterdir()))}-{number}"
            store.get(name).write(folder)
            yield name, folder
