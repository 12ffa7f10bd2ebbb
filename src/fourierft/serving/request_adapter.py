"""How a request's adapter reaches vLLM: resolved once, where the request comes in, and kept for its time alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from typing import Any

CURRENT: ContextVar[Any] = ContextVar("fourierft_request", default=None)


class CurrentRequest(Mapping[str, Any]):
    """In place of vLLM's table of adapters by name: the one that the request at hand may use, and no other.

    vLLM looks a model up by its name several times while it handles a request, and would keep for ever what it found
    first. Here each request has the version that was the latest when it came, and sees nobody else's adapters.
    """

    def __getitem__(self, name: str) -> Any:
        request = CURRENT.get()
        if request is None or request.lora_name != name:
            raise KeyError(name)
        return request

    def __iter__(self) -> Iterator[str]:
        request = CURRENT.get()
        return iter([] if request is None else [request.lora_name])

    def __len__(self) -> int:
        return 0 if CURRENT.get() is None else 1
