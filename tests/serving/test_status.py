"""What the server tells of itself, as often as it is asked."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest

from fourierft.serving import status as module
from fourierft.serving.fleet import Fleet
from fourierft.serving.status import MOST_COUNTED, Status
from fourierft.serving.tenant import Tenant
from fourierft.serving.tenants import Tenants
from fourierft.store import Adapter, AdapterStore
from tests.store.conftest import BACKENDS, new_schema, server  # noqa: F401

from .standin import Engine

pytestmark = pytest.mark.anyio
BOSS, EVERY_ONE = Tenant("boss", ("*",), admin=True), Tenant("every", ("*",))


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def status(store: AdapterStore) -> Status:
    return Status(Fleet(store, Engine(), ["base"]), Tenants({"0" * 64: BOSS, "1" * 64: EVERY_ONE}))


async def test_a_tenant_sees_its_own_and_an_admin_everything(status: Status) -> None:
    own = await status.read(EVERY_ONE)
    assert (own["adapters"], own["has_more"], own["base"]) == (5, False, "base")
    assert "recent" not in own
    everything = await status.read(BOSS)
    assert (everything["adapters"], everything["resident"], everything["recent"]) == (5, 3, [])


async def test_many_who_ask_are_one_look_at_the_store_and_the_engine(
    status: Status, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_LASTS", 1e9)  # however slow the machine
    engine: Any = status._fleet._engine
    for _ in range(50):
        await status.read(BOSS)
    assert len(engine.calls) == 1
    monkeypatch.setattr(module, "_LASTS", 0.0)
    await status.read(BOSS)
    assert len(engine.calls) == 2


async def test_no_more_names_are_read_than_are_counted(
    tmp_path: Any, make_adapter: Callable[..., Adapter], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_LASTS", 0.0)
    count = 100_000
    names = [f"customer/{k:06}" for k in range(count)]
    read = 0

    def stored(prefix: str, after: str) -> Any:
        nonlocal read
        for name in names:
            read += 1
            yield name

    fleet: Any = SimpleNamespace(store=SimpleNamespace(names=stored), base=["base"])
    status = Status(fleet, Tenants({"1" * 64: EVERY_ONE}))
    own = await status.read(EVERY_ONE)
    assert (own["adapters"], own["has_more"]) == (MOST_COUNTED, True)
    assert read <= MOST_COUNTED + 1


def names_of(tenant: Tenant, store: Any) -> list[str | None]:
    return list(module.visible(cast(Any, SimpleNamespace(store=store)), tenant))


def test_patterns_that_fit_few_names_have_few_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_READ", 10)
    read = []

    def stored(prefix: str, after: str) -> Any:
        for name in (*(f"a{k:02}" for k in range(30)), "b1", "b2"):
            if name.startswith(prefix):
                read.append(name)
                yield name

    store = SimpleNamespace(names=stored)
    assert names_of(Tenant("t", ("*z",)), store) == [None]
    assert len(read) == 11
    assert names_of(Tenant("t", ("*3",)), store) == ["a03", None]
    assert names_of(Tenant("t", ("a01", "a05", "b*")), store) == ["a01", "a05", "b1", "b2"]
    assert names_of(Tenant("t", ("a0", "a01", "a0*5", "b1")), store) == ["a01", "a05", "b1"]


async def test_a_count_that_was_not_ended_says_so(status: Status, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_READ", 3)
    own = await status.read(Tenant("t", ("*e*",)))
    assert (own["adapters"], own["has_more"]) == (3, True)


@pytest.mark.parametrize("where", BACKENDS)
def test_a_tenant_of_many_patterns_takes_one_connection(
    where: str, request: pytest.FixtureRequest, tmp_path: Any, make_adapter: Callable[..., Adapter]
) -> None:
    location = tmp_path / "other.db" if where == "sqlite" else request.getfixturevalue("new_schema")()
    with AdapterStore(location, timeout=5) as store:
        store.add_many(make_adapter(0).layout, [(f"{k:02}/a", make_adapter(k).values) for k in range(40)])
        assert len(names_of(Tenant("t", tuple(f"{k:02}/*" for k in range(40))), store)) == 40
