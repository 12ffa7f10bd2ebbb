"""What only a server has: claims that end with their connection, and rights. Collected where there is PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch

from fourierft.errors import StoreError
from fourierft.store import AdapterStore, Layout
from fourierft.store.databases.postgres import PostgresDatabase


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
        store._tables.backend.check_writable()
        store.put("a", layout, torch.zeros(layout.total))
        store._tables.backend.check_writable()
    with engine.begin() as connection:
        connection.execute(sqlalchemy.text(f"GRANT SELECT ON ALL TABLES IN SCHEMA {schema} TO reader"))
    with pytest.raises(StoreError, match="you have no right to INSERT there; ask its owner"):
        database.check_writable()
    database.close()
    engine.dispose()


def test_replica_is_told_before(new_schema: Callable[[], str], layout: Layout) -> None:
    url = new_schema()
    with AdapterStore(url) as store:
        store.put("a", layout, torch.zeros(layout.total))
    database = PostgresDatabase(f"{url}%20-cdefault_transaction_read_only%3Don", timeout=5)
    with pytest.raises(StoreError, match="can't be written to: it is a replica, or read-only for you"):
        database.check_writable()
    database.close()


def test_connections_that_ended_while_they_rested_are_replaced(new_schema: Callable[[], str], layout: Layout) -> None:
    import sqlalchemy

    url = new_schema()
    engine = sqlalchemy.create_engine(url.replace("postgresql:", "postgresql+psycopg:"))
    with AdapterStore(url) as store:
        store.put("a", layout, torch.zeros(layout.total))
        for read in (lambda: store.get("a").version, lambda: store.put("b", layout, torch.zeros(layout.total))):
            reading: list[Any] = [store._tables.rows("SELECT 1") for _ in range(3)]
            assert [next(rows) for rows in reading] == [(1,)] * 3
            for rows in reading:
                rows.close()  # three connections rest now
            with engine.begin() as connection:
                others = "pid <> pg_backend_pid() AND backend_type = 'client backend'"
                end = f"SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE {others}"
                connection.execute(sqlalchemy.text(end))
            assert read() == 1
    engine.dispose()


def test_text_is_read_whatever_encoding_the_user_has(new_schema: Callable[[], str], layout: Layout) -> None:
    url = f"{new_schema()}%20-cclient_encoding%3DSQL_ASCII"
    with AdapterStore(url) as store:
        store.put("日本", layout, torch.zeros(layout.total))
        assert list(store.names()) == ["日本"]


@pytest.mark.parametrize(("setting", "wanted"), [("off", "local"), ("remote_apply", "remote_apply"), ("on", "on")])
def test_what_is_acknowledged_is_on_disk_whatever_the_user_has_set(
    new_schema: Callable[[], str], layout: Layout, setting: str, wanted: str
) -> None:
    with AdapterStore(f"{new_schema()}%20-csynchronous_commit%3D{setting}") as store:
        store.put("a", layout, torch.zeros(layout.total))
        with store._tables.writing() as execute:
            assert execute("SHOW synchronous_commit", {}) == [(wanted,)]


def test_writers_wait_for_one_another_whatever_their_search_path(new_schema: Callable[[], str], layout: Layout) -> None:
    url, front = new_schema(), new_schema().rpartition("%3D")[2]
    other = url.replace("search_path%3D", f"search_path%3D{front},")
    with AdapterStore(url) as store:
        store.put("a", layout, torch.zeros(layout.total))
        with (
            AdapterStore(other, timeout=0.2) as beside,
            store._tables.writing(),
            pytest.raises(StoreError, match="another process is writing"),
        ):
            beside.put("b", layout, torch.zeros(layout.total))


@pytest.mark.parametrize("doing", ["starting up", "shutting down", "in recovery mode"])
def test_server_that_starts_is_waited_for(new_schema: Callable[[], str], doing: str) -> None:
    database = PostgresDatabase(new_schema(), timeout=5)
    with pytest.raises(StoreError, match="is starting or stopping; try again when it is up"), database._explained():
        raise database._error(f'connection to server on socket "/x" failed: FATAL:  the database system is {doing}')
    database.close()


def test_who_writes_needs_no_second_connection(new_schema: Callable[[], str], layout: Layout) -> None:
    """Of 20 writers at once, 15 have a connection each, and all but one of these wait."""
    with AdapterStore(new_schema(), timeout=10) as store:
        store.put("first", layout, torch.zeros(layout.total))
        with store._tables.writing():
            assert next(store._tables.rows("SELECT name FROM fourierft_adapters")) == ("first",)
            assert store._tables.backend._engine.pool.checkedout() == 1
        with ThreadPoolExecutor(20) as pool:
            done = list(pool.map(lambda k: store.put(f"t{k}", layout, torch.zeros(layout.total)), range(60)))
        assert done == [1] * 60
        assert len(store) == 61


def test_what_a_transaction_reads_is_its_own(new_schema: Callable[[], str], layout: Layout) -> None:
    with AdapterStore(new_schema()) as store:
        store.put("a", layout, torch.zeros(layout.total))
        with store._tables.writing() as execute:
            execute("DELETE FROM fourierft_adapters", {})
            assert len(store) == 0
            with AdapterStore(str(store._tables.backend._engine.url).replace("+psycopg", "")) as other:
                assert len(other) == 1


def test_several_who_make_a_store_at_once_make_one(new_schema: Callable[[], str], layout: Layout) -> None:
    url = new_schema()

    def add(k: int) -> int:
        with AdapterStore(url) as store:
            return store.put(f"t{k}", layout, torch.zeros(layout.total))

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(add, range(8))) == [1] * 8
