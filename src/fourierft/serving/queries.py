"""What the server's own paths are asked with, checked once."""

from __future__ import annotations

from typing import TypeVar

from fourierft.extras import needs
from fourierft.serving.responses import RefusedError
from fourierft.store.additions import MOST_CHARACTERS

with needs("serve", "the server"):
    from pydantic import BaseModel, Field, ValidationError
    from starlette.requests import Request

MOST_LISTED = 1000
_NAME = Field("", max_length=MOST_CHARACTERS, pattern=r"^[^\x00]*$")


class Page(BaseModel):
    """Names: `?prefix=TEXT&after=NAME&limit=N`."""

    prefix: str = _NAME
    after: str = _NAME
    limit: int = Field(MOST_LISTED, ge=1, le=MOST_LISTED)


Query = TypeVar("Query", bound=BaseModel)


def read_query(request: Request, kind: type[Query]) -> Query:
    """What stands behind the `?`.

    Raises: RefusedError, with one sentence.
    """
    try:
        return kind.model_validate(dict(request.query_params))
    except ValidationError as error:
        fault = error.errors(include_url=False, include_input=False)[0]
        field = str(fault["loc"][0])
        raise RefusedError(400, f"`{field}` in the query is invalid: {fault['msg']}.", field) from error
