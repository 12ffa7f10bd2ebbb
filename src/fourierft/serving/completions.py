"""The way of a request for a completion: its place, its body, its adapter, its turn, and the server behind."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, contextmanager

from fourierft.errors import StoreError
from fourierft.extras import needs
from fourierft.serving import vllm_internals
from fourierft.serving.asked import read_asked
from fourierft.serving.client import Client
from fourierft.serving.fleet import Fleet, Version
from fourierft.serving.limits import Limits, Room
from fourierft.serving.meter import Meter
from fourierft.serving.request_adapter import CURRENT
from fourierft.serving.responses import RefusedError, no_such_model
from fourierft.serving.tenant import Tenant
from fourierft.serving.tenants import Tenants
from fourierft.serving.turns import Turns

with needs("serve", "the server"):
    from starlette.types import ASGIApp, Scope

AGAIN = 5.0  # seconds after which another server may be there
_LOOKS = 10  # for an adapter that is replaced while it is looked for


def refuse_stopping() -> RefusedError:
    """The answer while the server stops."""
    return RefusedError(503, "The server is stopping; ask again, or ask another server.", retry_after=AGAIN)


def refuse_key() -> RefusedError:
    """The answer to a client without a key."""
    return RefusedError(401, "This server needs a key: send the header `Authorization: Bearer KEY`.")


class Completions:
    """Answers requests for completions.

    Args:
        app: the server behind.
        fleet: what it serves.
        tenants: to whom.
        limits: what a client may take.
    """

    def __init__(self, app: ASGIApp, fleet: Fleet, tenants: Tenants, limits: Limits) -> None:
        self._app, self._fleet, self._tenants, self._limits = app, fleet, tenants, limits
        self._room = Room(limits.bodies, limits.bodies_of_tenant)

    async def answer(self, turns: Turns, key: list[bytes], scope: Scope, client: Client, meter: Meter) -> None:
        """Answer a request.

        Args:
            turns: of who asks.
            key: headers that say so.
            scope, client, meter: of the request.

        Raises: RefusedError, BusyError or StoreError, if there is no answer. ClientGoneError, if nobody waits for it.
        """
        meter.completes = True
        async with AsyncExitStack() as stack:
            stack.enter_context(turns.place())
            with self._reading(turns.tenant) as take:
                body = bytearray()
                async for part in client.parts(self._limits.body, self._limits.pause, self._limits.body_time):
                    take(len(part))
                    body += part
                asked = read_asked(body, turns.tenant, self._tenants.are_open)
                body.clear()
                client.listen()
                version = await self._find(turns.tenant, asked.model)
                content = asked.pack(None if version is None else version.name)
                asked.content.clear()
                try:
                    await client.unless_gone(stack.enter_async_context(turns.turn()), self._limits.turn)
                except TimeoutError as error:
                    raise RefusedError(
                        503, "The request waited too long for its turn; ask again.", retry_after=AGAIN
                    ) from error
                self._check_again(turns, key, asked.model, version)
                if version is not None:
                    version = await client.unless_gone(self._hold(version, turns.tenant, asked.model, stack))
                    meter.note_adapter(version)
            meter.stream, meter.hides_usage = asked.stream, asked.hides_usage
            passed, receive = _passed(scope, len(content), meter.request_id), client.replay(content)
            del content  # it is the server's, once that has read it
            request = (
                None if version is None else vllm_internals.make_request(version.key, version.name, version.number)
            )
            token = CURRENT.set(request)
            try:
                await self._app(passed, receive, meter)
            finally:
                CURRENT.reset(token)

    def _check_again(self, turns: Turns, key: list[bytes], model: str | None, version: Version | None) -> None:
        """Refuse what was right when the request came, and is not any more when its turn comes."""
        if self._fleet.stopping:
            raise refuse_stopping()
        if self._tenants.find(key) is not turns:
            raise refuse_key()
        if not (turns.tenant.base if version is None else turns.tenant.may_use(version.name)):
            raise no_such_model(model)

    async def _find(self, tenant: Tenant, model: str | None) -> Version | None:
        """The adapter that is asked for, None for the base."""
        is_base = model is None or model in self._fleet.base
        version = None if model is None or is_base else await self._fleet.find(model, tenant)
        if version is None and not (is_base and tenant.base):
            raise no_such_model(model)
        return version

    async def _hold(self, version: Version, tenant: Tenant, model: str | None, stack: AsyncExitStack) -> Version:
        """Have the engine hold a version until the stack ends; another, where the model was replaced meanwhile."""
        for _ in range(_LOOKS):
            try:
                await stack.enter_async_context(self._fleet.held(version))
                return version
            except StoreError:
                now = await self._find(tenant, model)
                if now is None or now == version:
                    raise
                version = now
        raise RefusedError(503, f"The model `{version.name}` is being replaced; ask again.", "model", AGAIN)

    @contextmanager
    def _reading(self, tenant: Tenant) -> Iterator[Callable[[int], None]]:
        """Inside, a body may take memory, in bytes."""
        taken = 0

        def take(size: int) -> None:
            nonlocal taken
            if fault := self._room.take(tenant.name, size):
                raise RefusedError(503, f"Too much at once: {fault}.", retry_after=AGAIN)
            taken += size

        try:
            yield take
        finally:
            self._room.give(tenant.name, taken)


def _passed(scope: Scope, size: int, request_id: str) -> Scope:
    """The request with a body of another size, in JSON, and its clean id."""
    own = {
        b"content-length": str(size).encode(),
        b"content-type": b"application/json",
        b"x-request-id": request_id.encode(),
    }
    headers = [(name, value) for name, value in scope["headers"] if name not in {*own, b"transfer-encoding"}]
    return {**scope, "headers": [*headers, *own.items()]}
