"""What is noted of a request while it is answered: tokens and times, for the metrics and one line of the log.

Neither prompts nor answers are noted, only their lengths.
"""

from __future__ import annotations

import json
import secrets
import time
from typing import Any
from urllib.parse import quote

from fourierft.extras import needs
from fourierft.serving import metrics
from fourierft.serving.client import Client, ClientGoneError
from fourierft.serving.fleet import Fleet, Version
from fourierft.serving.lines import printable, write_line

with needs("serve", "the server"):
    import anyio
    from starlette.datastructures import MutableHeaders
    from starlette.requests import Request
    from starlette.types import Message, Scope, Send

GONE = 499  # as nginx has it: the client left before its answer was done
_LONGEST_ID, _LONGEST_PATH = 100, 300
_POLLED = "/fleet/status"  # which the server's page asks for every other second


class Meter:
    """Passes an answer on, and notes.

    Args:
        scope: of the request.
        send: where the answer goes.
        client: who takes it.
        seconds: until the client takes the next part of it.

    Attributes:
        request_id: that of the header `X-Request-Id`, cut and cleaned, or a new one; the answer has it too.
        tenant: who asked, None for nobody who is known.
        noted: more for the line: adapter, version, bytes.
        completes: whether a completion is asked for; then `stream` and `hides_usage` are as in `Asked`.
        begun: whether an answer has begun.
        is_held_open: whether the answer is all there but for its end, as its client is still sending.
    """

    def __init__(self, scope: Scope, send: Send, client: Client, seconds: float) -> None:
        request = Request(scope)
        given = printable(request.headers.get("x-request-id", "").encode("ascii", "replace").decode(), _LONGEST_ID)
        self.request_id = given or secrets.token_hex(16)
        self._headers = {"X-Request-Id": self.request_id}
        self.tenant: str | None = None
        self.noted: dict[str, Any] = {}
        self.completes = self.stream = self.hides_usage = False
        self.begun = self.is_held_open = False
        self._send, self._client, self._seconds = send, client, seconds
        self._what = {"method": scope["method"], "path": printable(scope["path"], _LONGEST_PATH)}
        self._address = request.client.host if request.client else None
        self._start = time.monotonic()
        self._first: float | None = None
        self._usage: dict[str, Any] = {}
        self._parts = 0
        self._status = 0
        self._ended = False
        self._body = bytearray()

    def note_adapter(self, version: Version) -> None:
        """Note which version answers, for the line and for the header `X-Adapter`."""
        self.noted |= {"adapter": version.name, "version": version.number}
        self._headers["X-Adapter"] = quote(f"{version.name}@{version.number}", safe="/@")

    async def __call__(self, message: Message) -> None:
        """Pass a message of ASGI on.

        Raises: ClientGoneError, if the client does not take it.
        """
        if message["type"] == "http.response.start":
            self._status, self.begun = message["status"], True
            headers = MutableHeaders(scope=message)
            for name, value in self._headers.items():
                headers.setdefault(name, value)
        elif message["type"] == "http.response.body":
            if self._status == 200 and self.completes:
                message = self._note(message)
            self._ended = not message.get("more_body", False) and not self._client.gone
            if self._ended and self._client.is_sending:
                self.is_held_open, message = True, {**message, "more_body": True}
        try:
            with anyio.fail_after(self._seconds):
                await self._send(message)
        except TimeoutError as error:
            self._client.gone, self._ended = True, False
            raise ClientGoneError from error

    def finish(self, fleet: Fleet) -> None:
        seconds, status = round(time.monotonic() - self._start, 4), self.status
        tenant = self.tenant or ""
        line = {"id": self.request_id, "client": self._address, "tenant": self.tenant, **self._what, **self.noted}
        if self.completes or status == 401:
            metrics.REQUESTS.labels(tenant, status).inc()
        if self.completes:
            usage = self._usage if self.stream else read_usage(self._body)
            asked = int(usage.get("prompt_tokens") or 0)
            answered = int(usage.get("completion_tokens") or (0 if usage else self._parts))
            metrics.TOKENS.labels(tenant, "prompt").inc(asked)
            metrics.TOKENS.labels(tenant, "answer").inc(answered)
            metrics.SECONDS.labels(tenant).observe(seconds)
            fleet.count_tokens(answered)
            line |= {"prompt_tokens": asked, "answer_tokens": answered}
            if self.stream and self._first is not None:
                metrics.FIRST_TOKEN.labels(tenant).observe(self._first)
                line["first_token_seconds"] = round(self._first, 4)
        if not (self._what["path"] == _POLLED and status == 200):
            write_line("request", **line, status=status, seconds=seconds)

    @property
    def status(self) -> int:
        """Of the answer as it ended: that of HTTP, unless it broke off."""
        if self._ended:
            return self._status
        return GONE if self._client.gone else 500

    def _note(self, message: Message) -> Message:
        """Note a part of a completion; what is passed on of it."""
        body = message.get("body", b"")
        if self._first is None and body:
            self._first = time.monotonic() - self._start
        if not self.stream:
            self._body += body
        elif b'"choices":[]' in body and b'"usage":{' in body:
            self._usage = read_usage(body.removeprefix(b"data: "))
            if self.hides_usage:
                return {**message, "body": b""}
        elif body.startswith(b'data: {"error":'):
            self._status = read_code(body.removeprefix(b"data: "))
        elif body.startswith(b"data: {"):
            self._parts += 1  # of a token each, at least
        return message


def read_usage(body: bytes | bytearray) -> dict[str, Any]:
    """The `usage` of an answer; empty if it has none."""
    try:
        usage = json.loads(body).get("usage")
    except (ValueError, AttributeError):
        return {}
    return usage if isinstance(usage, dict) else {}


def read_code(body: bytes) -> int:
    """The status that an error in a stream stands for."""
    try:
        code = json.loads(body)["error"]["code"]
    except (ValueError, TypeError, KeyError):
        return 500
    return code if isinstance(code, int) and 400 <= code < 600 else 500
