"""How much a tenant asks for at present, and whose turn it is."""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field

from fourierft.serving.tenant import Tenant


class BusyError(Exception):
    """More is asked for than may be; the text says of what.

    Attributes:
        retry_after: seconds after which to try again.
    """

    def __init__(self, text: str, retry_after: float) -> None:
        super().__init__(text)
        self.retry_after = retry_after


@dataclass
class Turns:
    """The requests of one tenant. Its limits may change at any time.

    Args:
        tenant: whose limits hold.
        clock: seconds.

    Attributes:
        places: requests that are being read, wait or are answered.
        running: those that are answered.
    """

    tenant: Tenant
    clock: Callable[[], float] = time.monotonic
    places: int = 0
    running: int = 0
    _allowance: float = field(init=False)
    _filled: float = field(init=False)
    _queue: deque[asyncio.Future[None]] = field(init=False, default_factory=deque)

    def __post_init__(self) -> None:
        self._allowance, self._filled = max(1.0, self.tenant.requests_per_minute), self.clock()

    @property
    def waiting(self) -> int:
        """Requests that are being read, or wait for their turn."""
        return self.places - self.running

    def change(self, tenant: Tenant) -> None:
        """Take over other limits; what is being answered goes on."""
        self.tenant = tenant
        self._wake()

    @contextmanager
    def place(self) -> Iterator[None]:
        """Have a place inside, before anything is read.

        Raises: BusyError, if there are too many requests in a minute, or waiting.
        """
        if self.places >= self.tenant.running + self.tenant.waiting:
            raise BusyError(
                f"{self.running:,} requests are being answered and {self.waiting:,} wait, the most that may", 1.0
            )
        self._count_request()
        self.places += 1
        try:
            yield
        finally:
            self.places -= 1

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Wait for a turn, the longest waiting first, and have it inside."""
        if self._queue or self.running >= self.tenant.running:
            await self._wait()
        else:
            self.running += 1
        try:
            yield
        finally:
            self.running -= 1
            self._wake()

    async def _wait(self) -> None:
        called = asyncio.get_running_loop().create_future()
        self._queue.append(called)
        try:
            await called
        except asyncio.CancelledError:
            if not called.cancelled():  # the turn had come already
                self.running -= 1
                self._wake()
            elif called in self._queue:
                self._queue.remove(called)
            raise

    def _wake(self) -> None:
        while self._queue and self.running < self.tenant.running:
            called = self._queue.popleft()
            if not called.cancelled():
                self.running += 1
                called.set_result(None)

    def _count_request(self) -> None:
        rate = self.tenant.requests_per_minute
        if math.isinf(rate):
            return
        now = self.clock()
        self._allowance = min(max(1.0, rate), self._allowance + (now - self._filled) * rate / 60)
        self._filled = now
        if self._allowance < 1:
            raise BusyError(f"more than {rate:g} requests in a minute", (1 - self._allowance) * 60 / rate)
        self._allowance -= 1
