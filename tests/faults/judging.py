"""Whether an answer to a request that makes no sense is one that a server may give."""

from __future__ import annotations

import json

from tests.serving.live import Answer, exchange


async def send(port: int, data: bytes, seconds: float) -> Answer:
    """Send bytes; what came back until the server closes, or is quiet for too long."""
    try:
        return await exchange(port, data, seconds)
    except TimeoutError:
        return Answer(0, {}, b"")


def judge(data: bytes, answer: Answer, worded: bool = True) -> str | None:
    """What is wrong with an answer to a request that makes no sense.

    Args:
        data: the request.
        answer: to it.
        worded: whether all errors are the gate's, which are one sentence each; vLLM has its own words.
    """
    what = f"{data[:200]!r}: {answer.status} {answer.body[:200]!r}"
    if answer.status >= 500:
        return what
    is_error = (
        worded and answer.status >= 400 and not data.startswith(b"HEAD") and b"Invalid HTTP request" not in answer.body
    )
    if is_error and answer.headers.get("content-type") == "application/json":
        error = json.loads(answer.body).get("error", {})
        said = error.get("message", "\n").isprintable()
        return None if said and error.get("code", answer.status) == answer.status else what
    return None
