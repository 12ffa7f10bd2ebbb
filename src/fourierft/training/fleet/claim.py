"""The store that a fleet is trained into: of its base, and of one training; two would make each adapter twice."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from fourierft.errors import BusyError
from fourierft.format.identity import identify_base
from fourierft.store import AdapterStore
from fourierft.training.arguments import ModelArguments
from fourierft.training.lock import held
from fourierft.training.models import required_name


def check_base(store: AdapterStore, model: ModelArguments) -> None:
    """Raise StoreError, if a store that is there keeps adapters of another base."""
    if store.base is not None or store.is_made():
        store.check_base(identify_base(required_name(model), model.model_revision), "the fleet is trained")


@contextmanager
def alone_in(store: AdapterStore) -> Iterator[None]:
    """Keep every other training of a fleet out of a store while this lasts; other programs read it and add to it.

    Raises: BusyError, if another process trains into it. StoreError or PlaceError, if nothing can be written there.
    """
    store.check_writable()
    if store.file is not None:
        file = store.file.resolve()
        with held(file.parent, f".{file.name}.training.pid"):
            yield
        return
    with store.alone() as is_alone:
        if not is_alone:
            raise BusyError(
                f"another process is training a fleet into {store}; wait for its end, or name another store"
            )
        yield
