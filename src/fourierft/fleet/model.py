"""`FleetModel`: a base model whose batches have a different adapter in every row."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from fourierft.errors import ConfigError
from fourierft.fleet.bank import AdapterBank
from fourierft.fleet.hooks import RowHooks
from fourierft.fleet.images import check_images
from fourierft.fleet.served import ServedRows
from fourierft.rows.names import BASE, Batch, read_batch, read_expansion
from fourierft.store import AdapterStore
from fourierft.tuner.record import find_identity

_KEPT = 4  # batches whose prepared updates a thread keeps


class FleetModel:
    """A base model and a bank of its adapters, for inference without gradients.

    Semantics: row i of the result is the output of the base with adapter names[i] alone.

    The base is put into evaluation mode and gets hooks. They do nothing outside the calls below, so the base can still
    be used alone. Several threads may call, and the bank may change meanwhile: a call uses the adapters of the moment
    at which it began.

    Args:
        base: a transformers model (encoder, decoder or both), of the class that the adapters were trained with.
        adapters: a bank, or a store or its path, from which all adapters are loaded.
        allow_other_base: accept another base of the same shapes than that of the store.

    Raises: StoreError, if the store is missing, or holds adapters of another base model.
    """

    def __init__(
        self, base: nn.Module, adapters: AdapterBank | AdapterStore | str | Path, allow_other_base: bool = False
    ) -> None:
        if not isinstance(adapters, AdapterBank):
            store = adapters if isinstance(adapters, AdapterStore) else AdapterStore(adapters, create=False)
            identity = find_identity(base)
            if identity is not None and not allow_other_base:
                store.check_base(identity, "the model was loaded")
            adapters = AdapterBank(store).load()
        self.base, self.bank = base.eval(), adapters
        self._hooks = RowHooks(base)
        self._recent = threading.local()

    @torch.no_grad()
    def __call__(self, *inputs: Any, names: Sequence[str], **named: Any) -> Any:
        """The base's forward.

        Args:
            inputs: as the base takes them.
            names: adapter of each row, "__base__" for none; with a store also `ann@2` or `ann@live`.
            named: as the base takes them.

        Raises: ConfigError, if there is not a name for each row, or images are of another size than those an adapter
            was trained on. StoreError, if a name is unknown. CheckpointError or
            ShapeError, if an adapter does not fit the base.
        """
        batch = read_batch(self.base, inputs, named)
        rows = self._rows(names, batch)
        check_images(rows.sizes, self.base, inputs, named)
        with self._hooks.running(rows, batch):
            return self.base(*inputs, **named)

    @torch.no_grad()
    def generate(self, *inputs: Any, names: Sequence[str], **named: Any) -> Any:
        """Call the base's `generate`: greedy, sampling or beams. All sequences returned for a row use its adapter.

        Args:
            inputs, named: arguments of the base's `generate`.
            names: adapter of each row, "__base__" for none; with a store also `ann@2` or `ann@live`.

        Raises: as the forward.
        """
        batch = read_batch(self.base, inputs, named)
        rows = self._rows(names, batch)
        check_images(rows.sizes, self.base, inputs, named)
        with self._hooks.running(rows, batch, read_expansion(self.base, named)):
            return self.base.generate(*inputs, **named)  # type: ignore[operator]

    def close(self) -> None:
        """Remove the hooks from the base."""
        self._hooks.remove()

    def _rows(self, names: Sequence[str], batch: Batch | None) -> ServedRows:
        if isinstance(names, str) or not names:
            raise ConfigError(
                f"names={names!r} is not a list with one name for each row; use one, such as ['a', {BASE!r}]"
            )
        if batch is not None and batch.rows != len(names):
            raise ConfigError(
                f"got {len(names)} names for {batch.rows} rows; give one name for each row, {BASE!r} for the base alone"
            )
        if len(set(names)) == 1:
            names = names[:1]  # one set of coefficients for all rows
        kept: OrderedDict[tuple[str, ...], ServedRows] = self._recent.__dict__.setdefault("kept", OrderedDict())
        rows = kept.pop(tuple(names), None)
        if rows is None or self.bank.stamps(names) != rows.stamps:
            rows = ServedRows(self.bank.gather(names))
            self._hooks.install(rows.layers)
            rows.check(self.base)
        kept[tuple(names)] = rows
        while len(kept) > _KEPT:
            kept.popitem(last=False)
        return rows
