"""The tables of one store: made when they are first written to, and checked when they are first read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from fourierft.errors import MissingAdapterError, StoreError
from fourierft.format.identity import BaseIdentity, identify_base
from fourierft.format.layout import Layout, read_layout
from fourierft.store.databases import schema
from fourierft.store.databases.connections import first
from fourierft.store.databases.migration import upgrade
from fourierft.store.databases.postgres import SCHEMES, PostgresDatabase
from fourierft.store.databases.sqlite import Execute, SQLiteFile
from fourierft.store.references import Alias, Resolved, read_reference
from fourierft.store.rows import Row
from fourierft.store.seals import seal, seal_facts

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

    def __init__(self, location: str | Path, base_model: str | Path | None, create: bool, timeout: float):
        remote = str(location).startswith(SCHEMES)
        self.backend = PostgresDatabase(str(location), timeout) if remote else SQLiteFile(location, timeout)
        self.base = identify_base(str(base_model)) if base_model else None
        self._made = False
        self._layouts: dict[int, Layout] = {}
        try:
            if not self.is_made() and not create:
                raise StoreError(
                    f"there is no store {self}; create it with `fourierft store add`, by adding the first adapter"
                )
        except BaseException:
            self.close()
            raise

    def __str__(self) -> str:
        return str(self.backend)

    def is_made(self) -> bool:
        """Whether the tables are there; format and base are checked the first time, and format 1 made format 2.

        Raises: StoreError, if they are of a newer format or another base, or damaged.
        """
        if self._made or not self.backend.is_made():
            return self._made
        facts = dict(self.backend.rows(schema.READ_STORE))
        if facts.get("format") == "1":
            upgrade(self.backend)
            facts = dict(self.backend.rows(schema.READ_STORE))
        if facts.get("format") != str(schema.FORMAT):
            raise StoreError(
                f"{self} is a store of format {facts.get('format')}, but this version reads "
                f"format {schema.FORMAT}; upgrade fourierft"
            )
        if facts.get("seal") != seal_facts(facts):
            raise StoreError(f"{self} is damaged: the SHA-256 of its base's record has changed")
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
            f"{self} keeps adapters of the base {self.base.describe()}, but {what} for "
            f"{other.describe()}; use a separate store for each base (allow_other_base "
            "works only when you add existing adapters)"
        )

    def rows(self, statement: str, parameters: Mapping[str, Any] | None = None) -> Iterator[tuple[Any, ...]]:
        """Rows of a query; none if there are no tables yet."""
        if self.is_made():
            yield from self.backend.rows(statement, parameters)

    def count(self) -> int:
        return first(self.rows(schema.COUNT), (0,))[0]

    def writing(self) -> AbstractContextManager[Execute]:
        """A transaction on tables that are there."""
        return self.backend.writing()

    def row(self, name: str, version: int | None = None) -> Row:
        """The row of an adapter, unchecked: a version, or the latest.

        Raises: StoreError, if there is none.
        """
        statement = schema.GET_LATEST if version is None else schema.GET_VERSION
        if version is not None and not _is_version(version):
            raise self.missing(name, version)
        found = first(self.rows(statement, {"name": name, "version": version}), None)
        if found is None:
            raise self.missing(name, version)
        return Row(*found)

    def latest(self, name: str) -> tuple[int, int] | None:
        """(id, version) of the latest version of an adapter, None if there is none. An id is never given twice."""
        return first(self.rows(schema.LATEST, {"name": name}), None)

    def id_of(self, name: str, version: int) -> int | None:
        """The id of a version, None if it is not there."""
        if not _is_version(version):
            return None
        return first(self.rows(schema.FIND_VERSION, {"name": name, "version": version}), (None,))[0]

    def resolve(self, reference: str) -> Resolved:
        """The version that `name`, `name@3` or `name@live` means; a name that holds an @ goes before.

        Raises: MissingAdapterError, if there is none. StoreError, if the alias is damaged.
        """
        latest, parts = self.latest(reference), read_reference(reference)
        if latest is not None:
            return Resolved(latest[0], reference, latest[1])
        if parts is None:
            raise self.missing(reference, None)
        name, version, alias = parts
        before = None
        while (wanted := version or self.alias(name, alias or "")) is not None:
            found = self.id_of(name, wanted)
            if found is not None:
                return Resolved(found, name, wanted)
            if version is not None:
                break
            if wanted == before:
                raise StoreError(
                    f"{self} is damaged: the alias {alias!r} of {name!r} names version {wanted}, which is missing"
                )
            before = wanted  # it was moved and its version removed, or so it seems
        if not self.versions(name):
            raise self.missing(reference, None)
        raise self.missing(name, version) if version else self.no_alias(name, alias or "")

    def alias(self, name: str, alias: str) -> int | None:
        """The version that an alias is, None if there is none.

        Raises: StoreError, if it is damaged.
        """
        found = first(self.rows(schema.ALIAS, {"name": name, "alias": alias}), None)
        return None if found is None else self.check_alias(Alias(*found)).version

    def aliases(self, name: str) -> list[Alias]:
        """The aliases of an adapter, in the order of their code points.

        Raises: StoreError, if one is damaged.
        """
        return [self.check_alias(Alias(*found)) for found in self.rows(schema.ALIASES, {"name": name})]

    def check_alias(self, alias: Alias) -> Alias:
        """The alias, or StoreError if it is damaged."""
        if not alias.is_whole:
            raise StoreError(
                f"{self} is damaged: the SHA-256 of the alias {alias.alias!r} of {alias.name!r} has changed"
            )
        return alias

    def check_removed(self, name: str, version: int, kept: bytes) -> None:
        """Raise StoreError if what is noted of removed versions is damaged."""
        if kept != seal(name, version):
            raise StoreError(
                f"{self} is damaged: the SHA-256 of the note of the removed versions of {name!r} has changed"
            )

    def versions(self, name: str) -> list[int]:
        """Versions of an adapter that are there, oldest first."""
        return [version for (version,) in self.rows(schema.VERSIONS, {"name": name})]

    def missing(self, name: str, version: int | None) -> MissingAdapterError:
        """What to raise for an adapter that is not there."""
        there = self.versions(name)
        if there:
            return MissingAdapterError(f"{name!r} has no version {version}; there are {_few(there)}")
        return MissingAdapterError(f"{self} has no adapter {name!r}; `fourierft store list` shows what it has")

    def no_alias(self, name: str, alias: str) -> MissingAdapterError:
        """What to raise for an alias that is not there."""
        there = ", ".join(found.alias for found in self.aliases(name)) or "none"
        return MissingAdapterError(f"{name!r} has no alias {alias!r}; there are {there}")

    def has_id(self, found: int) -> bool:
        """Whether there is a row of this id."""
        return first(self.rows(schema.GET_ID, {"id": found}), None) is not None

    def layout(self, layout_id: int) -> Layout:
        """The layout of an id.

        Raises: StoreError, if it is gone or damaged.
        """
        if layout_id not in self._layouts:
            self._layouts[layout_id] = self.read_layout(layout_id)
        return self._layouts[layout_id]

    def read_layout(self, layout_id: int) -> Layout:
        """The same, read anew."""
        found = first(self.rows(schema.READ_LAYOUT, {"id": layout_id}), None)
        if found is None:
            raise StoreError(f"{self} is damaged: the layout {layout_id} of some adapters is missing")
        layout = _check_layout(found)
        if layout is None:
            raise StoreError(f"{self} is damaged: the SHA-256 of the layout {layout_id} has changed")
        return layout

    def layouts(self) -> list[Layout]:
        return [self.layout(found) for (found,) in self.rows(schema.LAYOUT_IDS)]

    def find_layout(self, digest: str) -> Layout | None:
        """The layout of a digest, with the shapes that it was given when it came; None if it has not."""
        found = first(self.rows(schema.FIND_LAYOUT, {"digest": digest}), None)
        return self.layout(found[0]) if found else None

    def make(self, base: BaseIdentity, row_bytes: int) -> None:
        """Make the tables where they are not there yet.

        Args:
            base: of the first adapter; that which the store was opened with goes before.
            row_bytes: size of a typical row.
        """
        if not self.is_made():
            self.base = self.base or base
            self.backend.make(self._describe, _ROW_BYTES + row_bytes)
            self.is_made()

    def close(self) -> None:
        self.backend.close()

    def _describe(self, execute: Execute) -> None:
        assert self.base is not None
        facts = {"format": str(schema.FORMAT), "base_model": self.base.name, "base_digest": self.base.digest}
        facts["base_signs"] = self.base.signs
        known = {key: value for key, value in facts.items() if value}
        known["seal"] = seal_facts(known)
        execute(schema.ADD_STORE, [{"key": key, "value": value} for key, value in known.items()])


def _is_version(version: object) -> bool:
    """Whether a database can be asked for it."""
    return isinstance(version, int) and 0 < version < 1 << 31


def _few(versions: list[int]) -> str:
    shown = map(str, versions if len(versions) <= 20 else [*versions[:3], "...", *versions[-10:]])
    return ", ".join(shown)


def _check_layout(columns: tuple[Any, ...]) -> Layout | None:
    """The layout of the columns of `schema.READ_LAYOUT`; None if one of them is not what it was."""
    *texts, digest, basis, n, scaling, kept = columns
    if seal(*texts) != kept:
        return None
    layout = read_layout(*texts)
    is_whole = (layout.digest, layout.draw_key, layout.total, layout.scaling) == (digest, basis, n, scaling)
    return layout if is_whole else None
