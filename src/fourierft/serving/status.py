"""The state of the server, in numbers, as often as anybody asks: read once a second for all of them."""

from __future__ import annotations

import asyncio
import heapq
import time
from collections.abc import Iterator
from itertools import islice
from typing import Any

from fourierft import __version__
from fourierft.extras import needs
from fourierft.serving.fleet import Fleet
from fourierft.serving.tenant import Tenant
from fourierft.serving.tenants import Tenants

with needs("serve", "the server"):
    from starlette.concurrency import run_in_threadpool

MOST_COUNTED = 10_000  # adapters of a tenant
_LASTS = 1.0  # seconds


class Status:
    """What a tenant sees of the state.

    Args:
        fleet: whose.
        tenants: who asks.
    """

    def __init__(self, fleet: Fleet, tenants: Tenants) -> None:
        self._fleet, self._tenants = fleet, tenants
        self._read: dict[Tenant, tuple[float, dict[str, Any]]] = {}
        self._reading = asyncio.Lock()

    async def read(self, tenant: Tenant) -> dict[str, Any]:
        """Numbers alone for tenants, of their own adapters; names for who may see them all."""
        async with self._reading:
            now = time.monotonic()
            self._read = {key: found for key, found in self._read.items() if found[0] > now - _LASTS}
            if tenant not in self._read:
                everything = self._tenants.are_open or tenant.admin
                numbers = await (self._everything() if everything else self._own(tenant))
                self._read[tenant] = time.monotonic(), numbers
            return {"fourierft": __version__, "base": self._fleet.base[0], **self._read[tenant][1]}

    async def _own(self, tenant: Tenant) -> dict[str, Any]:
        names = islice(visible(self._fleet, tenant), MOST_COUNTED + 1)
        count = await run_in_threadpool(lambda: sum(1 for _ in names))
        return {"adapters": min(count, MOST_COUNTED), "has_more": count > MOST_COUNTED}

    async def _everything(self) -> dict[str, Any]:
        turns = self._tenants.all()
        return {
            "adapters": await run_in_threadpool(len, self._fleet.store),
            **await self._fleet.counts(),
            "tokens_per_second": round(self._fleet.tokens_per_second(), 1),
            "running": sum(each.running for each in turns),
            "waiting": sum(each.waiting for each in turns),
            "recent": list(reversed(self._fleet.recent.items())),
        }


def visible(fleet: Fleet, tenant: Tenant, after: str = "") -> Iterator[str]:
    """Names that a tenant may see, in their order, behind one of them."""
    found = heapq.merge(*(fleet.store.names(prefix, after) for prefix in tenant.prefixes()))
    return (name for name in found if tenant.may_use(name))
