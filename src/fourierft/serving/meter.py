"""What is noted of a request while it is answered: tokens and times, for the metrics and one line of the log.

Neither prompts nor answers are noted, only their lengths.
"""

from __future__ import annotations

import json
import logging
import sys
import time
from typing import Any

from fourierft.extras import needs
from fourierft.serving import metrics
from fourierft.serving.fleet import Fleet, Version

with needs("serve", "the server"):
    from starlette.types import Message, Send

LOG = logging.getLogger("fourierft.requests")


class Meter:
    """Passes an answer on, and notes.

    Args:
        send: where the answer goes.
        tenant: who asked.
        stream: whether the answer comes in parts.
        hides_usage: whether the part that counts its tokens was asked for here alone, and is not passed on.
    """

    def __init__(self, send: Send, tenant: str, stream: bool, hides_usage: bool) -> None:
        self._send, self._tenant = send, tenant
        self._stream, self._hides_usage = stream, hides_usage
        self._start = time.monotonic()
        self._first: float | None = None
        self._usage: dict[str, Any] = {}
        self._status = 0
        self._body: list[bytes] = []

    async def __call__(self, message: Message) -> None:
        """Pass a message of ASGI on."""
        if message["type"] == "http.response.start":
            self._status = message["status"]
        elif message["type"] == "http.response.body" and self._status == 200:
            body = message.get("body", b"")
            if self._first is None and body:
                self._first = time.monotonic() - self._start
            if not self._stream:
                self._body.append(body)
            elif b'"choices":[]' in body and b'"usage":{' in body:
                self._usage = read_usage(body.removeprefix(b"data: "))
                if self._hides_usage:
                    message = {**message, "body": b""}
        await self._send(message)

    def finish(self, fleet: Fleet, version: Version | None, request_id: str | None) -> None:
        """Count the request, and log it."""
        usage = self._usage if self._stream else read_usage(b"".join(self._body))
        seconds = time.monotonic() - self._start
        asked, answered = int(usage.get("prompt_tokens") or 0), int(usage.get("completion_tokens") or 0)
        metrics.REQUESTS.labels(self._tenant, self._status or 499).inc()
        metrics.TOKENS.labels(self._tenant, "prompt").inc(asked)
        metrics.TOKENS.labels(self._tenant, "answer").inc(answered)
        metrics.SECONDS.labels(self._tenant).observe(seconds)
        if self._stream and self._first is not None:
            metrics.FIRST_TOKEN.labels(self._tenant).observe(self._first)
        fleet.count_tokens(answered)
        line = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "event": "request",
            "id": request_id,
            "tenant": self._tenant,
            "adapter": version and version.name,
            "version": version and version.number,
            "status": self._status or 499,  # the client was gone before there was an answer
            "prompt_tokens": asked,
            "answer_tokens": answered,
            "first_token_seconds": round(self._first, 4) if self._stream and self._first is not None else None,
            "seconds": round(seconds, 4),
        }
        LOG.info(json.dumps(line, ensure_ascii=False))


def read_usage(body: bytes) -> dict[str, Any]:
    """The `usage` of an answer; empty if it has none."""
    try:
        usage = json.loads(body).get("usage")
    except (ValueError, AttributeError):
        return {}
    return usage if isinstance(usage, dict) else {}


def log_to_stderr() -> None:
    """Write the log of requests to standard error, a JSON object a line."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(message)s"))
    LOG.handlers, LOG.propagate = [handler], False
    LOG.setLevel(logging.INFO)
