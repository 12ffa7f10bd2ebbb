"""Errors as OpenAI's API words them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from fourierft.extras import needs
from fourierft.serving.lines import printable

with needs("serve", "the server"):
    from starlette.responses import JSONResponse

_TYPES = {401: "authentication_error", 404: "NotFoundError", 429: "rate_limit_error"}
_LONGEST = 200  # characters of a name that is told


class RefusedError(Exception):
    """A request that is answered with an error.

    Args:
        status, message, param, retry_after, headers: as `problem` takes them.
    """

    def __init__(
        self,
        status: int,
        message: str,
        param: str | None = None,
        retry_after: float | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.response = problem(status, message, param, retry_after, headers)


def problem(
    status: int,
    message: str,
    param: str | None = None,
    retry_after: float | None = None,
    headers: Mapping[str, str] | None = None,
) -> JSONResponse:
    """An error: `{"error": {"message": ..., "type": ..., "param": ..., "code": ...}}`.

    Args:
        status: of HTTP.
        message: one sentence.
        param: field of the request that is meant.
        retry_after: seconds after which to try again.
        headers: further ones.
    """
    again = {} if retry_after is None else {"Retry-After": str(math.ceil(retry_after))}
    kind = _TYPES.get(status, "server_error" if status >= 500 else "invalid_request_error")
    error = {"message": message, "type": kind, "param": param, "code": status}
    return JSONResponse({"error": error}, status, {**again, **(headers or {})})


def no_such_model(name: Any) -> RefusedError:
    """The answer for a model that is not there, or is another tenant's."""
    return RefusedError(404, f"The model `{printable(str(name), _LONGEST)}` does not exist.", "model")


def nothing_at(path: str) -> RefusedError:
    """The answer for a path that is not there, or is not for this client."""
    return RefusedError(404, f"There is nothing at {printable(path, _LONGEST)}.")
