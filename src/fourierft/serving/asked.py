"""What a request for a completion asks, checked once: what is no good ends here, and not in the server behind."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

from fourierft.extras import needs
from fourierft.serving.responses import RefusedError
from fourierft.serving.tenant import Tenant

with needs("serve", "the server"):
    from pydantic import BaseModel, ValidationError
    from pydantic_core import from_json


class _StreamOptions(BaseModel, extra="allow"):
    include_usage: bool | None = None


class _Completion(BaseModel, extra="allow"):
    """The fields that are looked at here, in every form that the server behind takes; it checks the others."""

    model: str | None = None
    stream: bool | None = None
    stream_options: _StreamOptions | None = None


class Asked(NamedTuple):
    """A request as it goes on.

    Fields:
        model: that is asked, None for the base.
        stream: whether the answer comes in parts.
        hides_usage: whether the part that counts its tokens is asked for here alone, and not passed on.
        content: all of it.
    """

    model: str | None
    stream: bool
    hides_usage: bool
    content: dict[str, Any]

    def pack(self, model: str | None) -> bytes:
        """The body that goes on, of a model by the name that the server behind knows.

        Raises: RefusedError, for numbers without end.
        """
        content = self.content if model is None else {**self.content, "model": model}
        try:
            return json.dumps(content, ensure_ascii=False, allow_nan=False).encode()
        except ValueError as error:
            raise RefusedError(400, f"The request is not valid JSON: {error}.") from error


def read_asked(body: bytes | bytearray, tenant: Tenant, is_open: bool) -> Asked:
    """Check a body; have the tokens of a stream counted, and prefixes of tenants kept apart.

    Args:
        body: JSON of an object. What RFC 7493 rules out is refused: lone surrogates, and numbers without end; so is
            what is nested more than 200 deep.
        tenant: whose it is.
        is_open: whether everybody is one tenant.

    Raises: RefusedError, with one sentence.
    """
    try:
        content = from_json(body, allow_inf_nan=False)
    except ValueError as error:
        raise RefusedError(400, f"The request is not valid JSON: {error}.") from error
    if not isinstance(content, dict):
        raise RefusedError(400, f"The request is a JSON {type(content).__name__}; send an object.")
    try:
        asked = _Completion.model_validate(content)
    except ValidationError as error:
        fault = error.errors(include_url=False, include_input=False)[0]
        field = ".".join(str(part) for part in fault["loc"])
        raise RefusedError(400, f"The field `{field}` is invalid: {fault['msg']}.", field) from error
    if not is_open:
        content["cache_salt"] = tenant.salt
    if asked.stream is not None:
        content["stream"] = asked.stream  # true or false, whatever stood for it
    if not asked.stream:
        return Asked(asked.model, False, False, content)
    content["stream_options"] = {**(content.get("stream_options") or {}), "include_usage": True}
    counted = asked.stream_options is not None and asked.stream_options.include_usage
    return Asked(asked.model, True, not counted, content)
