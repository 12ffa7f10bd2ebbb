"""Names, versions and aliases: `name`, `name@3`, `name@live`."""

from __future__ import annotations

from typing import NamedTuple

from fourierft.errors import StoreError
from fourierft.store.seals import seal

MOST_CHARACTERS = 100


class Resolved(NamedTuple):
    """The version that a reference means.

    Fields:
        id: of its row; never given twice in a store, so what was read under it stays what it is.
        name: of the adapter.
        version: of it.
    """

    id: int
    name: str
    version: int


class Alias(NamedTuple):
    """A row of the table of aliases."""

    name: str
    alias: str
    version: int
    seal: bytes

    @property
    def is_whole(self) -> bool:
        """Whether it is what it was when it was set."""
        return self.seal == seal(self.name, self.alias, self.version)


def read_reference(text: str) -> tuple[str, int | None, str | None] | None:
    """(name, version, None) of `name@3`, (name, None, alias) of `name@live`; None of what is neither."""
    name, at, after = text.rpartition("@")
    if not at or not name or not after or len(after) > MOST_CHARACTERS:
        return None
    if after.isascii() and after.isdigit():
        return (name, int(after), None) if len(after) < 19 and after[0] != "0" else None
    return name, None, after


def check_alias(alias: str) -> None:
    """Raise StoreError for what cannot be an alias: it must read as one, and as no version."""
    if read_reference(f"name@{alias}") != ("name", None, alias) or not alias.isprintable():
        raise StoreError(
            f"{alias!r} cannot be an alias; use 1 to {MOST_CHARACTERS} printable characters "
            "without @, and not only digits"
        )
