"""Errors as OpenAI's API words them."""

from __future__ import annotations

import math

from fourierft.extras import needs

with needs("serve", "the server"):
    from starlette.responses import JSONResponse

_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    404: "NotFoundError",
    409: "invalid_request_error",
    413: "invalid_request_error",
    429: "rate_limit_error",
    500: "server_error",
    503: "server_error",
}


def problem(status: int, message: str, param: str | None = None, retry_after: float | None = None) -> JSONResponse:
    """An error: `{"error": {"message": ..., "type": ..., "param": ..., "code": ...}}`.

    Args:
        status: of HTTP.
        message: one sentence.
        param: field of the request that is meant.
        retry_after: seconds after which to try again.
    """
    headers = {} if retry_after is None else {"Retry-After": str(math.ceil(retry_after))}
    error = {"message": message, "type": _TYPES[status], "param": param, "code": status}
    return JSONResponse({"error": error}, status, headers)


def no_such_model(name: object) -> JSONResponse:
    """What is said of a model that is not there, and of one that is another tenant's."""
    return problem(404, f"The model `{name}` does not exist.", "model")
