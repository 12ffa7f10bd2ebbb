"""What only a server has: claims that end with their connection, and rights. Collected where there is PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from fourierft.adapters.store import AdapterStore, Layout
from fourierft.adapters.store.postgres import PostgresDatabase
from fourierft.errors import StoreError


def test_one_at_a_time_claims_a_schema(new_schema: Callable[[], str]) -> None:
    here, there = new_schema(), new_schema()
    first, second, other = (PostgresDatabase(url, timeout=5) for url in (here, here, there))
    with first.alone() as claim:
        assert claim
        with second.alone() as later, other.alone() as elsewhere:
            assert not later
            assert elsewhere
        with second.alone() as again:
            assert not again
    with second.alone() as after:
        assert after
    for database in (first, second, other):
        database.close()


def test_who_may_not_write_is_told_before(new_schema: Callable[[], str], layout: Layout) -> None:
    import sqlalchemy

    url = new_schema()
    schema = url.rpartition("%3D")[2]
    reader = url.replace("postgresql://fleet@", "postgresql://reader@")
    engine = sqlalchemy.create_engine(url.replace("postgresql:", "postgresql+psycopg:"))
    with engine.begin() as connection:
        connection.execute(sqlalchemy.text(f"CREATE ROLE reader LOGIN; GRANT USAGE ON SCHEMA {schema} TO reader"))
    database = PostgresDatabase(reader, timeout=5)
    with pytest.raises(StoreError, match="you have no right to CREATE there; ask its owner"):
        database.check_writable()
    with AdapterStore(url) as store:
        store.tables.backend.check_writable()
        store.put("a", layout, torch.zeros(layout.total))
        store.tables.backend.check_writable()
    with engine.begin() as connection:
        connection.execute(sqlalchemy.text(f"GRANT SELECT ON ALL TABLES IN SCHEMA {schema} TO reader"))
    with pytest.raises(StoreError, match="you have no right to INSERT there; ask its owner"):
        database.check_writable()
    database.close()
    engine.dispose()
