"""The tables of one store: made when they are first written to, and checked when they are first read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from fourierft.adapters.store import schema
from fourierft.adapters.store.layout import Layout, read_layout
from fourierft.adapters.store.postgres import SCHEMES, PostgresDatabase
from fourierft.adapters.store.rows import Row
from fourierft.adapters.store.sqlite import Execute, SQLiteFile
from fourierft.errors import StoreError
from fourierft.format.identity import BaseIdentity, identify_base

_ROW_BYTES = 100  # of a row beside its blobs


class StoreTables:
    """What `AdapterStore` stands on.

    Args:
        location: path of a SQLite file, or postgresql://...
        base_model: hub id or folder of the base; None takes that of the store, or of the first adapter.
        create: whether a store that is not there is made when the first adapter comes.
        timeout: seconds to wait for another writer.

    Raises: StoreError, if there is no store and none is to be made, it is of another base or a newer format, or
        something else stands there.
    """

    def __init__(self, location: str | Path, base_model: str | None, create: bool, timeout: float):
        remote = str(location).startswith(SCHEMES)
        self.backend = PostgresDatabase(str(location), timeout) if remote else SQLiteFile(location, timeout)
        self.base = identify_base(base_model) if base_model else None
        self._made = False
        self._layouts: dict[int, Layout] = {}
        try:
            if not self.is_made() and not create:
                raise StoreError(f"there is no store {self}; `fourierft store add` makes one with its first adapter")
        except BaseException:
            self.close()
            raise

    def __str__(self) -> str:
        return str(self.backend)

    def is_made(self) -> bool:
        """Whether the tables are there; their format and base are checked the first time.

        Raises: StoreError, if they are of a newer format or another base.
        """
        if self._made or not self.backend.is_made():
            return self._made
        facts = dict(self.backend.rows(schema.READ_STORE))
        if facts.get("format") != str(schema.FORMAT):
            raise StoreError(
                f"{self} is a store of format {facts.get('format')}, this version reads format {schema.FORMAT}; "
                "upgrade fourierft"
            )
        kept = BaseIdentity(facts["base_model"], facts.get("base_digest"), facts.get("base_signs"))
        wanted, self.base = self.base, kept
        if wanted is not None:
            self.check_base(wanted, "it was opened")
        self._made = True
        return True

    def check_base(self, other: BaseIdentity, what: str, allow_other_base: bool = False) -> BaseIdentity:
        """The store's base, or `other` if it has none yet.

        Args:
            other: base of what is about to be added or read.
            what: that, for the message.
            allow_other_base: let it be another.

        Raises: StoreError, with both names, if it is another.
        """
        if self.base is None or self.base.is_same(other):
            return other
        if allow_other_base:
            return self.base
        if self.base.signs is None:  # of a store that was made before there were any, or without the base at hand
            here = identify_base(self.base.name)
            if here.digest == self.base.digest and here.is_same(other):
                return other
        raise StoreError(
            f"{self} keeps adapters of the base {self.base.describe()}, but {what} for {other.describe()}; "
            "use a store of its own for each base, or, if you mean it, allow_other_base"
        )

    def rows(self, statement: str, parameters: Mapping[str, Any] | None = None) -> Iterator[tuple[Any, ...]]:
        """Rows of a query; none if there are no tables yet."""
        if self.is_made():
            yield from self.backend.rows(statement, parameters)

    def writing(self) -> AbstractContextManager[Execute]:
        """A transaction on tables that are there."""
        return self.backend.writing()

    def row(self, name: str, version: int | None = None) -> Row:
        """The row of an adapter, unchecked: a version, or the latest.

        Raises: StoreError, if there is none.
        """
        statement = schema.GET_LATEST if version is None else schema.GET_VERSION
        found = next(self.rows(statement, {"name": name, "version": version}), None)
        if found is None:
            raise self.missing(name, version)
        return Row(*found)

    def latest(self, name: str) -> tuple[int, int] | None:
        """(id, version) of the latest version of an adapter, None if there is none. An id is never given twice."""
        return next(self.rows(schema.LATEST, {"name": name}), None)

    def versions(self, name: str) -> list[int]:
        """Versions of an adapter that are there, oldest first."""
        return [version for (version,) in self.rows(schema.VERSIONS, {"name": name})]

    def missing(self, name: str, version: int | None) -> StoreError:
        """What to raise for an adapter that is not there."""
        there = self.versions(name)
        if there:
            return StoreError(f"{name!r} has no version {version}; there are {', '.join(map(str, there))}")
        return StoreError(f"{self} has no adapter {name!r}; `fourierft store list` shows what it has")

    def layout(self, layout_id: int) -> Layout:
        """The layout of an id.

        Raises: StoreError, if it is gone or damaged.
        """
        if layout_id not in self._layouts:
            found = next(self.rows(schema.READ_LAYOUT, {"id": layout_id}), None)
            if found is None:
                raise StoreError(f"{self} is damaged: the layout {layout_id} of some adapters is gone")
            layout = read_layout(*found[:3])
            if layout.digest != found[3]:
                raise StoreError(
                    f"{self} is damaged: the layout {layout_id} has another SHA-256 than when it was added"
                )
            self._layouts[layout_id] = layout
        return self._layouts[layout_id]

    def layouts(self) -> list[Layout]:
        """All layouts."""
        return [self.layout(found) for (found,) in self.rows(schema.LAYOUT_IDS)]

    def find_layout(self, digest: str) -> Layout | None:
        """The layout of a digest, with the shapes that it was given when it came; None if it has not."""
        found = next(self.rows(schema.FIND_LAYOUT, {"digest": digest}), None)
        return self.layout(found[0]) if found else None

    def insert(
        self, layout: Layout, base: BaseIdentity, rows: Sequence[Mapping[str, Any]], exist_ok: bool = True
    ) -> int:
        """Add rows of one layout in one transaction, with the tables and the layout where they are not there yet.

        Args:
            layout: of all rows.
            base: that they were made for.
            rows: columns of `schema.ADD`, without the layout.
            exist_ok: False refuses names that are there.

        Returns: version that the last row got.

        Raises: StoreError, if the base is another, a name is there that must not, or nothing can be written.
        """
        if not self.is_made():
            self.base = self.base or base
            blobs = (rows[0]["coefficients"], rows[0]["heads"] or b"")
            self.backend.make(self._describe, _ROW_BYTES + sum(map(len, blobs)))
            self.is_made()
        self.check_base(base, "what is added was made")
        with self.writing() as execute:
            layout_id = _layout_id(execute, layout)
            for name in [] if exist_ok else [row["name"] for row in rows]:
                if there := execute(schema.VERSIONS, {"name": name}):
                    raise StoreError(
                        f"{self} has an adapter {name!r} already, version {there[-1][0]}; choose another name, or "
                        "let it be the next version"
                    )
            execute(schema.ADD, [{"layout": layout_id, **row} for row in rows])
            return execute(schema.VERSIONS, {"name": rows[-1]["name"]})[-1][0]

    def close(self) -> None:
        """Close all connections."""
        self.backend.close()

    def _describe(self, execute: Execute) -> None:
        assert self.base is not None
        facts = {"format": str(schema.FORMAT), "base_model": self.base.name, "base_digest": self.base.digest}
        facts["base_signs"] = self.base.signs
        execute(schema.ADD_STORE, [{"key": key, "value": value} for key, value in facts.items() if value])


def _layout_id(execute: Execute, layout: Layout) -> int:
    found = execute(schema.FIND_LAYOUT, {"digest": layout.digest})
    if not found:
        execute(
            schema.ADD_LAYOUT,
            {
                "digest": layout.digest,
                "basis": layout.draw_key,
                "n": layout.total,
                "scaling": layout.scaling,
                "config": layout.config_text,
                "layers": layout.layers_text,
                "shapes": layout.shapes_text,
            },
        )
        found = execute(schema.FIND_LAYOUT, {"digest": layout.digest})
    return found[0][0]
