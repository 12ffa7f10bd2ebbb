"""The server's view of the fleet: which version a name means, and what the engine has at hand."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

from fourierft.errors import MissingAdapterError, StoreError
from fourierft.serving.tenant import Tenant
from fourierft.store import AdapterStore
from fourierft.store.additions import check_name
from fourierft.store.references import read_reference

_AT_ONCE = 16  # adapters that the engine is asked to read between two of its steps
_AFTER = 1.0  # seconds that an adapter is held after its last request, which the engine may still be stopping
_WINDOW = 10.0  # seconds in which tokens are counted for the rate
_RECENT = 50  # names to show


class Version(NamedTuple):
    """One version of an adapter; the key is the engine's, and never another version's."""

    name: str
    key: int
    number: int


class _Hold:
    """An adapter that requests need, and what the engine said when it was asked for it."""

    def __init__(self, answer: asyncio.Future[str | None]) -> None:
        self.answer, self.requests = answer, 0


class Fleet:
    """A store, and an engine that serves its adapters.

    Args:
        store: of the adapters.
        engine: vLLM's client of the engine: `collective_rpc` reaches the methods of `FleetWorker`.
        base: names of the base model.

    Attributes:
        recent: adapters asked for, the latest last, with their version.
        stopping: whether the engine ends what it has begun, and takes nothing new.
    """

    def __init__(self, store: AdapterStore, engine: Any, base: list[str]) -> None:
        self.store, self.base = store, base
        self.recent: OrderedDict[str, int] = OrderedDict()
        self.stopping = False
        self._engine = engine
        self._holds: dict[int, _Hold] = {}
        self._asking = asyncio.Semaphore(_AT_ONCE)
        self._tokens: deque[tuple[float, int]] = deque()
        self._tasks: set[asyncio.Task[Any]] = set()

    def stop(self) -> None:
        self.stopping = True

    async def find(self, reference: str, tenant: Tenant) -> Version | None:
        """The version that `name`, `name@3` or `name@live` means.

        Returns: None, if the store has no such, or can have none, or the tenant may not use it.

        Raises: StoreError, if the store cannot be read.
        """
        named = read_reference(reference)
        if not (tenant.may_use(reference) or (named is not None and tenant.may_use(named[0]))):
            return None  # before the store is asked, which would take another time for what is there
        try:
            check_name(reference)
        except StoreError:
            return None
        try:
            found = await asyncio.to_thread(self.store.resolve, reference)
        except MissingAdapterError:
            return None
        return Version(found.name, found.id, found.version) if tenant.may_use(found.name) else None

    @asynccontextmanager
    async def held(self, version: Version) -> AsyncIterator[None]:
        """Inside, the engine has this version at hand, whatever becomes of the store.

        Raises: StoreError, if it cannot be read or served.
        """
        hold = self._holds.get(version.key)
        if hold is None:
            hold = self._holds[version.key] = _Hold(self._start(self._ask(version)))
        hold.requests += 1
        try:
            fault = await asyncio.shield(hold.answer)
            if fault is not None:
                raise StoreError(fault)
            self.recent[version.name] = version.number
            self.recent.move_to_end(version.name)
            while len(self.recent) > _RECENT:
                self.recent.popitem(last=False)
            yield
        finally:
            hold.requests -= 1
            if not hold.requests:
                asyncio.get_running_loop().call_later(_AFTER, self._let_go, version.key, hold)

    async def counts(self) -> dict[str, int]:
        """Adapters in slots, slots, loads, evictions, bytes of the tables; of the engine's first process."""
        return (await self._engine.collective_rpc("fleet_counts"))[0]

    def count_tokens(self, count: int) -> None:
        self._tokens.append((time.monotonic(), count))

    def tokens_per_second(self) -> float:
        """Tokens answered in the last ten seconds, by second."""
        start = time.monotonic() - _WINDOW
        while self._tokens and self._tokens[0][0] < start:
            self._tokens.popleft()
        return sum(count for _, count in self._tokens) / _WINDOW

    async def _ask(self, version: Version) -> str | None:
        async with self._asking:
            arguments = (version.key, version.name, version.number)
            answers = await self._engine.collective_rpc("fleet_hold", args=arguments)
        return next((answer for answer in answers if answer is not None), None)

    def _let_go(self, key: int, hold: _Hold) -> None:
        if not hold.answer.done():  # the client is gone, and the engine has yet to answer
            asyncio.get_running_loop().call_later(_AFTER, self._let_go, key, hold)
        elif not hold.requests and self._holds.get(key) is hold:
            del self._holds[key]
            if not self.stopping:
                self._start(self._engine.collective_rpc("fleet_release", args=(key,)))

    def _start(self, work: Any) -> asyncio.Task[Any]:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task
