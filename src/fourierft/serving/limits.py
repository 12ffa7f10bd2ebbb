"""What a client may take of the server's memory and time, each alone and all together."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, fields

from fourierft.errors import ConfigError


@dataclass(frozen=True)
class Limits:
    """Sizes in bytes, times in seconds; all are above 0.

    Attributes:
        body: of one request for a completion.
        bodies_of_tenant: of all requests of a tenant that are read or wait.
        bodies: of all requests that are read or wait.
        adapter: of one adapter that is added, packed; the same holds unpacked.
        uploads: adapters that are read at once.
        pause: until the next part of a body comes.
        body_time: until all of the body of a request is there.
        adapter_time: until all of an adapter is there.
        turn: until a request has its turn.
        send: until a client takes the next part of an answer.

    Raises: ConfigError, for what is no limit.
    """

    body: int = 8 << 20
    bodies_of_tenant: int = 64 << 20
    bodies: int = 256 << 20
    adapter: int = 256 << 20
    uploads: int = 4
    pause: float = 30.0
    body_time: float = 60.0
    adapter_time: float = 600.0
    turn: float = 600.0
    send: float = 60.0

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if not 0 < value < math.inf:
                raise ConfigError(f"the limit {field.name}={value} is out of range; give a number above 0")

    def pack(self) -> str:
        """As a text, which `unpack` reads."""
        return json.dumps(asdict(self))

    @classmethod
    def unpack(cls, text: str) -> Limits:
        """What `pack` wrote."""
        return cls(**json.loads(text))


class Room:
    """Memory that bodies share.

    Args:
        most: bytes of all.
        most_each: bytes of one tenant's.
    """

    def __init__(self, most: int, most_each: int) -> None:
        self._most, self._most_each = most, most_each
        self._used: dict[str, int] = {}

    @property
    def used(self) -> int:
        return sum(self._used.values())

    def take(self, tenant: str, size: int) -> str | None:
        """Take some; what there is too much of, None if there is room."""
        own = self._used.get(tenant, 0) + size
        if own > self._most_each:
            return f"the requests of {tenant} that wait are longer than {self._most_each:,} bytes together"
        if self.used + size > self._most:
            return f"the requests that wait are longer than {self._most:,} bytes together"
        self._used[tenant] = own
        return None

    def give(self, tenant: str, size: int) -> None:
        left = self._used.pop(tenant, 0) - size
        if left:
            self._used[tenant] = left
