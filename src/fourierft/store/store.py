"""The store: thousands of adapters of one base model in one place, by name and version."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import torch

from fourierft.bars import bar
from fourierft.errors import StoreError
from fourierft.format.encoding import check_dtype, encoded_bytes
from fourierft.format.layout import Layout
from fourierft.store import additions, changes, copies
from fourierft.store.databases.sqlite import SQLiteFile
from fourierft.store.reading import StoreReader
from fourierft.store.study.stats import StoreStats, measure_store
from fourierft.store.verification import find_faults

_BATCH_BYTES, _BATCH_ROWS = 1 << 25, 4000  # of one transaction of `add_many`


class AdapterStore(StoreReader):
    """Adapters of one base model in one SQLite file, or in a PostgreSQL database.

    A name is any text of 1 to 500 characters. Adding under a name that is there makes its next version; a version never
    changes and its number is never given again. `name@3` is a version, `name@live` the one that an alias names. When
    `add` returns, what was added is on disk. Any number of threads and processes may read while one writes; a forked
    process opens the store anew.

    Args:
        path: of the file, made with the first adapter; or postgresql://user@host/database.
        base_model: hub id or folder of the base; None takes that of the store, or of the first adapter.
        create: False refuses a store that is not there.
        timeout: seconds to wait for another writer.

    Raises: StoreError, if the store is missing, damaged, of another base or a newer format, or is none.
        MissingExtraError, for PostgreSQL without SQLAlchemy and psycopg.
    """

    def add(
        self,
        name: str,
        adapter_dir: str | Path,
        dtype: str = "float32",
        metrics: Mapping[str, Any] | None = None,
        exist_ok: bool = True,
        base: str | Path | None = None,
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
        additions.check_name(name)
        base = None if base is None else str(base)
        checkpoint, record, scores = additions.read_source(adapter_dir)
        identity = additions.base_of(checkpoint.config, checkpoint.path, base, allow_other_base)
        identity = self._tables.check_base(identity, f"{checkpoint.path} was made", allow_other_base)
        additions.check_whole(checkpoint, base, allow_other_base)
        known = self._tables.find_layout(Layout.of(checkpoint).digest)
        layout = additions.fitted(checkpoint, record, known, identity.name if allow_other_base else base)
        values = additions.check_values(layout.join(checkpoint.coefficients)[None], layout)
        metrics = scores if metrics is None else metrics
        rows = additions.make_rows([name], layout, values, dtype, checkpoint.saved_modules, metrics, record)
        return changes.insert(self._tables, layout, identity, rows, exist_ok)

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
        additions.check_name(name)
        row = coefficients if isinstance(coefficients, torch.Tensor) else layout.join(coefficients)
        values = additions.check_values(row[None], layout)
        rows = additions.make_rows([name], layout, values, dtype, heads, metrics, record)
        return changes.insert(self._tables, layout, additions.base_of(layout.settings, "what is added"), rows, exist_ok)

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
        base, count, waiting = additions.base_of(layout.settings, "what is added"), 0, iter(adapters)
        most = max(1, min(_BATCH_ROWS, _BATCH_BYTES // encoded_bytes(dtype, layout.sizes)))
        with bar(None, "adding", "adapters", total=total, delay=1) as progress:
            while batch := list(itertools.islice(waiting, most)):
                for name, row in batch:
                    additions.check_name(name)
                    additions.check_values(row[None], layout)
                values = additions.check_values(torch.stack([row for _, row in batch]), layout)
                changes.insert(
                    self._tables, layout, base, additions.make_rows([name for name, _ in batch], layout, values, dtype)
                )
                count += len(batch)
                progress.update(len(batch))
        return count

    def remove(self, name: str, version: int | None = None, erase: bool = False) -> int:
        """Remove a version of an adapter, or all of them with its aliases.

        Args:
            name: of the adapter.
            version: all if None.
            erase: leave no bytes of it in the store, and forget the name with its last version: the file is written
                anew. May be called again for a name that is gone.

        Returns: how many versions are gone.

        Raises: MissingAdapterError, if there is none. StoreError, if an alias is that version, or bytes cannot be
            erased yet.
        """
        return (changes.erase if erase else changes.remove)(self._tables, name, version)

    def set_alias(self, name: str, alias: str, version: int | None = None) -> int:
        """Let `name@alias` mean a version from now on: one transaction, in which it moves from the version it was.

        Args:
            name: of the adapter.
            alias: such as live; 1 to 100 printable characters, not digits alone, without @.
            version: the latest if None.

        Returns: version.

        Raises: MissingAdapterError, if it is not there. StoreError, if this cannot be an alias.
        """
        version = self._tables.row(name).version if version is None else version
        changes.set_alias(self._tables, name, alias, version)
        return version

    def remove_alias(self, name: str, alias: str) -> None:
        """Remove an alias of the adapter of this name; the version stays.

        Raises: MissingAdapterError, if there is none.
        """
        changes.remove_alias(self._tables, name, alias)

    def backup(self, file: str | Path) -> None:
        """Write all that the store holds at one moment into a new file, a store of its own; writers go on meanwhile.

        Raises: OutputExistsError, if there is such a file. StoreError, if it cannot be written, or for PostgreSQL.
        """
        copies.backup(self._tables, file)

    def restore(self, file: str | Path) -> int:
        """Replace all that the store holds by what a backup holds, in one transaction; readers go on.

        Numbers of versions that were given since the backup are not given again.

        Returns: how many versions there are now.

        Raises: StoreError, if the backup is none, or damaged, or of another base; then the store stays as it is.
        """
        return copies.restore(self._tables, file)

    def check_writable(self) -> None:
        """See whether adapters can be added.

        Raises: PlaceError or StoreError, if not.
        """
        self._tables.backend.check_writable()

    def alone(self) -> AbstractContextManager[bool]:
        """Whether nobody else is in such a block; for a store on a server, which keeps the claim for this long.

        Raises: StoreError, for a file: a claim of it is a file beside it.
        """
        if isinstance(self._tables.backend, SQLiteFile):
            raise StoreError(f"{self} is a file, which keeps no claims; put one beside it")
        return self._tables.backend.alone()

    def verify(self) -> Sequence[str]:
        """Read everything and check it: one sentence a fault, none if all is well."""
        return find_faults(self._tables)

    def stats(self) -> StoreStats:
        """Counts, bytes, norms a layer, scores, duplicates; reads every row once."""
        return measure_store(self._tables, self.blocks(), self.list())

    def close(self) -> None:
        """Close the store; nothing waits to be written."""
        self._tables.close()

    def __enter__(self) -> AdapterStore:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()
