"""Stores on every backend that is here."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from fourierft.store import AdapterStore
from tests.adapters.conftest import expert_adapter, headed_logits, make_headed, stock_logits, tied_llama  # noqa: F401

from .servers import PROGRAMS, Server

collect_ignore = [] if PROGRAMS else ["test_server.py"]
BACKENDS = ["sqlite", *(["postgresql"] if PROGRAMS else [])]
_schemas = itertools.count()


@pytest.fixture(scope="session")
def server() -> Iterator[str]:
    """Address of a PostgreSQL server of our own."""
    started = Server()
    yield started.address
    started.close()


@pytest.fixture
def new_schema(server: str) -> Callable[[], str]:
    """Addresses of empty schemas on the server: a store each."""
    import sqlalchemy

    def make() -> str:
        name = f"store_{next(_schemas)}"
        engine = sqlalchemy.create_engine(server.replace("postgresql:", "postgresql+psycopg:"))
        with engine.begin() as connection:
            connection.execute(sqlalchemy.text(f"CREATE SCHEMA {name}"))
        engine.dispose()
        return f"{server}&options=-csearch_path%3D{name}"

    return make


@pytest.fixture(params=BACKENDS)
def location(request: pytest.FixtureRequest, tmp_path: Path) -> str | Path:
    """Where a store may be made: a path, and a schema of a server if one is here."""
    return tmp_path / "fleet.db" if request.param == "sqlite" else request.getfixturevalue("new_schema")()


@pytest.fixture
def open_store(location: str | Path) -> Iterator[Callable[..., AdapterStore]]:
    """Opens the store of the test, again and again; all are closed at its end."""
    opened: list[AdapterStore] = []

    def open_it(**options: Any) -> AdapterStore:
        opened.append(AdapterStore(location, **options))
        return opened[-1]

    yield open_it
    for store in opened:
        store.close()


@pytest.fixture
def store(open_store: Callable[..., AdapterStore]) -> AdapterStore:
    return open_store()


@pytest.fixture
def row() -> Callable[[int], torch.Tensor]:
    """Coefficients by number: [60]."""
    return lambda k: torch.randn(60, generator=torch.Generator().manual_seed(k))
