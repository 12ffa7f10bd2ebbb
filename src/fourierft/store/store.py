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

    A name is any text of 1 to 500 characters. Adding to an existing name makes its next version. A version never
    changes, and its number is never used again. `name@3` is version 3, `name@live` the version of the alias `live`.
    When `add` returns, the adapter is on disk. Any number of threads and processes may read while one writes. A
    forked process opens the store again.

    Args:
        path: the file, which the first adapter creates; or postgresql://user@host/database.
        base_model: hub id or folder of the base; None takes the base of the store, or of the first adapter.
        create: False refuses a store that does not exist.
        timeout: seconds to wait for another writer.

    Raises: StoreError, if the store is missing, damaged, of another base or of a newer format, or the file is no store.
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
            name: of the adapter.
            adapter_dir: folder or hub id of the adapter.
            dtype: stored dtype of the coefficients; bfloat16 and int8 round them (`measure_loss`). Heads keep theirs.
            metrics: stored with it; None takes the metrics.json in the folder, if there is one.
            exist_ok: False refuses an existing name instead of making its next version.
            base: hub id or folder of the base, if it is not the one that the adapter names.
            allow_other_base: accept an adapter that was made for another model of the same shapes.

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
            name: of the adapter.
            layout: shapes, entries and scaling of the layers.
            coefficients: [total n], or layer name -> [n]; not multiplied by the scaling.
            heads: parameter name in the base model -> whole tensor.
            dtype: stored dtype of the coefficients.
            metrics, record: stored with it; the record is the text of a fourierft.json.
            exist_ok: False refuses an existing name instead of making its next version.

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
        """Add many adapters without heads, at most 4000 or 32 MiB in a transaction.

        Args:
            layout: of all of them.
            adapters: pairs of name and coefficients [total n]; read as they are needed.
            dtype: stored dtype of the coefficients.
            total: number of adapters, for the progress bar.

        Returns: how many were added. An error loses the current transaction; those before it stay.

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
            version: None removes all.
            erase: leave no bytes of it in the store, and forget the name with its last version; this rewrites the file.
                It may be called again for a removed name.

        Returns: how many versions were removed.

        Raises: MissingAdapterError, if there is none. StoreError, if an alias is that version, or bytes cannot be
            erased yet.
        """
        return (changes.erase if erase else changes.remove)(self._tables, name, version)

    def set_alias(self, name: str, alias: str, version: int | None = None) -> int:
        """Let `name@alias` mean this version from now on; an existing alias moves in one transaction.

        Args:
            name: of the adapter.
            alias: such as live; 1 to 100 printable characters without @, not only digits.
            version: None takes the latest.

        Returns: version.

        Raises: MissingAdapterError, if there is no such version. StoreError, if the alias is not allowed.
        """
        version = self._tables.row(name).version if version is None else version
        changes.set_alias(self._tables, name, alias, version)
        return version

    def remove_alias(self, name: str, alias: str) -> None:
        """Remove the alias of the adapter `name`; the version stays.

        Raises: MissingAdapterError, if there is none.
        """
        changes.remove_alias(self._tables, name, alias)

    def backup(self, file: str | Path) -> None:
        """Copy the store, as it is at one moment, into a new file that is a store too; writers are not stopped.

        Raises: OutputExistsError, if the file exists. StoreError, if it cannot be written, or for PostgreSQL.
        """
        copies.backup(self._tables, file)

    def restore(self, file: str | Path) -> int:
        """Replace the content of the store by that of a backup, in one transaction; readers are not stopped.

        Version numbers used since the backup are not used again.

        Returns: how many versions there are now.

        Raises: StoreError, if the file is no backup, damaged or of another base; then the store is unchanged.
        """
        return copies.restore(self._tables, file)

    def check_writable(self) -> None:
        """Check that adapters can be added.

        Raises: PlaceError or StoreError, if not.
        """
        self._tables.backend.check_writable()

    def alone(self) -> AbstractContextManager[bool]:
        """Enter a block that one process at a time may enter: True if this one may. For a store on a server.

        Raises: StoreError, for a file: a claim of it is a file beside it.
        """
        if isinstance(self._tables.backend, SQLiteFile):
            raise StoreError(f"{self} is a file, which keeps no claims; put one beside it")
        return self._tables.backend.alone()

    def verify(self) -> Sequence[str]:
        """Read and check everything: one sentence for each fault."""
        return find_faults(self._tables)

    def stats(self) -> StoreStats:
        """Counts, bytes, norms of each layer, scores and duplicates; reads every row once."""
        return measure_store(self._tables, self.blocks(), self.list())

    def close(self) -> None:
        """Close the store; all writes are on disk already."""
        self._tables.close()

    def __enter__(self) -> AdapterStore:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()
