"""Who may ask for what: keys, the adapters they may use and see, and how much at once."""

from __future__ import annotations

import asyncio
import fnmatch
import hashlib
import math
import re
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fourierft.errors import ConfigError

_DIGEST = re.compile(r"[0-9a-f]{64}")
_LITERAL = re.compile(r"[^*?\[]*")


class BusyError(Exception):
    """More is asked for than may be; the text says of what.

    Attributes:
        retry_after: seconds after which to try again.
    """

    def __init__(self, text: str, retry_after: float) -> None:
        super().__init__(text)
        self.retry_after = retry_after


@dataclass(frozen=True)
class Tenant:
    """What the holder of a key may do.

    Attributes:
        name: for logs and metrics.
        adapters: patterns of names as a shell has them: `acme/*`, `shared`.
        base: whether the base model itself may be asked.
        admin: whether adapters may be added and removed, and all of them and the metrics seen.
        requests_per_minute: most in a minute.
        running: most requests that are answered at once.
        waiting: most requests beyond these that wait for their turn.
    """

    name: str
    adapters: tuple[str, ...] = ()
    base: bool = True
    admin: bool = False
    requests_per_minute: float = math.inf
    running: int = 256
    waiting: int = 1024

    def may_use(self, adapter: str) -> bool:
        """Whether an adapter is this tenant's to use and see."""
        return any(fnmatch.fnmatchcase(adapter, pattern) for pattern in self.adapters)

    def prefixes(self) -> list[str]:
        """What the names of its adapters begin with, as few as say all."""
        literal = sorted({_LITERAL.match(pattern)[0] for pattern in self.adapters})  # type: ignore[index]
        return [p for i, p in enumerate(literal) if not any(p.startswith(shorter) for shorter in literal[:i])]

    @property
    def salt(self) -> str:
        """Of its prefixes in the cache, so that no answer is sooner there because another tenant asked the same."""
        return hashlib.sha256(self.name.encode()).hexdigest()[:32]


EVERYBODY = Tenant("everybody", ("*",))


@dataclass
class Turns:
    """How much a tenant asks for at present.

    Args:
        tenant: whose limits hold.
        clock: seconds.
    """

    tenant: Tenant
    clock: Callable[[], float] = time.monotonic
    running: int = 0
    waiting: int = 0
    _tokens: float = field(init=False)
    _filled: float = field(init=False)
    _free: asyncio.Semaphore = field(init=False)

    def __post_init__(self) -> None:
        self._tokens, self._filled = self.tenant.requests_per_minute, self.clock()
        self._free = asyncio.Semaphore(self.tenant.running)

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Wait for a turn, and have it inside.

        Raises: BusyError, if there are too many requests in a minute, or waiting.
        """
        if self.waiting >= self.tenant.waiting and self._free.locked():
            raise BusyError(
                f"{self.running:,} requests are being answered and {self.waiting:,} wait, the most that may", 1.0
            )
        self._count_request()
        self.waiting += 1
        try:
            await self._free.acquire()
        finally:
            self.waiting -= 1
        self.running += 1
        try:
            yield
        finally:
            self.running -= 1
            self._free.release()

    def _count_request(self) -> None:
        rate = self.tenant.requests_per_minute
        if math.isinf(rate):
            return
        now = self.clock()
        self._tokens = min(rate, self._tokens + (now - self._filled) * rate / 60)
        self._filled = now
        if self._tokens < 1:
            raise BusyError(f"more than {rate:g} requests in a minute", (1 - self._tokens) * 60 / rate)
        self._tokens -= 1


class Tenants:
    """All tenants, by the SHA-256 of their keys; without any, everybody is one tenant and needs no key."""

    def __init__(self, by_digest: Mapping[str, Tenant] | None = None, everybody: Tenant = EVERYBODY) -> None:
        self._turns = {digest: Turns(tenant) for digest, tenant in (by_digest or {}).items()}
        self._everybody = None if by_digest is not None else Turns(everybody)

    @property
    def are_open(self) -> bool:
        """Whether everybody may ask, without a key."""
        return self._everybody is not None

    def find(self, authorization: str | None) -> Turns | None:
        """The tenant of an `Authorization: Bearer KEY` header; None if there is no such key."""
        if self._everybody is not None:
            return self._everybody
        scheme, _, key = (authorization or "").partition(" ")
        if scheme.lower() != "bearer":
            return None
        return self._turns.get(hashlib.sha256(key.strip().encode()).hexdigest())

    def all(self) -> list[Turns]:
        """Every tenant once."""
        return [self._everybody] if self._everybody is not None else list(self._turns.values())


def read_tenants(path: str | Path) -> Tenants:
    """The tenants in a TOML file: a table `[tenants.NAME]` for each, with `key_sha256` and the fields of `Tenant`.

    Raises: ConfigError, naming the tenant and field that is missing, unknown or makes no sense.
    """
    import tomllib  # from Python 3.11 on, as vLLM

    try:
        content = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path} cannot be read as TOML ({error})") from error
    tables = content.get("tenants")
    if set(content) != {"tenants"} or not isinstance(tables, dict) or not tables:
        raise ConfigError(f"{path} has the tables {', '.join(content) or 'none'}; give each tenant a [tenants.NAME]")
    found: dict[str, Tenant] = {}
    for name, table in tables.items():
        digest, tenant = _read_tenant(f"{path}: tenant {name!r}", name, table)
        if digest in found:
            raise ConfigError(f"{path}: {found[digest].name!r} and {name!r} have the same key; give each its own")
        found[digest] = tenant
    return Tenants(found)


_KINDS: dict[str, tuple[type, ...]] = {
    "adapters": (list,),
    "base": (bool,),
    "admin": (bool,),
    "requests_per_minute": (int, float),
    "running": (int,),
    "waiting": (int,),
}


def _read_tenant(who: str, name: str, table: Any) -> tuple[str, Tenant]:
    if not isinstance(table, dict):
        raise ConfigError(f"{who} is no table; give it a [tenants.{name}]")
    settings = dict(table)
    digest = settings.pop("key_sha256", None)
    if not isinstance(digest, str) or not _DIGEST.fullmatch(digest):
        raise ConfigError(
            f"{who} has key_sha256={digest!r}; give the 64 hexadecimal digits that `printf %s KEY | sha256sum` prints"
        )
    for key, value in settings.items():
        if key not in _KINDS:
            raise ConfigError(f"{who} has {key}, which is none of {', '.join(['key_sha256', *_KINDS])}")
        if type(value) not in _KINDS[key]:
            raise ConfigError(f"{who} has {key}={value!r}; it must be a {' or '.join(k.__name__ for k in _KINDS[key])}")
        if (key == "waiting" and value < 0) or (key in ("requests_per_minute", "running") and value <= 0):
            raise ConfigError(f"{who} has {key}={value!r}, which lets nothing through; use a larger number")
    patterns = settings.pop("adapters", ["*"] if settings.get("admin") else [])
    if not all(isinstance(pattern, str) for pattern in patterns):
        raise ConfigError(f"{who} has adapters={patterns!r}; give names, or patterns such as 'acme/*'")
    return digest, Tenant(name, tuple(patterns), **settings)
