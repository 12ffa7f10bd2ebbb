"""Stores on every backend that is here, and a small layout whose adapters need no model."""

from __future__ import annotations

import itertools
import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from fourierft.adapters.store import AdapterStore, Layout

SERVERS = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))  # where Debian puts it
collect_ignore = [] if SERVERS else ["test_server.py"]
BACKENDS = ["sqlite", *(["postgresql"] if SERVERS else [])]
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
    """Address of a PostgreSQL server of our own, reached by a socket in its folder."""
    folder = Path(tempfile.mkdtemp(prefix="pg-"))
    name = "postgres" if os.geteuid() == 0 else pwd.getpwuid(os.geteuid()).pw_name  # the server refuses to run as root
    account = {"user": name, "group": pwd.getpwnam(name).pw_gid, "extra_groups": []} if os.geteuid() == 0 else {}
    if account:
        shutil.chown(folder, name)
    programs = SERVERS[-1].parent

    def call(program: str, *arguments: str) -> None:
        command = [str(programs / program), "-D", str(folder / "data"), *arguments]
        subprocess.run(command, check=True, cwd=folder, stdout=subprocess.DEVNULL, **account)

    call("initdb", "-A", "trust", "-U", "fleet", "-E", "UTF8", "--locale=C", "--no-sync")
    # no vacuum of its own: VACUUM FULL keeps a row that another transaction, such as that one, may still see
    settings = f"-c listen_addresses='' -c autovacuum=off -k {folder}"
    call("pg_ctl", "-w", "-l", str(folder / "log"), "-o", settings, "start")
    yield f"postgresql://fleet@/postgres?host={folder}"
    call("pg_ctl", "-w", "-m", "immediate", "stop")
    shutil.rmtree(folder)


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
