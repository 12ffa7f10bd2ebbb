"""What the server tells of itself, as often as it is asked."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from fourierft.adapters.store import Adapter, AdapterStore
from fourierft.serving import status as module
from fourierft.serving.fleet import Fleet
from fourierft.serving.status import MOST_COUNTED, Status
from fourierft.serving.tenant import Tenant
from fourierft.serving.tenants import Tenants

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


async def test_many_who_ask_are_one_look_at_the_store_and_the_engine(status: Status) -> None:
    engine: Any = status._fleet._engine
    for _ in range(50):
        await status.read(BOSS)
    assert len(engine.calls) == 1


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
