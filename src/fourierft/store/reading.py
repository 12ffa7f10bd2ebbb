"""Reading a store: what is there, by name, version and alias, one by one or all at once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import torch

from fourierft.bars import bar
from fourierft.errors import StoreError
from fourierft.format.identity import BaseIdentity
from fourierft.format.layout import Layer, Layout
from fourierft.store import additions
from fourierft.store.adapter import Adapter
from fourierft.store.alignment import align_rows, common_layers
from fourierft.store.databases import schema
from fourierft.store.databases.sqlite import SQLiteFile
from fourierft.store.references import Resolved
from fourierft.store.rows import Block, Listed, Row, read_adapter, read_blocks, read_listed
from fourierft.store.tables import StoreTables


class StoreReader:
    """The half of `AdapterStore` that changes nothing.

    Args, Raises: as of `AdapterStore`.
    """

    def __init__(
        self, path: str | Path, base_model: str | Path | None = None, create: bool = True, timeout: float = 30.0
    ):
        self._tables = StoreTables(path, base_model, create, timeout)

    @property
    def base(self) -> BaseIdentity | None:
        """The base model; None before the first adapter, unless it was given."""
        return self._tables.base

    def __str__(self) -> str:
        return str(self._tables)

    def is_made(self) -> bool:
        """Whether the store exists; the first adapter creates it.

        Raises: StoreError, if it is of a newer format or another base, or damaged.
        """
        return self._tables.is_made()

    def check_base(self, other: BaseIdentity, what: str) -> None:
        """Raise StoreError, with both names, if the store is of another base.

        Args:
            other: the other base.
            what: what has that base, for the message, such as "the model was loaded".
        """
        self._tables.check_base(other, what)

    @property
    def file(self) -> Path | None:
        """The SQLite file; None for a store in a PostgreSQL database."""
        backend = self._tables.backend
        return backend.path if isinstance(backend, SQLiteFile) else None

    def layouts(self) -> Sequence[Layout]:
        """All layouts that adapters of the store have or had."""
        return self._tables.layouts()

    def get(self, name: str, version: int | None = None) -> Adapter:
        """An adapter, checked against its SHA-256.

        Args:
            name: of the adapter.
            version: None takes the latest.

        Raises: StoreError, if there is none or it is damaged.
        """
        row = self._tables.row(name, version)
        return read_adapter(row, self._tables.layout(row.layout))

    def export(self, name: str, out_dir: str | Path, version: int | None = None) -> Adapter:
        """Write an adapter as a PEFT directory (`Adapter.write`), and return it."""
        adapter = self.get(name, version)
        adapter.write(out_dir)
        return adapter

    def names(self, prefix: str = "", after: str = "") -> Iterator[str]:
        """Names in the order of their code points.

        Args:
            prefix: only those that begin with it.
            after: only those after this one.
        """
        return (name for (name,) in self._tables.rows(schema.NAMES, additions.limits(prefix, after)) if name != after)

    def list(self, prefix: str = "", versions: bool = False, after: str = "") -> Iterator[Listed]:
        """The adapters in the order of names, without their coefficients.

        Args:
            prefix: only names that begin with it.
            versions: all versions instead of the latest.
            after: only names after this one.

        Raises: StoreError, if a row is damaged.
        """
        statement = schema.LIST_VERSIONS if versions else schema.LIST_LATEST
        for row in self._tables.rows(statement, additions.limits(prefix, after)):
            listed = read_listed(row, self._tables.layout)
            if listed.name != after:
                yield listed

    def records(self) -> dict[str, str]:
        """Name -> text of its fourierft.json: each text once, under the first adapter whose latest version has it."""
        return dict(self._tables.rows(schema.RECORDS))

    def versions(self, name: str) -> Sequence[int]:
        """Versions of an adapter, oldest first."""
        return self._tables.versions(name)

    def resolve(self, reference: str) -> Resolved:
        """The version that `name`, `name@3` or `name@live` means; an adapter whose own name has an @ comes first.

        Returns: name, version, and an id that no other version ever gets.

        Raises: MissingAdapterError, if there is none.
        """
        return self._tables.resolve(reference)

    def aliases(self, name: str) -> dict[str, int]:
        """Alias -> version, of an adapter; empty if there are none.

        Raises: StoreError, if one is damaged.
        """
        return {found.alias: found.version for found in self._tables.aliases(name)}

    def blocks(self, names: Sequence[str] | None = None) -> Iterator[Block]:
        """Coefficients of the latest versions, streamed, with a progress bar on a terminal.

        Args:
            names: adapters in this order; None for all, in the order in which they were added.

        Raises: StoreError, if there is no such name or a row is damaged.
        """
        if names is None:
            rows = (Row(*found) for found in self._tables.rows(schema.GET_ALL))
        else:
            rows = (self._tables.row(name) for name in names)
        total = len(self) if names is None else len(names)
        with bar(None, "reading", "adapters", total=total, delay=1) as progress:
            for block in read_blocks(rows, self._tables.layout):
                yield block
                progress.update(len(block.names))

    def layers(self, names: Sequence[str] | None = None) -> tuple[Layer, ...]:
        """The layers that a row of `coefficients` has one after another (`common_layers`)."""
        if names is None:
            ids = {found for (found,) in self._tables.rows(schema.LAYOUT_IDS)}
        else:
            ids = {found for name in names for (found,) in self._tables.rows(schema.LAYOUT_OF, {"name": name})}
        return common_layers(self._tables.layout(found) for found in sorted(ids))

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
            aligned = align_rows(block.values, block.layout, layers)
            bank[[target for _, target in pairs]] = aligned[[k for k, _ in pairs]]
            missing -= len(pairs)
        if missing:
            raise StoreError(f"{self._tables} lost {missing} adapters while it was read; read it again")
        return bank

    def __len__(self) -> int:
        return self._tables.count()

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and bool(self.versions(name))

    def __iter__(self) -> Iterator[Adapter]:
        for found in self._tables.rows(schema.GET_ALL):
            row = Row(*found)
            yield read_adapter(row, self._tables.layout(row.layout))
