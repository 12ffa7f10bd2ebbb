"""An application behind uvicorn, as vLLM has it, and clients of raw bytes, all in one loop of events."""

from __future__ import annotations

import asyncio
import json
import resource
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any, NamedTuple

import uvicorn

PATIENCE = 120  # seconds: nothing waits for ever, and a machine may be busy


class Answer(NamedTuple):
    """What came back.

    Fields:
        status: of HTTP; 0 if the connection was closed without an answer.
        headers: in lower case.
        body: without its framing.
    """

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def message(self) -> str:
        """Of an error."""
        return str(json.loads(self.body)["error"]["message"])


@asynccontextmanager
async def live(app: Any, http: str = "httptools") -> AsyncIterator[int]:
    """Inside, an application answers at this port."""
    with socket.socket() as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(("127.0.0.1", 0))
        listening.listen(2048)
        config = uvicorn.Config(
            app,
            http=http,
            log_config=None,  # its own closes all handlers, and absl's closes the file that pytest captures to
            log_level="critical",
            timeout_graceful_shutdown=1,
            ws="none",
        )
        server = uvicorn.Server(config)
        serving = asyncio.create_task(server.serve([listening]))
        while not server.started and not serving.done():
            await asyncio.sleep(0.001)
        try:
            yield listening.getsockname()[1]
        finally:
            server.should_exit = True
            await serving


def request(method: str, path: str, headers: dict[str, str] | None = None, body: bytes = b"") -> bytes:
    """A request as it goes over the wire; the connection is closed after it."""
    lines = {"Host": "gate", "Connection": "close", "Content-Length": str(len(body)), **(headers or {})}
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    return f"{method} {path} HTTP/1.1\r\n{head}\r\n".encode() + body


def completion(model: object, key: str | None = None, **more: Any) -> bytes:
    """A request for a completion."""
    headers = {"Content-Type": "application/json", **({"Authorization": f"Bearer {key}"} if key else {})}
    body = json.dumps({"model": model, "prompt": "my secret prompt", **more}).encode()
    return request("POST", "/v1/completions", headers, body)


async def exchange(port: int, data: bytes, seconds: float = PATIENCE) -> Answer:
    """Send these bytes; what comes back until the server closes the connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        with suppress(ConnectionError):
            writer.write(data)
            await writer.drain()
        received = bytearray()
        with suppress(ConnectionError):
            async with asyncio.timeout(seconds):
                while part := await reader.read(1 << 16):
                    received += part
        return parse(bytes(received))
    finally:
        writer.close()


async def leave(port: int, data: bytes, when: asyncio.Event) -> None:
    """Send these bytes, wait, and go."""
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(data)
    await writer.drain()
    await when.wait()
    writer.close()


def allow_files() -> None:
    """Let this process have as many connections as it may."""
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(most, 1 << 16), most))


async def until(condition: Any, seconds: float = PATIENCE) -> None:
    """Wait for something that comes true."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.001)


def parse(received: bytes) -> Answer:
    """An answer of HTTP/1.1."""
    head, _, body = received.removeprefix(b"HTTP/1.1 100 Continue\r\n\r\n").partition(b"\r\n\r\n")
    if not head:
        return Answer(0, {}, b"")
    first, *lines = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    if headers.get("transfer-encoding") == "chunked":
        whole = b""
        while body and (size := int(body.partition(b"\r\n")[0] or b"0", 16)):
            rest = body.partition(b"\r\n")[2]
            whole, body = whole + rest[:size], rest[size + 2 :]
        body = whole
    return Answer(int(first.split()[1]), headers, body)
