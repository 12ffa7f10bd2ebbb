"""The adapters that an engine has at hand: some in the slots of its tables, those of waiting requests beside them."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch

from fourierft.errors import ConfigError, ShapeError
from fourierft.rows.slots import Slot, Slots
from fourierft.rows.tables import DrawTables
from fourierft.store import Adapter, Layout

Load = Callable[[int], Adapter]


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
        self._device = device
        self._slots: Slots[int] = Slots(dtype, device, slots)
        self._held: dict[int, Adapter] = {}
        for layout in layouts:
            self._slots.tables(layout).fit(layout)

    @property
    def nbytes(self) -> int:
        return self._slots.nbytes

    @property
    def keys(self) -> list[int]:
        """Adapters in slots, the last used last."""
        return self._slots.keys

    @property
    def draws(self) -> list[DrawTables]:
        return list(self._slots.draws.values())

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
            raise ConfigError(
                f"{len(wanted)} adapters are needed at once, but there are {self.slots} "
                "slots; start the server with more --slots"
            )
        missing = wanted.difference(self._slots.keys)
        for key in wanted - missing:
            self._slots.use(key)
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
        return self._slots.find(key)

    def clear(self) -> None:
        for key in self._slots.keys:
            self._drop(key)

    def remove(self, key: int) -> bool:
        """Empty the slot of an adapter; False if it has none."""
        if key not in self._slots:
            return False
        self._drop(key)
        return True

    def _write(self, key: int, adapter: Adapter) -> None:
        self._slots.write([key], adapter.layout, adapter.values[None])
        self.loads += 1
        self.changes += 1

    def _evict_to(self, count: int) -> None:
        for key in self._slots.idle(count):
            self._drop(key)
            self.evictions += 1

    def _drop(self, key: int) -> None:
        self._slots.drop(key)
        self.changes += 1

    def _check(self, adapter: Adapter) -> None:
        layout = adapter.layout
        if adapter.heads:
            raise ConfigError(
                f"{adapter.name!r} replaces {next(iter(adapter.heads))} of the base, but "
                "the server takes only adapters without heads; serve others with FleetModel"
            )
        if self._device.type == "cpu":
            return
        tables = self._slots.draws.get(layout.settings.draw)
        room = {} if tables is None else tables.layers
        for layer in layout.layers:
            if layer.n_frequency > room.get(layer.name, 0):
                raise ShapeError(
                    f"{adapter.name!r} has {layer.n_frequency} coefficients in {layer.name}, "
                    f"but the server's tables have room for {room.get(layer.name, 0)}; restart "
                    "the server to make room"
                )
