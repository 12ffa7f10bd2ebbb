"""Clients that leave, that are slow, and that send too much, over sockets."""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
import urllib.error
import urllib.request
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from fourierft.serving.gate import Settings
from fourierft.serving.limits import Limits
from fourierft.serving.tenant import Tenant
from fourierft.serving.tenants import Tenants
from fourierft.store import AdapterStore

from .live import PATIENCE, completion, exchange, leave, live, request, until
from .standin import make_app, stand_in_for_vllm

Test = Callable[[int, Any, Tenants], Coroutine[Any, Any, None]]
Run = Callable[..., list[dict[str, Any]]]
QUICK = Limits(pause=0.2, body_time=0.5, turn=0.3, send=0.3)


@pytest.fixture
def run(store: AdapterStore, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run a test against the gate for one tenant; the lines of its log."""
    stand_in_for_vllm(monkeypatch)

    def run(test: Test, limits: Limits | None = None, http: str = "httptools", **tenant: Any) -> list[dict[str, Any]]:
        acme = Tenant("acme", ("*",), **tenant)
        tenants = Tenants({hashlib.sha256(b"acme").hexdigest(): acme})
        app = make_app(Settings(str(store), tenants, limits=limits or Limits()))
        app.state.held = asyncio.Event()

        async def main() -> None:
            async with live(app, http) as port:
                await test(port, app.state, tenants)

        asyncio.run(main())
        written = [line for line in capsys.readouterr().err.splitlines() if line.startswith("{")]
        return [json.loads(line) for line in written]

    return run


def test_who_left_while_waiting_has_no_place_and_no_turn_any_more(run: Run) -> None:
    async def test(port: int, state: Any, tenants: Tenants) -> None:
        turns, gone = tenants.all()[0], asyncio.Event()
        first = asyncio.create_task(exchange(port, completion("shared", "acme", hold=True)))
        await until(lambda: turns.running == 1)
        leavers = [asyncio.create_task(leave(port, completion("shared", "acme"), gone)) for _ in range(6)]
        await until(lambda: turns.waiting == 6)
        assert (await exchange(port, completion("shared", "acme"))).status == 429
        gone.set()
        await asyncio.gather(*leavers)
        await until(lambda: turns.waiting == 0)
        live_one = asyncio.create_task(exchange(port, completion("shared", "acme")))
        await until(lambda: turns.waiting == 1)
        state.held.set()
        assert (await first).status == (await live_one).status == 200
        assert len(state.asked) == 2

    lines = run(test, running=1, waiting=6)
    assert sorted(line["status"] for line in lines) == [200, 200, 429, *[499] * 6]


def test_who_leaves_while_the_adapter_is_read_is_forgotten_and_so_is_the_adapter(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fourierft.serving import fleet

    monkeypatch.setattr(fleet, "_AFTER", 0.01)

    async def test(port: int, state: Any, tenants: Tenants) -> None:
        engine, turns, gone, go_on = state.engine_client, tenants.all()[0], asyncio.Event(), asyncio.Event()
        inner = engine.collective_rpc

        async def slow(method: str, args: tuple[Any, ...] = ()) -> list[Any]:
            if method == "fleet_hold":
                await go_on.wait()
            return await inner(method, args)

        engine.collective_rpc = slow
        leaver = asyncio.create_task(leave(port, completion("shared", "acme"), gone))
        await until(lambda: turns.running == 1)
        gone.set()
        await leaver
        await until(lambda: turns.places == 0)
        await asyncio.sleep(0.05)  # more than an adapter is held after its last request
        go_on.set()
        await until(lambda: len(engine.calls) == 2)
        assert [call[0] for call in engine.calls] == ["fleet_hold", "fleet_release"]
        assert not state.asked

    assert [line["status"] for line in run(test, running=1)] == [499]


def test_who_leaves_during_an_answer_ends_it(run: Run) -> None:
    async def test(port: int, state: Any, tenants: Tenants) -> None:
        turns, gone = tenants.all()[0], asyncio.Event()
        words = {"words": ["word"], "times": 100_000, "pause": 0.01}
        leaver = asyncio.create_task(leave(port, completion("shared", "acme", hold=True), gone))
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(completion("shared", "acme", stream=True, **words))
        for _ in range(2):
            await reader.readuntil(b"word")
        await until(lambda: len(state.asked) == 2)
        writer.close()
        gone.set()
        await leaver
        await until(lambda: turns.places == 0)

    whole, stream = sorted(run(test), key=lambda line: line["answer_tokens"])
    assert (whole["status"], whole["answer_tokens"]) == (499, 0)
    assert stream["status"] == 499
    assert 2 <= stream["answer_tokens"] < 100_000  # a part is a token, where the server did not come to count them


def test_a_body_that_comes_too_slowly_ends(run: Run) -> None:
    async def trickle(port: int, pause: float) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(request("POST", "/v1/completions", {"Authorization": "Bearer acme", "Content-Length": "1000"}))
        answer = asyncio.create_task(reader.readuntil(b"\r\n"))  # and not the end: what it still sends may reset it
        while not answer.done():
            writer.write(b" ")
            await asyncio.wait({answer}, timeout=pause)
        writer.close()
        return await answer

    async def test(port: int, state: Any, tenants: Tenants) -> None:
        for pause in (0.1, 1.0):  # longer than all of it may take, and than one part
            assert b" 408 " in await trickle(port, pause)
        assert tenants.all()[0].places == 0
        assert not state.asked

    assert [line["status"] for line in run(test, QUICK)] == [408, 408]


def test_no_turn_in_time_is_told(run: Run) -> None:
    async def test(port: int, state: Any, tenants: Tenants) -> None:
        turns = tenants.all()[0]
        first = asyncio.create_task(exchange(port, completion("shared", "acme", hold=True)))
        await until(lambda: turns.running == 1)
        late = await exchange(port, completion("shared", "acme"))
        assert (late.status, late.headers["retry-after"]) == (503, "5")
        assert turns.waiting == 0
        state.held.set()
        assert (await first).status == 200

    run(test, QUICK, running=1)


def test_who_does_not_take_its_answer_loses_its_turn(run: Run) -> None:
    async def test(port: int, state: Any, tenants: Tenants) -> None:
        turns = tenants.all()[0]
        _, writer = await asyncio.open_connection("127.0.0.1", port, limit=1024)
        writer.write(completion("shared", "acme", stream=True, words=["x" * 100_000], times=200))
        await until(lambda: turns.running == 1)
        await until(lambda: turns.places == 0)
        writer.close()

    assert [line["status"] for line in run(test, QUICK)] == [499]


def test_bodies_have_a_limit_each_and_one_together_and_a_place_before_they_are_read(run: Run) -> None:
    limits = Limits(body=1000, bodies=2500, bodies_of_tenant=1500)
    half = request("POST", "/v1/completions", {"Authorization": "Bearer acme", "Content-Length": "900"}) + b" " * 800

    async def test(port: int, state: Any, tenants: Tenants) -> None:
        turns, gone = tenants.all()[0], asyncio.Event()
        assert (await exchange(port, completion("shared", "acme", more="x" * 1000))).status == 413
        chunked = {"Authorization": "Bearer acme", "Transfer-Encoding": "chunked", "Content-Length": ""}
        data = request("POST", "/v1/completions", chunked).replace(b"Content-Length: \r\n", b"")
        assert (await exchange(port, data + b"7D0\r\n" + b" " * 2000 + b"\r\n0\r\n\r\n")).status == 413
        first = asyncio.create_task(leave(port, half, gone))
        await until(lambda: turns.places == 1)
        crowded = completion("shared", "acme", more="x" * 800)
        while (answer := await exchange(port, crowded)).status == 200:
            pass  # the half is yet to be read
        assert (answer.status, answer.headers["retry-after"]) == (503, "5")
        second = asyncio.create_task(leave(port, half[:-700], gone))
        await until(lambda: turns.places == 2)
        assert (await exchange(port, half)).status == 429  # two places, and its body is not waited for
        gone.set()
        await asyncio.gather(first, second)
        await until(lambda: turns.places == 0)
        assert (await exchange(port, completion("shared", "acme"))).status == 200

    run(test, limits, running=1, waiting=1)


@pytest.mark.parametrize("http", ["httptools", "h11"])
def test_who_is_still_sending_gets_the_answer_too(run: Run, http: str) -> None:
    """urllib reads nothing before it has sent all, and asks for the connection to be closed."""

    def send(port: int, who: str, size: int) -> int:
        address, headers = f"http://127.0.0.1:{port}/v1/completions", {"Authorization": f"Bearer {who}"}
        try:
            urllib.request.urlopen(urllib.request.Request(address, bytes(size), headers))
        except urllib.error.HTTPError as error:
            with error:
                return error.code
        return 200

    async def test(port: int, state: Any, tenants: Tenants) -> None:
        for who, size, status in (("nobody", 8_000_000, 401), ("acme", 20_000_000, 413)):
            assert await asyncio.to_thread(send, port, who, size) == status
        assert tenants.all()[0].places == 0

    assert [line["status"] for line in run(test, http=http)] == [401, 413]


def test_what_is_still_sent_holds_nobody_up(run: Run) -> None:
    """For as long as the limit of a pause, the connection stays open; place and turn are given back before."""

    async def test(port: int, state: Any, tenants: Tenants) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(request("POST", "/v1/completions", {"Authorization": "Bearer acme", "Content-Length": "9000000"}))
        assert b" 413 " in await reader.readuntil(b"}}")
        assert tenants.all()[0].places == 0
        assert await reader.read() == b""  # though nothing more was sent
        writer.close()

    run(test, QUICK)


@pytest.mark.parametrize(
    ("key", "adapters", "base", "status"),
    [
        ("other", ("*",), True, 401),
        ("acme", ("acme/*",), True, 404),
        ("acme", ("*",), False, 404),
        ("acme", ("*",), True, 200),
    ],
)
def test_who_may_not_any_more_when_the_turn_comes_is_refused(
    run: Run, key: str, adapters: tuple[str, ...], base: bool, status: int
) -> None:
    model = "shared" if base else "base"

    async def test(port: int, state: Any, tenants: Tenants) -> None:
        turns = tenants.all()[0]
        first = asyncio.create_task(exchange(port, completion("shared", "acme", hold=True)))
        await until(lambda: turns.running == 1)
        second = asyncio.create_task(exchange(port, completion(model, "acme")))
        await until(lambda: turns.waiting == 1)
        digest = hashlib.sha256(key.encode()).hexdigest()
        tenants.replace({digest: Tenant(key, adapters, base=base, running=1)})
        state.held.set()
        assert (await first).status == 200  # what was begun ends
        assert (await second).status == status
        assert (await exchange(port, completion(model, "acme"))).status == status

    run(test, running=1)


@pytest.mark.parametrize("http", ["httptools", "h11"])
def test_a_request_of_two_lengths_is_refused_with_what_follows_it(run: Run, http: str) -> None:
    """A proxy before may have taken the other length, and what follows for another client's; nginx says 400 too."""
    hidden = completion("shared", "acme")
    body = b"5\r\n{    \r\n0\r\n\r\n" + hidden
    headers = {"Authorization": "Bearer acme", "Transfer-Encoding": "chunked", "Connection": "keep-alive"}

    async def test(port: int, state: Any, tenants: Tenants) -> None:
        for length in ("5", str(len(body))):
            answer = await exchange(
                port, request("POST", "/v1/completions", {**headers, "Content-Length": length}, body)
            )
            assert answer.status == 400
        assert state.asked == []

    run(test, http=http)


@pytest.mark.parametrize("http", ["httptools", "h11"])
def test_each_request_of_a_connection_has_the_key_it_came_with(run: Run, http: str) -> None:
    """One after another, all at once, and hidden in the body of one that is refused."""

    async def test(port: int, state: Any, tenants: Tenants) -> None:
        keep = {"Connection": "keep-alive"}
        asked = [
            completion("shared", who).replace(b"Connection: close", b"Connection: keep-alive") for who in ("acme", "x")
        ]
        hiding = request("POST", "/v1/completions", keep, asked[0])
        last = request("GET", "/v1/models", {"Authorization": "Bearer acme"})
        received = await everything(port, asked[0] + asked[1] + hiding + asked[0] + last)
        assert re.findall(rb"HTTP/1.1 (\d+)", received) == [b"200", b"401", b"401", b"200", b"200"]
        assert len(state.asked) == 2

    run(test, http=http)


async def everything(port: int, data: bytes) -> bytes:
    """All answers of a connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(data)
    try:
        return await asyncio.wait_for(reader.read(), PATIENCE)
    finally:
        writer.close()
