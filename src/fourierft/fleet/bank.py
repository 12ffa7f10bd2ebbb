"""The bank: the coefficients of thousands of adapters in memory, ready to be gathered for the rows of a batch.

A batch takes a copy of its rows under a lock; from then on it is independent of the bank, and adapters may come, change
and go while it runs.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from fourierft.bars import bar
from fourierft.errors import ConfigError, ShapeError, StoreError
from fourierft.fleet.images import Size, read_size
from fourierft.fleet.snapshot import Entry, Snapshot, gather_rows
from fourierft.format.encoding import check_dtype
from fourierft.rows.names import BASE
from fourierft.rows.slots import Slots
from fourierft.store import Adapter, AdapterStore, Layout
from fourierft.store.additions import check_name, check_values, check_whole, read_source

_BLOCK_BYTES = 1 << 24  # of adapters read from a store before they are written to the tables together


class AdapterBank:
    """Adapters of one base model in memory: a table of coefficients for each layer and each draw of entries.

    All methods may be called from several threads while batches run.

    Args:
        store: where adapters are loaded from when a batch names them first.
        dtype: of the coefficients in memory: float32, bfloat16, or int8 with a scale for each layer of an adapter
            (`LayerTable` says how exact they are). Heads keep the dtype they have.
        capacity: most adapters in memory; the least recently used ones of the store are dropped first. None keeps all.
        device: where coefficients are kept.

    Raises: ConfigError, if dtype is unknown, or there is a capacity but no store to reload adapters from.
    """

    def __init__(
        self,
        store: AdapterStore | None = None,
        dtype: str = "float32",
        capacity: int | None = None,
        device: str | torch.device = "cpu",
    ) -> None:
        check_dtype(dtype)
        if capacity is not None and (capacity < 1 or store is None):
            raise ConfigError(
                f"capacity={capacity} with store={store}; use at least 1, and a store to load adapters from again"
            )
        self.store, self.dtype, self.capacity = store, dtype, capacity
        self._lock, self._reading = threading.Lock(), threading.RLock()
        self._slots: Slots[str] = Slots(dtype, torch.device(device))
        self._entries: dict[str, Entry] = {}  # of those in slots
        self._head_shapes: dict[str, torch.Size] = {}
        self._stamp = 0

    @property
    def nbytes(self) -> int:
        """Bytes of all tables, including room for further adapters."""
        with self._lock:
            return self._slots.nbytes

    def add(self, name: str, adapter_dir: str | Path) -> None:
        """Add a PEFT FourierFT adapter, or replace the one of that name.

        Args:
            name: of the adapter.
            adapter_dir: folder or hub id of the adapter.

        Raises: CheckpointError, if the adapter is missing or damaged; as `put` otherwise.
        """
        source = read_source(adapter_dir)
        check_whole(source.checkpoint)
        layout = Layout.of(source.checkpoint)
        heads = source.checkpoint.saved_modules
        self.put(name, layout, source.checkpoint.coefficients, heads, source.record)

    def put(
        self,
        name: str,
        layout: Layout,
        coefficients: Tensor | Mapping[str, Tensor],
        heads: Mapping[str, Tensor] | None = None,
        record: str | None = None,
    ) -> None:
        """Add an adapter from its numbers, which are copied, or replace the one of that name.

        Args:
            name: of the adapter.
            layout: shapes, entries and scaling of the layers.
            coefficients: [total n], or layer name -> [n]; not multiplied by the scaling.
            heads: parameter name in the base model -> tensor that replaces it.
            record: text of the fourierft.json that its training wrote; it has the size of images.

        Raises: ShapeError, if the numbers do not fit the layout, are not finite, or are of another base. StoreError, if
            the name cannot be used. ConfigError, if the bank is full.
        """
        check_name(name)
        row = coefficients if isinstance(coefficients, Tensor) else layout.join(coefficients)
        values = check_values(row[None], layout)
        own = {key: head.detach().clone() for key, head in (heads or {}).items()}
        with self._lock:
            self._write([name], layout, values, [own], [read_size(record)], is_stored=False, keep={name})

    def remove(self, name: str) -> None:
        """Remove an adapter; running batches keep their copy. One of the store is loaded again when a batch names it.

        Raises: StoreError, if it is not in memory.
        """
        with self._lock:
            if name not in self._entries:
                raise StoreError(f"the bank has no adapter {name!r}; it has {len(self._entries):,} others")
            self._drop(name)

    def load(self, names: Sequence[str] | None = None) -> AdapterBank:
        """Read adapters from the store, again if they are in memory, with a progress bar on a terminal.

        Args:
            names: of the adapters, `ann@2` and `ann@live` for a version and an alias of `ann`; None for all.

        Returns: the bank.

        Raises: StoreError, if there is no store, or it has no such name. ConfigError, if they exceed the capacity.
        """
        store = self._required_store(names or [])
        names = None if names is None else list(dict.fromkeys(names))
        count = len(store) if names is None else len(names)
        if self.capacity is not None and count > self.capacity:
            raise ConfigError(f"{count:,} adapters exceed capacity={self.capacity:,}; load fewer or keep more")
        adapters = iter(store) if names is None else (_read(store, name) for name in names)
        with self._reading:
            progress = bar(adapters, "loading", "adapters", total=count, delay=1)
            for block in _blocks(progress):
                with self._lock:
                    self._reserve(block[0].layout, count)
                    self._write_block(block, set())
        return self

    def names(self) -> list[str]:
        """Names of the adapters in memory, the most recently used last."""
        with self._lock:
            return self._slots.keys

    def stamps(self, names: Sequence[str]) -> tuple[int, ...] | None:
        """A number for each name, new when its adapter changes; None if one is not in memory. They count as used."""
        with self._lock:
            return self._touch(names)

    def gather(self, names: Sequence[str]) -> Snapshot:
        """Copy what the rows of a batch need; what is not in memory is loaded from the store.

        Args:
            names: adapter of each row, "__base__" for none; of the store also `ann@2` and `ann@live`, as they were when
                they were read.

        Raises: StoreError, if a name is neither in memory nor in the store. ConfigError, if they exceed the capacity.
        """
        with self._lock:
            stamps = self._touch(names)
            if stamps is not None:
                return gather_rows(names, stamps, self._entries)
        with self._reading:
            missing = self._missing(names)
            store = self._required_store(missing)
            loaded = [_read(store, name) for name in missing]
            with self._lock:
                here = [adapter for adapter in loaded if adapter.name not in self._entries]
                for block in _blocks(here):
                    self._write_block(block, set(names))
                stamps = self._touch(names)
                if stamps is not None:
                    return gather_rows(names, stamps, self._entries)
        return self.gather(names)  # another thread took an adapter out meanwhile

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, name: object) -> bool:
        return name in self._entries

    def _required_store(self, missing: Sequence[str]) -> AdapterStore:
        if self.store is None:
            named = f"has no adapter {missing[0]!r}" if missing else "has no store"
            raise StoreError(f"the bank {named}; add it, or give the bank a store that has it")
        return self.store

    def _missing(self, names: Iterable[str]) -> list[str]:
        with self._lock:
            return [name for name in dict.fromkeys(names) if name != BASE and name not in self._entries]

    def _touch(self, names: Sequence[str]) -> tuple[int, ...] | None:
        stamps = {BASE: 0}
        for name in names:
            if name not in stamps:
                if name not in self._entries:
                    return None
                self._slots.use(name)
                stamps[name] = self._entries[name].stamp
        return tuple(stamps[name] for name in names)

    def _reserve(self, layout: Layout, count: int) -> None:
        """Make room for all that will be read, as if they were of one draw."""
        if not self._entries:
            self._slots.tables(layout).reserve(count)

    def _write_block(self, block: Sequence[Adapter], keep: set[str]) -> None:
        names, values = [adapter.name for adapter in block], torch.stack([adapter.values for adapter in block])
        heads, sizes = [adapter.heads for adapter in block], [read_size(adapter.record) for adapter in block]
        self._write(names, block[0].layout, values, heads, sizes, True, keep | set(names))

    def _write(
        self,
        names: Sequence[str],
        layout: Layout,
        values: Tensor,
        heads: Sequence[dict[str, Tensor]],
        sizes: Sequence[Size | None],
        is_stored: bool,
        keep: set[str],
    ) -> None:
        if BASE in names:
            raise ConfigError(f"{BASE!r} names rows without an adapter; choose another name")
        for tables in self._slots.draws.values():
            tables.check(layout)
        for own in heads:
            self._check_heads(own)
        there = [name for name in names if name in self._entries]
        self._make_room(len(names) - len(there), keep)
        for name in there:
            self._drop(name)
        slots = self._slots.write(names, layout, values)
        for name, slot, own, size in zip(names, slots, heads, sizes, strict=True):
            self._stamp += 1
            self._entries[name] = Entry(slot, self._stamp, own, is_stored, size)

    def _check_heads(self, heads: Mapping[str, Tensor]) -> None:
        for key, value in heads.items():
            known = self._head_shapes.setdefault(key, value.shape)
            if known != value.shape:
                raise ShapeError(
                    f"the head {key} is {list(value.shape)}, but {list(known)} in earlier adapters; "
                    "use a separate bank for adapters of another task"
                )

    def _make_room(self, count: int, keep: set[str]) -> None:
        if self.capacity is None:
            return
        most = self.capacity - count
        idle = self._slots.idle(most, lambda name: self._entries[name].is_stored and name not in keep)
        if len(self._slots) - len(idle) > most:
            raise ConfigError(
                f"the batch needs {len(keep):,} adapters at once, with those that are in "
                f"no store, but capacity={self.capacity:,}; use a larger capacity, or smaller "
                "batches"
            )
        for name in idle:
            self._drop(name)

    def _drop(self, name: str) -> None:
        self._slots.drop(name)
        del self._entries[name]


def _read(store: AdapterStore, reference: str) -> Adapter:
    """The adapter that a name, `name@2` or `name@live` means, under that reference."""
    found = store.resolve(reference)
    return replace(store.get(found.name, found.version), name=reference)


def _blocks(adapters: Iterable[Adapter]) -> Iterator[list[Adapter]]:
    """Adapters that follow one another in one layout, and a few MB."""
    block: list[Adapter] = []
    for adapter in adapters:
        full = block and 4 * adapter.layout.total * len(block) >= _BLOCK_BYTES
        if block and (full or adapter.layout is not block[0].layout):
            yield block
            block = []
        block.append(adapter)
    if block:
        yield block
