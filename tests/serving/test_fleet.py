from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fourierft.errors import StoreError
from fourierft.serving import fleet as module
from fourierft.serving.fleet import Fleet, Version
from fourierft.serving.tenant import EVERYBODY, Tenant
from fourierft.store import Adapter, AdapterStore

from .live import until


class Engine:
    """Notes what it is asked for, and answers as an engine of two processes."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.fault: str | None = None

    async def collective_rpc(self, method: str, args: tuple[Any, ...] = ()) -> list[Any]:
        await asyncio.sleep(0)
        self.calls.append((method, *args))
        return [{"resident": 1}] * 2 if method == "fleet_counts" else [None, self.fault]


@pytest.fixture
def fleet(tmp_path: Path, make_adapter: Callable[..., Adapter], monkeypatch: pytest.MonkeyPatch) -> Fleet:
    monkeypatch.setattr(module, "_AFTER", 0.0)
    store = AdapterStore(tmp_path / "fleet.db")
    for key in (1, 2):
        adapter = make_adapter(key)
        store.put(adapter.name, adapter.layout, adapter.values)
    return Fleet(store, Engine(), ["base"])


def test_a_name_means_its_latest_version_with_a_key_of_its_own(fleet: Fleet) -> None:
    first = asyncio.run(fleet.find("adapter-1", EVERYBODY))
    adapter = fleet.store.get("adapter-1")
    fleet.store.put("adapter-1", adapter.layout, adapter.values)
    second = asyncio.run(fleet.find("adapter-1", EVERYBODY))
    assert first is not None
    assert second is not None
    assert (first.number, second.number) == (1, 2)
    assert first.key != second.key
    assert asyncio.run(fleet.find("nobody", EVERYBODY)) is None


def test_a_version_and_an_alias_are_asked_for_by_name(fleet: Fleet) -> None:
    adapter = fleet.store.get("adapter-1")
    fleet.store.put("adapter-1", adapter.layout, adapter.values)
    fleet.store.set_alias("adapter-1", "live", 1)

    def find(reference: str, *patterns: str) -> int | None:
        found = asyncio.run(fleet.find(reference, Tenant("a", patterns or ("*",))))
        return None if found is None else found.number

    references = ("adapter-1", "adapter-1@1", "adapter-1@2", "adapter-1@live", "adapter-1@3", "adapter-1@dead")
    assert [find(reference) for reference in references] == [2, 1, 2, 1, None, None]
    assert [find("adapter-1@live", pattern) for pattern in ("adapter-1", "adapter-1@live", "adapter-2*")] == [
        1,
        None,
        None,
    ]
    assert [find(name) for name in ("", "\0", "\ud800", "x" * 501, "@", "@1")] == [None] * 6


def test_the_engine_is_asked_once_for_requests_at_a_time_and_told_when_the_last_is_done(fleet: Fleet) -> None:
    version = Version("adapter-1", 1, 1)

    async def request(seconds: float) -> None:
        async with fleet.held(version):
            await asyncio.sleep(seconds)

    async def run() -> None:
        await asyncio.gather(request(0.01), request(0.02))
        await until(lambda: len(fleet._engine.calls) == 2)
        assert fleet._engine.calls == [("fleet_hold", 1, "adapter-1", 1), ("fleet_release", 1)]
        await request(0)
        assert fleet._engine.calls[2:] == [("fleet_hold", 1, "adapter-1", 1)]

    asyncio.run(run())
    assert list(fleet.recent.items()) == [("adapter-1", 1)]


def test_what_one_process_of_the_engine_finds_wrong_is_told_and_asked_again_later(fleet: Fleet) -> None:
    version = Version("adapter-1", 1, 1)

    async def run() -> None:
        fleet._engine.fault = "it is damaged"
        with pytest.raises(StoreError, match="it is damaged"):
            async with fleet.held(version):
                raise AssertionError
        await until(lambda: len(fleet._engine.calls) == 2)
        fleet._engine.fault = None
        async with fleet.held(version):
            pass

    asyncio.run(run())
    assert [call[0] for call in fleet._engine.calls] == ["fleet_hold", "fleet_release", "fleet_hold"]


def test_a_request_that_is_given_up_while_the_engine_reads_lets_go(fleet: Fleet) -> None:
    async def request() -> None:
        async with fleet.held(Version("adapter-1", 1, 1)):
            raise AssertionError

    async def run() -> None:
        task = asyncio.create_task(request())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await until(lambda: len(fleet._engine.calls) == 2)

    asyncio.run(run())
    assert [call[0] for call in fleet._engine.calls] == ["fleet_hold", "fleet_release"]


def test_an_engine_that_stops_is_not_asked_to_let_go(fleet: Fleet) -> None:
    async def run() -> None:
        async with fleet.held(Version("adapter-1", 1, 1)):
            fleet.stop()
        await until(lambda: not fleet._holds and not fleet._tasks)

    asyncio.run(run())
    assert [call[0] for call in fleet._engine.calls] == ["fleet_hold"]


def test_the_rate_counts_the_last_seconds(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    fleet.count_tokens(50)
    now[0] = 8.0
    fleet.count_tokens(30)
    assert fleet.tokens_per_second() == 8.0
    now[0] = 12.0
    assert fleet.tokens_per_second() == 3.0
    assert asyncio.run(fleet.counts()) == {"resident": 1}
