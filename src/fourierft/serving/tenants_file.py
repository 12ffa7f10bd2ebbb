"""The tenants in a TOML file, read again while the server runs."""

from __future__ import annotations

import asyncio
import hashlib
import os
import signal
import stat
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any

from fourierft.errors import ConfigError
from fourierft.extras import needs
from fourierft.serving.lines import write_line
from fourierft.serving.tenant import Tenant
from fourierft.serving.tenants import Tenants

with needs("serve", "the server"):
    from pydantic import (
        AfterValidator,
        BaseModel,
        BeforeValidator,
        ConfigDict,
        Field,
        StringConstraints,
        ValidationError,
    )

_NO_KEYS = {hashlib.sha256(text).hexdigest() for text in (b"", b"\n")}  # printf '' | sha256sum, and echo
_PAUSE = 0.2  # seconds between two looks at the file, of which two have to agree
_MOST = 1_000_000  # requests at a time
_LARGEST = 1 << 26  # bytes of the file


def _some_key(digest: str) -> str:
    if digest in _NO_KEYS:
        raise ValueError("Input is the digest of an empty key; make one, such as `openssl rand -hex 32`")
    return digest


def _several(value: Any) -> Any:
    return value if isinstance(value, list) else [value]


Digest = Annotated[
    str, StringConstraints(pattern=r"^[0-9a-fA-F]{64}$"), AfterValidator(str.lower), AfterValidator(_some_key)
]


class _Table(BaseModel):
    """A tenant, as the file has it."""

    model_config = ConfigDict(extra="forbid", strict=True)

    key_sha256: Annotated[list[Digest], BeforeValidator(_several), Field(min_length=1, max_length=2)]
    adapters: list[str] | None = None
    base: bool = Tenant.base
    admin: bool = Tenant.admin
    requests_per_minute: float = Field(Tenant.requests_per_minute, ge=0.001, allow_inf_nan=False)
    running: int = Field(Tenant.running, ge=1, le=_MOST)
    waiting: int = Field(Tenant.waiting, ge=0, le=_MOST)

    def tenant(self, name: str) -> Tenant:
        """The same without the keys."""
        adapters = ["*"] * self.admin if self.adapters is None else self.adapters
        limits = {key: getattr(self, key) for key in ("base", "admin", "requests_per_minute", "running", "waiting")}
        return Tenant(name, tuple(adapters), **limits)


def read_tenants(path: str | Path) -> dict[str, Tenant]:
    """Digest of a key -> its tenant: a table `[tenants.NAME]` for each, with `key_sha256` and the fields of `Tenant`.

    Raises: ConfigError, naming the tenant and field that is missing, unknown or makes no sense; never with a key.
    """
    return parse_tenants(read_content(path), str(path))


def read_content(path: str | Path) -> bytes | str:
    """The content of a file, or why it cannot be read: no pipe is waited for, and nothing without an end is read."""
    try:
        with open(os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0)), "rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                return "it is not a file"
            content = file.read(_LARGEST + 1)
    except OSError as error:
        return error.strerror or "for no reason that is told"
    return content if len(content) <= _LARGEST else f"it is larger than {_LARGEST:,} bytes"


def parse_tenants(content: bytes | str, path: str) -> dict[str, Tenant]:
    """The same from what `read_content` found."""
    import tomllib  # from Python 3.11 on, as vLLM

    if isinstance(content, str):
        raise ConfigError(f"{path} cannot be read ({content})")
    try:
        tables = tomllib.loads(content.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path} cannot be read as TOML ({error})") from error
    tenants = tables.get("tenants")
    if set(tables) != {"tenants"} or not isinstance(tenants, dict) or not tenants:
        raise ConfigError(f"{path} has the tables {', '.join(tables) or 'none'}; give each tenant a [tenants.NAME]")
    found: dict[str, Tenant] = {}
    for name, table in tenants.items():
        try:
            read = _Table.model_validate(table)
        except ValidationError as error:
            raise ConfigError(f"{path}: tenant {name!r} {_describe(error)}") from error
        for digest in read.key_sha256:
            if digest in found:
                raise ConfigError(f"{path}: {found[digest].name!r} and {name!r} have the same key; give each its own")
            found[digest] = read.tenant(name)
    return found


def _describe(error: ValidationError) -> str:
    """What is wrong first, without what was given for a key."""
    fault = error.errors(include_url=False)[0]
    if not fault["loc"]:
        return "is not a table; write it as [tenants.NAME]"
    field, said = str(fault["loc"][0]), fault["msg"].removeprefix("Value error, ")
    said = said[0].lower() + said[1:]
    if fault["type"] == "extra_forbidden":
        return f"has the unknown field {field}; use {', '.join(_Table.model_fields)}"
    if field == "key_sha256":
        return f"needs a key_sha256 of 64 hexadecimal digits, as `printf %s KEY | sha256sum` prints, or two: {said}"
    return f"has {field}={fault['input']!r}: {said}"


class TenantsFile:
    """A file whose changes reach the tenants in less than a second.

    Args:
        path: of the file.
        tenants: as it was read last.
    """

    def __init__(self, path: str, tenants: Tenants) -> None:
        self._path, self._tenants = path, tenants
        self._taken: bytes | str | None = None
        self._signalled = False

    @asynccontextmanager
    async def followed(self) -> AsyncIterator[None]:
        """Inside, changes of the file are taken over, and SIGHUP reads it again."""
        await self._take(await asyncio.to_thread(read_content, self._path))
        following = asyncio.create_task(self._follow())
        if threading.current_thread() is threading.main_thread():
            asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, self._note_signal)
        try:
            yield
        finally:
            following.cancel()

    async def _take(self, content: bytes | str) -> None:
        """Take over what was read; what makes no sense changes nothing."""
        self._taken = content
        try:
            self._tenants.replace(await asyncio.to_thread(parse_tenants, content, self._path))
        except ConfigError as error:
            write_line("tenants", error=f"{error}; the tenants stay as they were")
        else:
            write_line("tenants", file=self._path, count=len(self._tenants.all()))

    async def _follow(self) -> None:
        before = self._taken
        while True:
            await asyncio.sleep(_PAUSE)
            signalled, self._signalled = self._signalled, False
            content = await asyncio.to_thread(read_content, self._path)
            if signalled or (content == before and content != self._taken):  # nobody is writing it
                await self._take(content)
            before = content

    def _note_signal(self) -> None:
        self._signalled = True
