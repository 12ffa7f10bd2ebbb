"""Whether the store will take the names of a fleet's adapters: asked before they train, not when they are done."""

from __future__ import annotations

from collections.abc import Collection

from fourierft.errors import MissingAdapterError, StoreError
from fourierft.store import AdapterStore
from fourierft.store.additions import check_name
from fourierft.store.references import read_reference


def check_names(names: Collection[str], trained: Collection[str], store: AdapterStore | None) -> None:
    """Check the names of adapters that are about to train.

    Args:
        names: theirs.
        trained: those of the adapters that train beside them.
        store: that they will go into; None asks no store.

    Raises: StoreError, if one cannot be a name, or means a version or an alias of another adapter, as `ann@1` does.
    """
    for name in names:
        check_name(name)
        parts = read_reference(name)
        if parts is None:
            continue
        other, version, _ = parts
        meant = _meant(store, name)
        if meant not in (None, name):
            raise StoreError(f"{store} has {name!r} already, as a version of {meant!r}; choose another name")
        if meant is None and version is not None and (other in names or other in trained):
            raise StoreError(f"the name {name!r} means version {version} of {other!r}; choose another")


def _meant(store: AdapterStore | None, reference: str) -> str | None:
    """The adapter that a reference means in the store."""
    if store is None or not store.is_made():
        return None
    try:
        return store.resolve(reference).name
    except MissingAdapterError:
        return None
