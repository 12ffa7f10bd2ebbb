"""The client of a request: what it sends, in bounded time and memory, and whether it is still there."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable
from typing import TypeVar

from fourierft.extras import needs
from fourierft.serving.responses import RefusedError

with needs("serve", "the server"):
    import anyio
    from starlette.datastructures import Headers
    from starlette.types import Message, Receive, Scope

T = TypeVar("T")


class ClientGoneError(Exception):
    """Nobody waits for the answer any more."""


class Client:
    """Who sent a request.

    Args:
        scope, receive: of the request.

    Attributes:
        gone: whether it is known to have left.
    """

    def __init__(self, scope: Scope, receive: Receive) -> None:
        self._headers, self._receive = Headers(scope=scope), receive
        self._leaving: asyncio.Task[None] | None = None
        self._has_more = "transfer-encoding" in self._headers or self._headers.get("content-length", "0") != "0"
        self.gone = False

    @property
    def is_sending(self) -> bool:
        """Whether a part of the body is still to come."""
        return self._has_more and not self.gone

    async def receive(self) -> Message:
        message = await self._receive()
        self.gone = self.gone or message["type"] == "http.disconnect"
        self._has_more = self._has_more and bool(message.get("more_body", False))
        return message

    async def drain(self, seconds: float) -> None:
        """Read for some seconds what is still to come of the body, and forget it.

        A connection that is closed on data that nobody has read is reset, and its client may lose the answer.
        """
        with anyio.move_on_after(seconds):
            while self.is_sending:
                await self.receive()

    async def parts(self, most: int, pause: float, seconds: float) -> AsyncIterator[bytes]:
        """The parts of the body.

        Args:
            most: bytes.
            pause: seconds until the next part comes.
            seconds: until all are there.

        Raises: RefusedError, if it is longer or slower. ClientGoneError, if it does not end.
        """
        too_long = RefusedError(413, f"The request is longer than {most:,} bytes.")
        declared = self._headers.get("content-length", "0")
        if declared.isdecimal() and (len(declared) > 20 or int(declared) > most):
            raise too_long
        if self._headers.get("content-encoding", "identity") != "identity":
            raise RefusedError(415, "The request is compressed; send it uncompressed.")
        end, size, more = time.monotonic() + seconds, 0, True
        while more:
            try:
                with anyio.fail_after(min(pause, end - time.monotonic())):
                    message = await self.receive()
            except TimeoutError as error:
                raise RefusedError(
                    408,
                    f"The request came too slowly; send it within {seconds:g} seconds, without a pause of {pause:g}.",
                ) from error
            if self.gone:
                raise ClientGoneError
            part, more = message.get("body", b""), message.get("more_body", False)
            size += len(part)
            if size > most:
                raise too_long
            yield part

    def listen(self) -> None:
        """Note from now on when the client leaves; nothing else is read from it."""
        self._leaving = asyncio.create_task(self._leave())

    async def unless_gone(self, work: Awaitable[T], seconds: float | None = None) -> T:
        """The result of some work that a client waits for, which ends where the client leaves.

        Args:
            work: that can be cancelled.
            seconds: until it has to be done.

        Raises: ClientGoneError; TimeoutError.
        """
        assert self._leaving is not None
        task = asyncio.ensure_future(work)
        try:
            await asyncio.wait({task, self._leaving}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        finally:
            task.cancel()  # if it is not done
        await asyncio.wait({task})
        if self.gone:
            if not task.cancelled():
                task.exception()  # is nobody's any more
            raise ClientGoneError
        if task.cancelled():
            raise TimeoutError
        return task.result()

    def replay(self, content: bytes) -> Receive:
        """What the server behind reads: a body, and then that the client left, when it does."""
        left = [content]

        async def receive() -> Message:
            if left:
                return {"type": "http.request", "body": left.pop(), "more_body": False}
            if self._leaving is not None and not self.gone:  # who only looks, does not wait
                await asyncio.wait({self._leaving})
            return {"type": "http.disconnect"}

        return receive

    def close(self) -> None:
        if self._leaving is not None:
            self._leaving.cancel()

    async def _leave(self) -> None:
        while not self.gone:
            await self.receive()
