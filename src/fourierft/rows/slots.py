"""Adapters by key, each in a slot of the tables of its draw; those that were used longest ago make room."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from typing import Generic, NamedTuple, TypeVar

import torch
from torch import Tensor

from fourierft.format.layout import Layout
from fourierft.rows.tables import DrawTables
from fourierft.spectral import Draw

_Key = TypeVar("_Key", bound=Hashable)


class Slot(NamedTuple):
    """Where an adapter is: a row of the tables of its draw."""

    tables: DrawTables
    row: int


class Slots(Generic[_Key]):
    """Adapters in tables, in the order in which they were used. Not for several threads at once.

    Args:
        dtype: of the tables: float32, bfloat16 or int8.
        device: of the tables.
        room: slots that the tables of each draw have from the start, beside that of the base.
    """

    def __init__(self, dtype: str, device: torch.device, room: int = 0) -> None:
        self._dtype, self._device, self._room = dtype, device, room
        self._draws: dict[Draw, DrawTables] = {}
        self._slots: OrderedDict[_Key, Slot] = OrderedDict()  # last used last

    @property
    def nbytes(self) -> int:
        return sum(tables.nbytes for tables in self._draws.values())

    @property
    def keys(self) -> list[_Key]:
        """Adapters that are here, the last used last."""
        return list(self._slots)

    @property
    def draws(self) -> dict[Draw, DrawTables]:
        return self._draws

    def tables(self, layout: Layout) -> DrawTables:
        """The tables of a layout's draw, made now if it is the first of it."""
        draw = layout.settings.draw
        if draw not in self._draws:
            self._draws[draw] = DrawTables(draw, self._dtype, self._device)
            self._draws[draw].reserve(self._room)
        return self._draws[draw]

    def find(self, key: _Key) -> Slot:
        """Where an adapter is.

        Raises: KeyError, if it is not here.
        """
        return self._slots[key]

    def use(self, key: _Key) -> None:
        self._slots.move_to_end(key)

    def write(self, keys: Sequence[_Key], layout: Layout, values: Tensor) -> list[Slot]:
        """Put adapters that are not here into slots of their own.

        Args:
            keys: theirs.
            layout: of all of them.
            values: float32 [adapters, total n], without the scaling.
        """
        tables = self.tables(layout)
        slots = [Slot(tables, tables.take()) for _ in keys]
        tables.write([slot.row for slot in slots], layout, values)
        self._slots.update(zip(keys, slots, strict=True))
        return slots

    def drop(self, key: _Key) -> None:
        slot = self._slots.pop(key)
        slot.tables.give(slot.row)

    def idle(self, most: int, may_go: Callable[[_Key], bool] = lambda _: True) -> list[_Key]:
        """Who has to go for `most` adapters to stay, longest unused first; fewer, if too few may go."""
        excess = max(0, len(self._slots) - most)
        return [key for key in self._slots if may_go(key)][:excess]

    def __len__(self) -> int:
        return len(self._slots)

    def __contains__(self, key: object) -> bool:
        return key in self._slots
