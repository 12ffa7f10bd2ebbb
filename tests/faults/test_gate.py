"""The gate under attack: requests, clients, connections and changes drawn from a seed."""

# ruff: noqa: F811 -- fixtures of the store

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from fourierft.serving import completions
from fourierft.serving import fleet as fleet_module
from fourierft.serving import lines as lines_module
from fourierft.serving.gate import Settings
from fourierft.serving.limits import Limits
from fourierft.serving.tenant import Tenant
from fourierft.serving.tenants import Tenants
from fourierft.serving.tenants_file import read_tenants
from fourierft.store import AdapterStore, Layout
from tests.serving.live import allow_files, completion, exchange, live, request, until
from tests.serving.standin import make_app, stand_in_for_vllm
from tests.store.conftest import location, new_schema, server  # noqa: F401

from .conftest import Campaign
from .hostile import draw_request
from .judging import judge, send

QUICK = Limits(body=1 << 20, pause=0.3, body_time=0.6, turn=20.0, send=0.5)
BOSS, ACME = (hashlib.sha256(key).hexdigest() for key in (b"boss", b"acme"))
AT_ONCE = 16
CONFIG = {
    "peft_type": "FOURIERFT",
    "base_model_name_or_path": "base",
    "n_frequency": 12,
    "random_loc_seed": 777,
    "scaling": 60.0,
    "target_modules": ["q_proj"],
}


@pytest.fixture
def store(tmp_path: Path) -> Iterator[AdapterStore]:
    with AdapterStore(tmp_path / "fleet.db") as store:
        yield fill(store)


@pytest.fixture
def any_store(location: str | Path) -> Iterator[AdapterStore]:
    """The same in each database."""
    with AdapterStore(location) as store:
        yield fill(store)


def fill(store: AdapterStore) -> AdapterStore:
    layout = Layout.make(CONFIG, {"q_proj": (24, 16)})
    for name in ("shared", "broken"):
        for _ in range(3):
            store.put(name, layout, torch.randn(layout.total))
    store.set_alias("shared", "live", 2)
    return store


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[dict[str, Any]]]:
    """The lines of the gate's log."""
    found: list[dict[str, Any]] = []
    monkeypatch.setattr(lines_module.LOG, "info", lambda text: found.append(json.loads(text)))
    yield found
    logging.getLogger("fourierft.requests").handlers = []


def serve(monkeypatch: pytest.MonkeyPatch, location: object, tenants: Tenants, **more: Any) -> Any:
    stand_in_for_vllm(monkeypatch)
    monkeypatch.setattr(fleet_module, "_AFTER", 0.01)
    app = make_app(Settings(str(location), tenants, **{"limits": QUICK, **more}))
    app.state.held = asyncio.Event()
    return app


def one_tenant(**limits: Any) -> Tenants:
    return Tenants({BOSS: Tenant("boss", ("*",), admin=True, **limits)})


async def all_free(port: int, state: Any, tenants: Tenants) -> str | None:
    """Whether nothing is left of those who asked, and the next is answered."""
    turns = tenants.all()[0]
    try:
        await until(lambda: turns.places == turns.running == 0)
        answer = await exchange(port, completion("shared", "boss"))
        await until(lambda: count(state, "fleet_hold") == count(state, "fleet_release"))
    except TimeoutError:
        return f"{turns.places} places and {turns.running} turns are taken, or adapters held"
    return None if answer.status == 200 else f"the next is answered with {answer.status}"


def count(state: Any, method: str) -> int:
    return sum(call[0] == method for call in state.engine_client.calls)


@pytest.mark.parametrize("http", ["httptools", "h11"])
def test_hostile_requests(
    campaign: Campaign,
    http: str,
    any_store: AdapterStore,
    location: object,
    monkeypatch: pytest.MonkeyPatch,
    lines: list[dict[str, Any]],
) -> None:
    acme = Tenant("acme", ("shared", "x*"))
    tenants = Tenants({BOSS: Tenant("boss", ("*",), admin=True), ACME: acme})
    app, chance = serve(monkeypatch, location, tenants), campaign.chance
    left, statuses, wanted = campaign.count(250, 10_000), Counter[int](), {200, 400, 401, 404, 405, 409}

    async def attack(port: int) -> None:
        nonlocal left
        while left > 0 or (left > -5000 and not wanted <= set(statuses)):  # a slow machine answers fewer in time
            left -= 1
            data = draw_request(chance, chance.choice(["boss", "acme"]))
            answer = await send(port, data, 1.5)
            campaign.note(judge(data, answer))
            statuses[answer.status] += 1
            if data.startswith(b"DELETE"):
                await asyncio.to_thread(restore, any_store)

    async def main() -> None:
        async with live(app, http) as port:
            await asyncio.gather(*(attack(port) for _ in range(AT_ONCE)))
            campaign.note(await all_free(port, app.state, tenants))

    asyncio.run(main())
    assert set(statuses) >= wanted, statuses
    for line in lines:
        if line["event"] == "failure":
            campaign.note(str(line["traceback"][-3:]))
        campaign.note(None if all(part.isprintable() for part in line.values() if isinstance(part, str)) else str(line))


def restore(store: AdapterStore) -> None:
    """Have the adapter there again, which an admin's request removed."""
    if "shared" not in store:
        layout = Layout.make(CONFIG, {"q_proj": (24, 16)})
        store.put("shared", layout, torch.randn(layout.total))


def test_clients_that_leave_and_slow_clients(
    campaign: Campaign, store: AdapterStore, monkeypatch: pytest.MonkeyPatch, lines: list[dict[str, Any]]
) -> None:
    tenants, chance = one_tenant(running=3, waiting=20), campaign.chance
    app = serve(monkeypatch, store, tenants)

    async def attempt(port: int) -> str | None:
        stream = {"stream": True, "words": ["word"], "times": chance.randrange(50), "pause": 0.002}
        data = completion(
            chance.choice(["shared", "shared@live", "base"]), "boss", **(stream if chance.random() < 0.5 else {})
        )
        how = chance.choice(["whole", "leave", "half", "slow", "deaf"])
        if how == "whole":
            answer = await exchange(port, data)
            told = answer.status == 200 or (answer.status in (429, 503) and "retry-after" in answer.headers)
            return None if told else f"a client that stays got {answer.status} {answer.body[:100]!r}"
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            if how == "slow":
                for start in range(0, len(data), 40):
                    writer.write(data[start : start + 40])
                    await asyncio.sleep(chance.random() * 0.2)
            else:
                writer.write(data if how != "half" else data[: chance.randrange(len(data))])
            await asyncio.sleep(chance.random() * 0.2)
            if how == "deaf":
                await asyncio.sleep(0.3)
        finally:
            if chance.random() < 0.5:
                writer.transport.abort()
            else:
                writer.close()
        return None

    async def main() -> None:
        left = campaign.count(200, 3000)

        async def client(port: int) -> None:
            nonlocal left
            while left > 0:
                left -= 1
                campaign.note(await attempt(port))

        async with live(app) as port:
            await asyncio.gather(*(client(port) for _ in range(40)))
            campaign.note(await all_free(port, app.state, tenants))

    asyncio.run(main())
    for line in lines:
        campaign.note(None if line["event"] == "request" and line["status"] != 500 else str(line))
    assert {line["status"] for line in lines} >= {200, 499}


def test_connections_that_send_half(
    campaign: Campaign, store: AdapterStore, monkeypatch: pytest.MonkeyPatch, lines: list[dict[str, Any]]
) -> None:
    allow_files()
    tenants, chance = one_tenant(running=4, waiting=16), campaign.chance
    app = serve(monkeypatch, store, tenants)
    data = request("POST", "/v1/completions", {"Authorization": "Bearer boss", "Content-Length": "5000"}) + b" " * 4000

    async def main() -> None:
        async with live(app) as port:
            opened = []
            for _ in range(campaign.count(300, 2000)):
                _, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.write(data[: chance.choice([0, 10, 100, len(data)])])
                opened.append(writer)
            for _ in range(20):
                answer = await exchange(port, request("GET", "/v1/models", {"Authorization": "Bearer boss"}))
                campaign.note(None if answer.status == 200 else f"GET got {answer.status}")
            await until(lambda: tenants.all()[0].places == 0)  # half bodies end by themselves
            campaign.note(await all_free(port, app.state, tenants))  # while half headers stay
            for writer in opened:
                writer.close()
                campaign.note(None)

    asyncio.run(main())
    assert {line["status"] for line in lines} >= {200, 408}


def test_adapters_that_are_replaced_and_aliases_that_move(
    campaign: Campaign,
    any_store: AdapterStore,
    location: object,
    monkeypatch: pytest.MonkeyPatch,
    lines: list[dict[str, Any]],
) -> None:
    monkeypatch.setattr(completions, "_LOOKS", 1000)  # a slow machine may replace it more than ten times in between
    tenants, chance, store = one_tenant(), campaign.chance, any_store
    app = serve(monkeypatch, location, tenants)
    engine, adapter = app.state.engine_client, store.get("shared")
    stop = asyncio.Event()

    async def read(method: str, args: tuple[Any, ...] = ()) -> list[Any]:
        """What an engine answers, which reads the version when it is asked."""
        engine.calls.append((method, *args))
        if method != "fleet_hold":
            return [None]
        try:
            await asyncio.to_thread(store.get, args[1], args[2])
        except Exception as error:
            return [str(error)]
        return [None]

    engine.collective_rpc = read

    async def replace() -> None:
        while not stop.is_set():
            new = await asyncio.to_thread(store.put, "shared", adapter.layout, adapter.values)
            await asyncio.to_thread(store.set_alias, "shared", "live", new)
            await asyncio.to_thread(store.remove, "shared", new - 1)

    async def ask(port: int, count: int) -> None:
        for _ in range(count):
            reference = chance.choice(["shared", "shared@live"])
            answer = await exchange(port, completion(reference, "boss"))
            campaign.note(None if answer.status == 200 else f"{reference}: {answer.status} {answer.body!r}")

    async def main() -> None:
        async with live(app) as port:
            store.set_alias("shared", "live", 3)
            store.remove("shared", 1)
            replacing = asyncio.create_task(replace())
            await asyncio.gather(*(ask(port, campaign.count(15, 250)) for _ in range(8)))
            while len({line["version"] for line in lines}) <= 5:  # a slow machine replaces less often than it is asked
                await ask(port, 1)
            stop.set()
            await replacing

    asyncio.run(main())


def test_files_of_tenants_that_change(
    campaign: Campaign,
    store: AdapterStore,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    lines: list[dict[str, Any]],
) -> None:
    path, chance = tmp_path / "tenants.toml", campaign.chance
    keys = {name: hashlib.sha256(name.encode()).hexdigest() for name in ("a", "b", "c")}

    def write(names: list[str]) -> None:
        text = "".join(f'[tenants.{name}]\nkey_sha256 = "{keys[name]}"\nadapters = ["*"]\n' for name in names)
        (tmp_path / "new").write_text(text)
        (tmp_path / "new").rename(path)

    def damage() -> None:
        text = path.read_bytes()
        path.write_bytes(chance.choice([b"", text[:-20], text + b"[", b"\xff" * 100, text.replace(b'"', b"'", 1)]))

    write(["a", "b", "c"])
    tenants = Tenants(read_tenants(path))
    app = serve(monkeypatch, store, tenants, file=str(path))

    async def main() -> None:
        async with live(app) as port:
            for _ in range(campaign.count(3, 50)):
                names = chance.sample(list(keys), chance.randint(1, 3))
                write(names)
                wanted = {keys[name] for name in names}
                await until(lambda wanted=wanted: set(tenants._turns) == wanted)
                if chance.random() < 0.7:
                    damage()
                    await asyncio.sleep(chance.random())
                for name in keys:
                    status = (await exchange(port, completion("shared", name))).status
                    expected = 200 if name in names else 401
                    campaign.note(None if status == expected else f"{name} of {names} got {status}")

    asyncio.run(main())
