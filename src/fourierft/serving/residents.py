"""The adapters that an engine has at hand: some in the slots of its tables, those of waiting requests beside them."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import NamedTuple

import torch

from fourierft.adapters.fleet.table import DrawTables
from fourierft.adapters.store import Adapter, Layout
from fourierft.errors import ConfigError, ShapeError
from fourierft.spectral import Draw

Load = Callable[[int], Adapter]


class Slot(NamedTuple):
    """Where an adapter is: a row of the tables of its draw."""

    tables: DrawTables
    row: int


class Residents:
    """Adapters by key, in as many slots as there are; the one that was used longest ago makes room.

    A key names one version of one adapter, which never changes. Not for several threads: an engine has one.

    Args:
        slots: most adapters in the tables.
        dtype: of the tables: float32, bfloat16 or int8.
        device: of the tables. On the CPU they grow when an adapter needs it; elsewhere they are fixed from the start.
        layouts: of the adapters that will come.

    Attributes:
        loads, evictions: counts since the start.
        changes: how often an adapter came into a slot, or left one.
    """

    def __init__(self, slots: int, dtype: str, device: torch.device, layouts: Iterable[Layout] = ()) -> None:
        self.slots, self.loads, self.evictions, self.changes = slots, 0, 0, 0
        self._dtype, self._device = dtype, device
        self._draws: dict[Draw, DrawTables] = {}
        self._slots: OrderedDict[int, Slot] = OrderedDict()  # last used last
        self._held: dict[int, Adapter] = {}
        for layout in layouts:
            self._tables(layout).fit(layout)

    @property
    def nbytes(self) -> int:
        """Bytes of all tables."""
        return sum(tables.nbytes for tables in self._draws.values())

    @property
    def keys(self) -> list[int]:
        """Adapters in slots, the last used last."""
        return list(self._slots)

    @property
    def draws(self) -> list[DrawTables]:
        """The tables of all draws."""
        return list(self._draws.values())

    def hold(self, key: int, adapter: Adapter) -> None:
        """Keep an adapter at hand until it is released, so that `bring` cannot fail for it.

        Raises: ConfigError or ShapeError, if it cannot be served.
        """
        self._check(adapter)
        self._held[key] = adapter

    def release(self, key: int) -> None:
        """Let go of an adapter; it stays in its slot for as long as no other needs that."""
        self._held.pop(key, None)

    def bring(self, keys: Iterable[int], load: Load) -> bool:
        """See that all of these are in slots.

        Args:
            keys: at most as many as there are slots.
            load: gives an adapter that is not held.

        Returns: whether an adapter came or went.

        Raises: what `load` raises. ConfigError, if there are more keys than slots.
        """
        wanted = set(keys)
        if len(wanted) > self.slots:
            raise ConfigError(f"{len(wanted)} adapters are wanted at once, but there are {self.slots} slots; use more")
        missing = wanted - self._slots.keys()
        for key in wanted - missing:
            self._slots.move_to_end(key)
        for key in sorted(missing):
            adapter = self._held.get(key) or load(key)
            self._check(adapter)
            self._evict_to(self.slots - 1)
            self._write(key, adapter)
        return bool(missing)

    def find(self, key: int) -> Slot:
        """Where an adapter is that was brought.

        Raises: KeyError, if it is in no slot.
        """
        return self._slots[key]

    def clear(self) -> None:
        """Empty all slots."""
        while self._slots:
            self._drop(next(iter(self._slots)))

    def remove(self, key: int) -> bool:
        """Empty the slot of an adapter; False if it has none."""
        if key not in self._slots:
            return False
        self._drop(key)
        return True

    def _write(self, key: int, adapter: Adapter) -> None:
        tables = self._tables(adapter.layout)
        row = tables.take()
        tables.write([row], adapter.layout, adapter.values[None])
        self._slots[key] = Slot(tables, row)
        self.loads += 1
        self.changes += 1

    def _evict_to(self, count: int) -> None:
        while len(self._slots) > count:
            self._drop(next(iter(self._slots)))
            self.evictions += 1

    def _drop(self, key: int) -> None:
        slot = self._slots.pop(key)
        slot.tables.give(slot.row)
        self.changes += 1

    def _tables(self, layout: Layout) -> DrawTables:
        draw = layout.settings.draw
        if draw not in self._draws:
            self._draws[draw] = DrawTables(draw, self._dtype, self._device)
            self._draws[draw].reserve(self.slots)
        return self._draws[draw]

    def _check(self, adapter: Adapter) -> None:
        layout = adapter.layout
        if adapter.heads:
            raise ConfigError(
                f"{adapter.name!r} replaces {next(iter(adapter.heads))} of the base, which is not served; "
                "only coefficients differ from request to request"
            )
        draw = layout.settings.draw
        if self._device.type == "cpu":
            return
        room = self._draws[draw].layers if draw in self._draws else {}
        for layer in layout.layers:
            if layer.n_frequency > room.get(layer.name, 0):
                raise ShapeError(
                    f"{adapter.name!r} has {layer.n_frequency} coefficients in {layer.name}, but the tables were made "
                    f"for {room.get(layer.name, 0)}; start the server again, and they are made to fit"
                )
