from __future__ import annotations

import asyncio
import hashlib
from pathlib import Path

import pytest

from fourierft.errors import ConfigError
from fourierft.serving.tenants import EVERYBODY, BusyError, Tenant, Tenants, Turns, read_tenants


def digest(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


def write(folder: Path, text: str) -> Path:
    path = folder / "tenants.toml"
    path.write_text(text.replace("KEY", digest("key")).replace("OTHER", digest("other")))
    return path


def test_a_key_is_known_by_its_digest_and_leads_to_its_tenant(tmp_path: Path) -> None:
    tenants = read_tenants(
        write(
            tmp_path,
            """
            [tenants.acme]
            key_sha256 = "KEY"
            adapters = ["acme/*", "shared"]
            base = false
            requests_per_minute = 90
            running = 2
            waiting = 3
            [tenants.boss]
            key_sha256 = "OTHER"
            admin = true
            """,
        )
    )
    acme = tenants.find("Bearer key")
    assert acme is not None
    assert acme.tenant == Tenant("acme", ("acme/*", "shared"), False, False, 90, 2, 3)
    boss = tenants.find("bearer other")
    assert boss is not None
    assert boss.tenant.admin
    assert boss.tenant.may_use("anything")
    assert [tenants.find(header) for header in (None, "", "Bearer", "Bearer keys", "Basic key")] == [None] * 5
    assert not tenants.are_open
    assert Tenants().are_open
    assert Tenants().find(None).tenant == EVERYBODY


def test_patterns_are_those_of_a_shell() -> None:
    tenant = Tenant("acme", ("acme/*", "shared", "v[12]"))
    assert [tenant.may_use(name) for name in ("acme/a", "acme/a/b", "shared", "v2")] == [True] * 4
    assert [tenant.may_use(name) for name in ("acme", "Acme/a", "shared2", "v3", "")] == [False] * 5
    assert tenant.prefixes() == ["acme/", "shared", "v"]
    assert Tenant("all", ("*", "a")).prefixes() == [""]


def test_tenants_have_salts_of_their_own() -> None:
    assert Tenant("a").salt != Tenant("b").salt


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x = 1", "has the tables x; give each tenant"),
        ("[tenants]", "give each tenant a"),
        ("[tenants.a", "cannot be read as TOML"),
        ("[tenants]\na = 1", "is no table"),
        ("[tenants.a]", "key_sha256=None; give the 64 hexadecimal digits"),
        ('[tenants.a]\nkey_sha256 = "secret"', "key_sha256='secret'"),
        ('[tenants.a]\nkey_sha256 = "KEY"\nadapter = ["a"]', "has adapter, which is none of key_sha256, adapters"),
        ('[tenants.a]\nkey_sha256 = "KEY"\nadapters = "a"', "adapters='a'; it must be a list"),
        ('[tenants.a]\nkey_sha256 = "KEY"\nadapters = [1]', r"adapters=\[1\]; give names"),
        ('[tenants.a]\nkey_sha256 = "KEY"\nadmin = 1', "admin=1; it must be a bool"),
        ('[tenants.a]\nkey_sha256 = "KEY"\nrunning = true', "running=True; it must be a int"),
        ('[tenants.a]\nkey_sha256 = "KEY"\nrunning = 0', "running=0, which lets nothing through"),
        ('[tenants.a]\nkey_sha256 = "KEY"\n[tenants.b]\nkey_sha256 = "KEY"', "'a' and 'b' have the same key"),
    ],
)
def test_what_makes_no_sense_is_told_by_tenant_and_field(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read_tenants(write(tmp_path, text))
    with pytest.raises(ConfigError, match="cannot be read"):
        read_tenants(tmp_path / "none.toml")


def test_requests_beyond_the_rate_are_refused_until_time_has_passed() -> None:
    now = [0.0]
    turns = Turns(Tenant("a", requests_per_minute=3), clock=lambda: now[0])

    async def ask() -> None:
        async with turns.turn():
            pass

    async def run() -> None:
        for _ in range(3):
            await ask()
        with pytest.raises(BusyError, match="more than 3 requests in a minute") as caught:
            await ask()
        assert caught.value.retry_after == pytest.approx(20)
        now[0] += 20
        await ask()
        with pytest.raises(BusyError):
            await ask()

    asyncio.run(run())


def test_a_turn_is_waited_for_and_too_many_that_wait_are_refused() -> None:
    turns = Turns(Tenant("a", running=2, waiting=1))
    done: list[int] = []

    async def run() -> None:
        go_on = asyncio.Event()

        async def ask(k: int) -> None:
            async with turns.turn():
                await go_on.wait()
                done.append(k)

        tasks = [asyncio.create_task(ask(k)) for k in range(3)]
        await asyncio.sleep(0)
        assert (turns.running, turns.waiting) == (2, 1)
        with pytest.raises(BusyError, match="2 requests are being answered and 1 wait"):
            await ask(3)
        tasks[2].cancel()  # its client went away
        await asyncio.sleep(0)
        assert turns.waiting == 0
        go_on.set()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert (turns.running, turns.waiting, sorted(done)) == (0, 0, [0, 1])

    asyncio.run(run())
