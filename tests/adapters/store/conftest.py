"""Stores on every backend that is here, and a small layout whose adapters need no model."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from fourierft.adapters.store import AdapterStore, Layout

from .servers import PROGRAMS, Server

collect_ignore = [] if PROGRAMS else ["test_server.py"]
BACKENDS = ["sqlite", *(["postgresql"] if PROGRAMS else [])]
SHAPES = {"a.query": (16, 12), "a.value": (12, 16), "b.query": (16, 12)}
CONFIG = {
    "peft_type": "FOURIERFT",
    "base_model_name_or_path": "org/base",
    "n_frequency": 20,
    "random_loc_seed": 5,
    "scaling": 8.0,
    "target_modules": ["query", "value"],
}
_schemas = itertools.count()


@pytest.fixture
def make_layout() -> Callable[..., Layout]:
    """Makes a layout of three small layers; fields of the config can be given."""
    return lambda shapes=SHAPES, **fields: Layout.make({**CONFIG, **fields}, shapes)


@pytest.fixture
def layout(make_layout: Callable[..., Layout]) -> Layout:
    return make_layout()


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

    def open_it(**options: object) -> AdapterStore:
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
