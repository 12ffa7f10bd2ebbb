"""Where rows meet the base model: hooks on its layers, which ask the batch that runs for what it adds to them."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from fourierft.errors import CheckpointError, ConfigError
from fourierft.rows.names import Batch, Expansion, check_rows, read_batch
from fourierft.tuner.reading import is_among, names_read


class Rows(Protocol):
    """A batch that runs."""

    layers: set[str]  # that it changes
    count: int  # of rows that differ; 1 if all are treated alike

    def output(self, name: str, layer: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        """What a layer gives in place of y, its own output for x."""


class RowHooks:
    """Hooks on the layers of a model; they do nothing but in a thread that runs a batch.

    Args:
        model: the base.
    """

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self._handles: dict[str, RemovableHandle] = {}
        self._layers: dict[str, nn.Module] = {}  # that have them
        self._names_read = names_read(model)
        self._running, self._installing = threading.local(), threading.Lock()

    def install(self, names: Iterable[str]) -> None:
        """Reach the layers of these names.

        Raises: CheckpointError, if the model has none of a name.
        """
        with self._installing:
            if "" not in self._handles:
                self._handles[""] = self.model.register_forward_pre_hook(self._enter, with_kwargs=True)
            for name in sorted(names):
                if name not in self._handles:
                    self._layers[name] = self._layer(name)
                    self._handles[name] = self._layers[name].register_forward_hook(self._hook(name))

    @contextmanager
    def running(self, rows: Rows, batch: Batch | None = None, expansion: Expansion | None = None) -> Iterator[None]:
        """Inside, and in this thread, layers give what `rows` make of their outputs.

        Args:
            rows: of the batch.
            batch: what the model is called with, as far as that is known before.
            expansion: of these rows, by `generate`.

        Raises: ConfigError, if a layer gets rows that are not known to be those of the batch, or the model read the
            weight of a layer instead of calling it, or has another layer in its place by now.
        """
        self._running.rows, self._running.called = rows, set()
        self._running.batch, self._running.expansion = batch, expansion
        try:
            yield
        finally:
            self._running.rows = None
        for name in rows.layers - self._running.called:
            if self._layer(name) is not self._layers[name]:
                raise ConfigError(
                    f"{name} of the base was replaced by another module, so adapters have no "
                    "effect there; make a new FleetModel of the changed base"
                )
            if is_among(name, self._names_read):
                raise ConfigError(
                    f"the model reads the weights of {name} instead of calling the layer, so "
                    "rows cannot have different adapters there; run these adapters one by one, "
                    "with PEFT"
                )

    def remove(self) -> None:
        """Leave the model as it was."""
        for handle in self._handles.values():
            handle.remove()
        self._handles.clear()
        self._layers.clear()

    def _enter(self, model: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any]) -> None:
        if getattr(self._running, "rows", None) is not None:
            self._running.batch = read_batch(model, inputs, named)

    def _check(self, name: str, layer: nn.Module, x: Tensor, count: int) -> None:
        is_lookup = isinstance(layer, nn.Embedding)
        expansion: Expansion | None = self._running.expansion
        if expansion is not None and expansion.is_doubled(len(x), count):
            raise ConfigError(
                f"{name} got {len(x)} rows for {count} names, because guidance_scale doubles "
                "the rows, which a fleet does not support; leave it out, or use PEFT with "
                "adapter_names"
            )
        if not (is_lookup and len(x) == 1):  # ids that all rows share
            check_rows(name, x.shape if is_lookup else x.shape[:-1], count, self._running.batch)

    def _layer(self, name: str) -> nn.Module:
        try:
            return self.model.get_submodule(name)
        except AttributeError:
            raise CheckpointError(
                f"the base {type(self.model).__name__} has no layer {name}; load it with the class that the adapters "
                "were trained with"
            ) from None

    def _hook(self, name: str) -> Any:
        def hook(layer: nn.Module, inputs: tuple[Tensor, ...], y: Tensor) -> Tensor:
            rows: Rows | None = getattr(self._running, "rows", None)
            if rows is None:
                return y
            self._running.called.add(name)
            if rows.count > 1:
                self._check(name, layer, inputs[0], rows.count)
            return rows.output(name, layer, inputs[0], y)

        return hook
