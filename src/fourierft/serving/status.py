"""The state of the server, in numbers, as often as anybody asks: read once a second for all of them."""

from __future__ import annotations

import asyncio
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
MOST_READ = 20_000  # names, to find those
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
        found = await run_in_threadpool(lambda: list(names))
        count = len(found) - (None in found[-1:])
        return {"adapters": min(count, MOST_COUNTED), "has_more": len(found) > MOST_COUNTED or None in found[-1:]}

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


def visible(fleet: Fleet, tenant: Tenant, after: str = "", begin: str = "") -> Iterator[str | None]:
    """Names that a tenant may see, in their order, behind one of them; None at the end if not all were looked at.

    Args:
        after: the name that they stand behind.
        begin: what they begin with.

    A pattern such as `*z` fits few of the names that are read for it: MOST_READ are, with those of its other patterns.
    """
    left = MOST_READ
    for prefix, is_name in tenant.prefixes().items():  # one after another, as their names are
        if not (prefix.startswith(begin) or (begin.startswith(prefix) and not is_name)):
            continue
        names = fleet.store.names(max(prefix, begin, key=len), after)
        for name in islice(names, 1) if is_name else names:
            if not (left or is_name):
                yield None
                return
            left -= not is_name
            if tenant.may_use(name) and (name == prefix or not is_name):
                yield name
