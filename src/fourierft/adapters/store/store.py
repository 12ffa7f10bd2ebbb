"""The store: thousands of adapters of one base model in one place, by name and version."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from fourierft.adapters.store import incoming, schema
from fourierft.adapters.store.adapter import Adapter
from fourierft.adapters.store.encoding import check_dtype, encoded_bytes
from fourierft.adapters.store.layout import Layer, Layout
from fourierft.adapters.store.rows import Block, Listed, Row, read_adapter, read_blocks
from fourierft.adapters.store.space import common_layers, place
from fourierft.adapters.store.stats import StoreStats, measure_store
from fourierft.adapters.store.tables import StoreTables
from fourierft.adapters.store.verification import find_faults
from fourierft.errors import StoreError
from fourierft.format.identity import BaseIdentity

_BATCH_BYTES, _BATCH_ROWS = 1 << 25, 4000  # of one transaction of `add_many`


class AdapterStore:
    """Adapters of one base model in one SQLite file, or in a PostgreSQL database.

    A name is any text of 1 to 500 characters. Adding under a name that is there makes its next version; a version never
    changes and its number is never given again. When `add` returns, what was added is on disk. Any number of threads
    and processes may read while one writes; a forked process opens the store anew.

    Args:
        path: of the file, made with the first adapter; or postgresql://user@host/database.
        base_model: hub id or folder of the base; None takes that of the store, or of the first adapter.
        create: False refuses a store that is not there.
        timeout: seconds to wait for another writer.

    Raises: StoreError, if the store is missing, damaged, of another base or a newer format, or is none.
        MissingExtraError, for PostgreSQL without SQLAlchemy and psycopg.
    """

    def __init__(self, path: str | Path, base_model: str | None = None, create: bool = True, timeout: float = 30.0):
        self.tables = StoreTables(path, base_model, create, timeout)

    @property
    def base(self) -> BaseIdentity | None:
        """The base model; None before the first adapter came, unless it was given."""
        return self.tables.base

    def add(
        self,
        name: str,
        adapter_dir: str | Path,
        dtype: str = "float32",
        metrics: Mapping[str, Any] | None = None,
        exist_ok: bool = True,
        base: str | None = None,
        allow_other_base: bool = False,
    ) -> int:
        """Add a PEFT FourierFT adapter.

        Args:
            name: to find it by.
            adapter_dir: its folder, or a hub id.
            dtype: to keep the coefficients in; bfloat16 and int8 lose something (`measure_loss`). Heads keep theirs.
            metrics: to keep with it; None takes the metrics.json beside it, if there is one.
            exist_ok: False refuses a name that is there, instead of making its next version.
            base: hub id or folder of the base, where it is not what the adapter names.
            allow_other_base: add what was made for another model of the same shapes.

        Returns: version.

        Raises: CheckpointError, if the adapter is damaged or was made for another base. StoreError, if the store is of
            another, the name cannot be used, or it is full or busy. ShapeError, if the base has other shapes.
        """
        check_dtype(dtype)
        incoming.check_name(name)
        checkpoint, record, scores = incoming.read_source(adapter_dir)
        identity = incoming.base_of(checkpoint.config, checkpoint.path, base, allow_other_base)
        identity = self.tables.check_base(identity, f"{checkpoint.path} was made", allow_other_base)
        incoming.check_whole(checkpoint, base, allow_other_base)
        known = self.tables.find_layout(Layout.of(checkpoint).digest)
        layout = incoming.fitted(checkpoint, record, known, identity.name if allow_other_base else base)
        values = incoming.check_values(layout.join(checkpoint.coefficients)[None], layout)
        metrics = scores if metrics is None else metrics
        rows = incoming.make_rows([name], layout, values, dtype, checkpoint.saved_modules, metrics, record)
        return self.tables.insert(layout, identity, rows, exist_ok)

    def put(
        self,
        name: str,
        layout: Layout,
        coefficients: torch.Tensor | Mapping[str, torch.Tensor],
        heads: Mapping[str, torch.Tensor] | None = None,
        dtype: str = "float32",
        metrics: Mapping[str, Any] | None = None,
        exist_ok: bool = True,
        record: str | None = None,
    ) -> int:
        """Add an adapter from its numbers.

        Args:
            name: to find it by.
            layout: what the numbers mean.
            coefficients: [total n], or layer name -> [n]; without the scaling.
            heads: parameter name in the base model -> tensor saved whole.
            dtype: to keep the coefficients in.
            metrics, record: to keep with it; the record is the text of a fourierft.json.
            exist_ok: False refuses a name that is there, instead of making its next version.

        Returns: version.

        Raises: ShapeError, if the numbers do not fit the layout or are not finite. StoreError, as `add`.
        """
        check_dtype(dtype)
        incoming.check_name(name)
        row = coefficients if isinstance(coefficients, torch.Tensor) else layout.join(coefficients)
        values = incoming.check_values(row[None], layout)
        rows = incoming.make_rows([name], layout, values, dtype, heads, metrics, record)
        return self.tables.insert(layout, incoming.base_of(layout.settings, "what is added"), rows, exist_ok)

    def add_many(
        self,
        layout: Layout,
        adapters: Iterable[tuple[str, torch.Tensor]],
        dtype: str = "float32",
        total: int | None = None,
    ) -> int:
        """Add many adapters without heads, up to 4000 or 32 MiB in a transaction.

        Args:
            layout: of all of them.
            adapters: name, coefficients [total n]; read as they are needed.
            dtype: to keep the coefficients in.
            total: how many there will be, for the progress bar of a terminal.

        Returns: how many were added. An error in between loses the transaction at hand, and none before it.

        Raises: as `put`.
        """
        check_dtype(dtype)
        base, count, waiting = incoming.base_of(layout.settings, "what is added"), 0, iter(adapters)
        most = max(1, min(_BATCH_ROWS, _BATCH_BYTES // encoded_bytes(dtype, layout.sizes)))
        with tqdm(total=total, unit=" adapters", desc="adding", disable=None, delay=1) as bar:
            while batch := list(itertools.islice(waiting, most)):
                for name, row in batch:
                    incoming.check_name(name)
                    incoming.check_values(row[None], layout)
                values = incoming.check_values(torch.stack([row for _, row in batch]), layout)
                self.tables.insert(layout, base, incoming.make_rows([name for name, _ in batch], layout, values, dtype))
                count += len(batch)
                bar.update(len(batch))
        return count

    def get(self, name: str, version: int | None = None) -> Adapter:
        """An adapter, checked against its SHA-256.

        Args:
            name: of the adapter.
            version: the latest if None.

        Raises: StoreError, if there is none or it is damaged.
        """
        row = self.tables.row(name, version)
        return read_adapter(row, self.tables.layout(row.layout))

    def export(self, name: str, out_dir: str | Path, version: int | None = None) -> Adapter:
        """Write an adapter as a PEFT directory (`Adapter.write`), and return it."""
        adapter = self.get(name, version)
        adapter.write(out_dir)
        return adapter

    def remove(self, name: str, version: int | None = None) -> int:
        """Remove a version of an adapter, or all of them.

        Returns: how many versions are gone.

        Raises: StoreError, if there is none.
        """
        if name not in self:
            raise self.tables.missing(name, version)
        with self.tables.writing() as execute:
            there = execute(schema.LAYOUTS_OF, {"name": name})
            gone = [(number, layout) for number, layout in there if version in (None, number)]
            for number, layout in gone:
                execute(schema.REMEMBER_REMOVED, {"name": name, "version": number})
                execute(schema.REMOVE, {"name": name, "version": number})
                execute(schema.REMOVE_LAYOUT, {"id": layout})
        if not gone:
            raise self.tables.missing(name, version)
        return len(gone)

    def names(self, prefix: str = "") -> Iterator[str]:
        """Names in the order of their code points.

        Args:
            prefix: only those that begin with it.
        """
        return (name for (name,) in self.tables.rows(schema.NAMES, incoming.limits(prefix)))

    def list(self, prefix: str = "", versions: bool = False) -> Iterator[Listed]:
        """What is there, in the order of names, without reading the numbers.

        Args:
            prefix: only names that begin with it.
            versions: all versions instead of the latest.
        """
        for row in self.tables.rows(schema.LIST_VERSIONS if versions else schema.LIST_LATEST, incoming.limits(prefix)):
            yield Listed(*row)._replace(metrics=json.loads(row[6]) if row[6] else {})

    def versions(self, name: str) -> Sequence[int]:
        """Versions of an adapter that are there, oldest first."""
        return self.tables.versions(name)

    def blocks(self, names: Sequence[str] | None = None) -> Iterator[Block]:
        """The numbers of the latest versions, streamed, with a progress bar on a terminal.

        Args:
            names: whose, and in which order; None for all, in the order in which they were added.

        Raises: StoreError, if a name is not there or a row is damaged.
        """
        if names is None:
            rows = (Row(*found) for found in self.tables.rows(schema.GET_ALL))
        else:
            rows = (self.tables.row(name) for name in names)
        total = len(self) if names is None else len(names)
        with tqdm(total=total, unit=" adapters", desc="reading", disable=None, delay=1) as bar:
            for block in read_blocks(rows, self.tables.layout):
                yield block
                bar.update(len(block.names))

    def layers(self, names: Sequence[str] | None = None) -> tuple[Layer, ...]:
        """The layers that a row of `coefficients` has one after another (`common_layers`)."""
        if names is None:
            ids = {found for (found,) in self.tables.rows(schema.LAYOUT_IDS)}
        else:
            ids = {found for name in names for (found,) in self.tables.rows(schema.LAYOUT_OF, {"name": name})}
        return common_layers(self.tables.layout(found) for found in sorted(ids))

    def coefficients(self, names: Sequence[str] | None = None) -> torch.Tensor:
        """The latest versions in one space: scaling * coefficients, float32 [adapters, total n].

        Layers stand side by side as `layers(names)` has them, fewer coefficients are padded with zeros, so that
        dW = delta_weight(row of a layer, basis, 1.0). Rows stream into the result, which is all the memory it takes.

        Args:
            names: of the rows; None for all, in the order of `names()`. One that comes meanwhile is left out.

        Raises: StoreError, if a name is not there, a row is damaged, or entries are drawn differently.
        """
        layers = self.layers(names)
        wanted = list(self.names()) if names is None else names
        places: dict[str, set[int]] = {name: set() for name in wanted}
        for target, name in enumerate(wanted):
            places[name].add(target)
        bank = torch.empty(len(wanted), sum(layer.n_frequency for layer in layers))
        missing = len(wanted)
        for block in self.blocks(None if names is None else tuple(places)):
            pairs = [(k, target) for k, name in enumerate(block.names) for target in places.get(name, ())]
            bank[[target for _, target in pairs]] = place(block.values, block.layout, layers)[[k for k, _ in pairs]]
            missing -= len(pairs)
        if missing:
            raise StoreError(f"{self.tables} lost {missing} adapters while it was read; read it again")
        return bank

    def verify(self) -> Sequence[str]:
        """Read everything and check it: one sentence a fault, none if all is well."""
        return find_faults(self.tables)

    def stats(self) -> StoreStats:
        """Counts, bytes, norms a layer, duplicates; reads every row once."""
        return measure_store(self)

    def close(self) -> None:
        """Close the store; nothing waits to be written."""
        self.tables.close()

    def __len__(self) -> int:
        return next(self.tables.rows(schema.COUNT), (0,))[0]

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and bool(self.versions(name))

    def __iter__(self) -> Iterator[Adapter]:
        for found in self.tables.rows(schema.GET_ALL):
            row = Row(*found)
            yield read_adapter(row, self.tables.layout(row.layout))

    def __enter__(self) -> AdapterStore:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()
