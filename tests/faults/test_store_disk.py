"""PostgreSQL on a disk of its own that fills; where no disk can be mounted, this file is left out."""

from __future__ import annotations

import os
from collections.abc import Callable

import torch

from fourierft.store import AdapterStore
from tests.store.servers import Server

from .conftest import Campaign
from .damage import layout, numbers
from .processes import Child, check_acknowledged, noted
from .test_store_server import clear, refusals

ROOM = 60 << 20  # bytes of the disk


def test_server_whose_disk_is_full(campaign: Campaign) -> None:
    """The data or the log finds no room: one sentence, and all that was acknowledged is there once there is room."""
    server = Server(ROOM, "-c max_wal_size=32MB -c min_wal_size=32MB")
    try:
        for k in range(campaign.count(2, 20)):
            ballast = server.data.parent / "ballast"
            free = os.statvfs(server.data.parent)
            left = free.f_bavail * free.f_frsize - campaign.chance.randrange(1 << 18, 3 << 20)
            with ballast.open("wb") as file:
                os.posix_fallocate(file.fileno(), 0, max(1, left))

            def fill_up(tell: Callable[[str], object], k: int = k) -> None:
                noise = torch.Generator().manual_seed(k)
                with AdapterStore(server.address) as store:
                    for number in range(10_000):
                        heads = {"head.weight": torch.randn(40_000, generator=noise)}
                        store.put(f"d{k} {number}", layout(), numbers(number), heads)
                        tell(f"added {number} d{k} {number}")

            lines = Child(fill_up).lines()
            told, strange = refusals(lines)
            ballast.unlink()
            server.stop()
            server.start()
            last = lines[-1]

            def check(told: list[str] = told, last: str = last) -> str | None:
                if not last.startswith("refused"):
                    return f"the disk never filled: {last}"
                fault = check_acknowledged(server.address, told)
                with AdapterStore(server.address) as store:
                    store.put("last", layout(), numbers(0))
                clear(server)
                return fault

            fault = strange or noted(check)
            campaign.note(fault)
    finally:
        server.close()
