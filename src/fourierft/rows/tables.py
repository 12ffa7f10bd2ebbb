"""Coefficients of many adapters side by side: a table a layer, and the tables of one draw.

Adapters of one draw share their entries, a smaller n being the first entries of a larger one, so a row is padded with
zeros; the scaling is folded in. Slot 0 is the base model: zeros.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from fourierft.errors import ShapeError
from fourierft.format.encoding import check_dtype, to_int8
from fourierft.format.layout import Layout
from fourierft.format.scaling import rescaled
from fourierft.rows.terms import Term
from fourierft.spectral import Draw, SpectralBasis

_GROWTH = 1.5


class LayerTable:
    """Coefficients of one layer, a row a slot.

    A coefficient c of a row comes back within 2 ** -8 |c| in bfloat16, and within max |c| / 254 of the row in int8.

    Args:
        dtype: float32, bfloat16, or int8 with a scale a row.
        device: where they are kept.
    """

    def __init__(self, dtype: str, device: torch.device) -> None:
        self._numbers = torch.zeros(0, 0, dtype=getattr(torch, dtype), device=device)
        self._scales = torch.zeros(0, 1, device=device) if dtype == "int8" else None

    @property
    def n_frequency(self) -> int:
        return self._numbers.shape[1]

    @property
    def nbytes(self) -> int:
        return self._numbers.nbytes + (0 if self._scales is None else self._scales.nbytes)

    def resize(self, slots: int, n_frequency: int) -> None:
        """Make room; what is there stays, what is new is zero."""
        self._numbers = _resized(self._numbers, slots, n_frequency)
        if self._scales is not None:
            self._scales = _resized(self._scales, slots, 1)

    def write(self, slots: Tensor, values: Tensor | None) -> None:
        """Set rows to values [slots, up to n], float32, the rest of them to zero; None is all zero."""
        numbers = self._numbers.new_zeros(len(slots), self.n_frequency)
        if values is not None:
            values = values.to(numbers.device)
            if self._scales is not None:
                values, self._scales[slots] = to_int8(values)
            numbers[:, : values.shape[1]] = values
        self._numbers[slots] = numbers

    def gather(self, slots: Tensor) -> Tensor:
        """A copy of rows, float32 [slots, n]."""
        rows = self._numbers[slots].float()
        return rows if self._scales is None else rows.mul_(self._scales[slots])


class DrawTables:
    """All layers of the adapters whose entries come from one draw; an adapter has one slot in all of them.

    Args:
        draw: of the entries.
        dtype: of the tables.
        device: of the tables.

    Attributes:
        shapes: layer name -> (out_features, in_features), where an adapter told it.
    """

    def __init__(self, draw: Draw, dtype: str, device: torch.device) -> None:
        check_dtype(dtype)
        self.draw, self.shapes = draw, dict[str, tuple[int, int]]()
        self._dtype, self._device = dtype, device
        self._tables: dict[str, LayerTable] = {}
        self._room, self._used = 1, 1
        self._free: list[int] = []

    @property
    def layers(self) -> dict[str, int]:
        """Layer name -> coefficients of a row."""
        return {name: table.n_frequency for name, table in self._tables.items()}

    @property
    def nbytes(self) -> int:
        return sum(table.nbytes for table in self._tables.values())

    def reserve(self, count: int) -> None:
        """Make room for so many adapters beside those that are there."""
        wanted = self._used - len(self._free) + count
        if wanted > self._room:
            self._room = wanted
            for table in self._tables.values():
                table.resize(self._room, table.n_frequency)

    def take(self) -> int:
        """A slot that no adapter has."""
        if self._free:
            return self._free.pop()
        if self._used == self._room:
            self.reserve(max(1, int(self._room * (_GROWTH - 1))))
        self._used += 1
        return self._used - 1

    def give(self, slot: int) -> None:
        """Give a slot back; what stands in it is overwritten by the next adapter that takes it."""
        self._free.append(slot)

    def write(self, slots: Sequence[int], layout: Layout, values: Tensor) -> None:
        """Set adapters.

        Args:
            slots: theirs.
            layout: of all of them.
            values: float32 [slots, total n], without the scaling.
        """
        self.fit(layout)
        places = torch.tensor(slots, device=self._device)
        parts = layout.split(rescaled(values, layout.scaling, 1.0))
        for name, table in self._tables.items():
            table.write(places, parts.get(name))

    def gather(self, slots: Sequence[int]) -> dict[str, Tensor]:
        """Layer name -> a copy of the rows of these slots, float32 [slots, n]."""
        places = torch.tensor(slots, device=self._device)
        return {name: table.gather(places) for name, table in self._tables.items()}

    def basis(self, layer: str, shape: tuple[int, int]) -> SpectralBasis:
        """The entries of one of `layers`, whose shape is (out_features, in_features)."""
        return self.draw.basis(*shape, self._tables[layer].n_frequency)

    def term(self, layer: str, slots: Tensor, basis: SpectralBasis) -> Term:
        """The updates of one layer for the rows of a batch that have these slots: one for all of them, or one each.

        Args:
            layer: its name, one of `layers`.
            slots: integers, on the device of the tables.
            basis: of the layer, drawn before: a graph that is recorded draws nothing.
        """
        return Term(None, self._tables[layer].gather(slots), basis, 1.0)

    def check(self, layout: Layout) -> None:
        """Raise ShapeError if a layer of a layout has another shape than the one that is known."""
        for layer in layout.layers:
            known = self.shapes.get(layer.name)
            if layer.shape is not None and known is not None and known != layer.shape:
                raise ShapeError(
                    f"{layer.name} is a {layer.shape[0]} x {layer.shape[1]} weight in this adapter, "
                    f"but {known[0]} x {known[1]} in earlier ones; use a separate bank for adapters "
                    "of another base"
                )

    def fit(self, layout: Layout) -> None:
        """Make tables wide enough for a layout."""
        for layer in layout.layers:
            if layer.shape is not None:
                self.shapes[layer.name] = layer.shape
            table = self._tables.get(layer.name) or LayerTable(self._dtype, self._device)
            if layer.n_frequency > table.n_frequency:
                table.resize(self._room, layer.n_frequency)
            self._tables[layer.name] = table


def _resized(rows: Tensor, count: int, width: int) -> Tensor:
    larger = rows.new_zeros(count, width)
    larger[: rows.shape[0], : rows.shape[1]] = rows
    return larger
