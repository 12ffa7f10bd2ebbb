"""Whose turn it is, and what is too much."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest

from fourierft.serving.tenant import Tenant
from fourierft.serving.turns import BusyError, Turns


@pytest.mark.parametrize(("rate", "at_once", "pause"), [(3, 3, 20), (0.5, 1, 120), (1, 1, 60), (0.001, 1, 60_000)])
def test_requests_beyond_the_rate_are_refused_until_time_has_passed(rate: float, at_once: int, pause: float) -> None:
    now = [0.0]
    turns = Turns(Tenant("a", requests_per_minute=rate), clock=lambda: now[0])

    def ask() -> None:
        with turns.place():
            pass

    for _ in range(at_once):
        ask()
    with pytest.raises(BusyError, match=f"more than {rate:g} requests in a minute") as caught:
        ask()
    assert caught.value.retry_after == pytest.approx(pause)
    now[0] += pause + 1e-6
    ask()
    with pytest.raises(BusyError):
        ask()


def test_a_turn_is_waited_for_in_order_and_too_many_that_wait_are_refused() -> None:
    turns = Turns(Tenant("a", running=2, waiting=2))
    done: list[int] = []

    async def run() -> None:
        go_on = asyncio.Event()

        async def ask(k: int) -> None:
            with turns.place():
                async with turns.turn():
                    await go_on.wait()
                    done.append(k)

        tasks = [asyncio.create_task(ask(k)) for k in range(4)]
        await asyncio.sleep(0)
        assert (turns.running, turns.waiting) == (2, 2)
        with pytest.raises(BusyError, match="2 requests are being answered and 2 wait"):
            await ask(4)
        tasks[2].cancel()  # its client went away
        await asyncio.sleep(0)
        assert turns.waiting == 1
        go_on.set()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert (turns.places, turns.running, done) == (0, 0, [0, 1, 3])

    asyncio.run(run())


@pytest.mark.parametrize("seed", range(20))
def test_turns_that_are_cancelled_at_any_moment_leave_none_taken(seed: int) -> None:
    import random

    chance = random.Random(seed)
    turns = Turns(Tenant("a", running=3, waiting=100))
    most = [0]

    async def ask() -> None:
        with turns.place():
            async with turns.turn():
                most[0] = max(most[0], turns.running)
                await asyncio.sleep(chance.choice([0, 0, 0.0001]))

    async def run() -> None:
        tasks = [asyncio.create_task(ask()) for _ in range(60)]
        for task in tasks:
            if chance.random() < 0.5:
                task.cancel()
            if chance.random() < 0.5:
                await asyncio.sleep(0)
        with suppress(asyncio.CancelledError):
            await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 10)
        assert (turns.places, turns.running, most[0]) == (0, 0, 3)

    asyncio.run(run())


def test_limits_change_while_requests_wait() -> None:
    turns = Turns(Tenant("a", running=1))

    async def run() -> None:
        go_on = asyncio.Event()

        async def ask() -> None:
            with turns.place():
                async with turns.turn():
                    await go_on.wait()

        tasks = [asyncio.create_task(ask()) for _ in range(4)]
        await asyncio.sleep(0)
        assert turns.running == 1
        turns.change(Tenant("a", running=3))
        await asyncio.sleep(0)
        assert turns.running == 3
        turns.change(Tenant("a", running=1))
        go_on.set()
        await asyncio.gather(*tasks)
        assert (turns.places, turns.running) == (0, 0)

    asyncio.run(run())
