"""The gate before vLLM's server: who asks, for which adapter, and whether it is their turn.

It is ASGI middleware. vLLM makes it (`--middleware`), and what it should do is in the environment (`Settings`). It
answers the paths of `routes` itself and hands requests for completions on, with their adapter.
"""

from __future__ import annotations

import json
import os
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

from fourierft.adapters.store import AdapterStore
from fourierft.errors import FourierFTError
from fourierft.extras import needs
from fourierft.serving import metrics, seam
from fourierft.serving.current import CURRENT, CurrentRequest
from fourierft.serving.fleet import Fleet, Version
from fourierft.serving.meter import Meter, log_to_stderr
from fourierft.serving.responses import no_such_model, problem
from fourierft.serving.routes import Routes
from fourierft.serving.tenants import BusyError, Tenant, Tenants, Turns, read_tenants

with needs("serve", "the server"):
    from starlette.requests import Request
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

COMPLETIONS = ("/v1/chat/completions", "/v1/completions")
FREE = ("/", "/health", "/ping")
LARGEST_BODY = 8 << 20
STOPPING = "The server is stopping; ask again, or ask another."
AGAIN = 5.0  # seconds after which another server may be there
STORE, TENANTS, REQUESTS = "FOURIERFT_STORE", "FOURIERFT_TENANTS", "FOURIERFT_REQUESTS"


@dataclass(frozen=True)
class Settings:
    """What the gate serves, and to whom."""

    store: str
    tenants: Tenants

    @classmethod
    def from_environment(cls) -> Settings:
        """What `fourierft serve` leaves in the environment of vLLM."""
        everybody = Tenant("everybody", ("*",), running=int(os.environ.get(REQUESTS, "1024")), waiting=0)
        path = os.environ.get(TENANTS)
        return cls(os.environ[STORE], read_tenants(path) if path else Tenants(everybody=everybody))


class RefusedError(Exception):
    """A request that is answered with an error."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__()
        self.response = problem(*arguments, **named)


class Gate:
    """The middleware.

    Args:
        app: vLLM's server.
        settings: those of the environment, if left out.
    """

    def __init__(self, app: ASGIApp, settings: Settings | None = None) -> None:
        self._app = app
        self._settings = settings or Settings.from_environment()
        self._fleet: Fleet | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or hand on."""
        if scope["type"] == "lifespan":
            self._start(scope["app"].state)
        if scope["type"] == "http":
            await self._answer(scope, receive, send)
        elif scope["type"] == "lifespan" or self._settings.tenants.are_open:
            await self._app(scope, receive, send)
        else:
            await send({"type": "websocket.close", "code": 1008})

    def _start(self, state: Any) -> None:
        log_to_stderr()
        names = seam.serve_only(state, CurrentRequest())
        store = AdapterStore(self._settings.store, create=False)
        self._fleet = Fleet(store, state.engine_client, names)
        self._routes = Routes(self._fleet, self._settings.tenants)
        seam.before_shutdown(state.engine_client, self._fleet.stop)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        path, tenants = scope["path"], self._settings.tenants
        turns = tenants.find(Request(scope).headers.get("authorization"))
        assert self._fleet is not None
        if self._fleet.stopping:
            await problem(503, STOPPING, retry_after=AGAIN)(scope, receive, send)
            return
        if turns is None and path not in FREE:
            await problem(401, "This server needs a key: send the header `Authorization: Bearer KEY`.")(
                scope, receive, send
            )
            return
        scope["tenant"] = None if turns is None else turns.tenant
        if turns is not None and path in COMPLETIONS and scope["method"] == "POST":
            await self._complete(self._fleet, turns, scope, receive, send)
        elif self._routes.has(path):
            await self._routes(scope, receive, send)
        elif path in FREE or tenants.are_open or (turns is not None and turns.tenant.admin):
            if path == "/metrics":
                await self._refresh(self._fleet)
            await self._app(scope, receive, send)
        else:
            await problem(404, f"There is nothing at {path}.")(scope, receive, send)

    async def _refresh(self, fleet: Fleet) -> None:
        metrics.set_counts(await fleet.counts())
        for turns in self._settings.tenants.all():
            metrics.RUNNING.labels(turns.tenant.name).set(turns.running)
            metrics.WAITING.labels(turns.tenant.name).set(turns.waiting)

    async def _complete(self, fleet: Fleet, turns: Turns, scope: Scope, receive: Receive, send: Send) -> None:
        tenant = turns.tenant
        meter, version = Meter(send, tenant.name, False, False), None
        try:
            async with AsyncExitStack() as stack:
                try:
                    body = await _read(receive)
                    version = await _find(fleet, tenant, body.get("model"))
                    await stack.enter_async_context(turns.turn())
                    if fleet.stopping:
                        raise RefusedError(503, STOPPING, retry_after=AGAIN)
                    if version is not None:
                        await stack.enter_async_context(fleet.held(version))
                except RefusedError as refused:
                    await refused.response(scope, receive, meter)
                    return
                except BusyError as busy:
                    await problem(429, f"Too much at once: {busy}.", retry_after=busy.retry_after)(
                        scope, receive, meter
                    )
                    return
                except FourierFTError as error:
                    await problem(500, f"The model `{body['model']}` cannot be served: {error}", "model")(
                        scope, receive, meter
                    )
                    return
                hides_usage = _prepare(body, tenant, self._settings.tenants.are_open)
                meter = Meter(send, tenant.name, body.get("stream") is True, hides_usage)
                request = None if version is None else seam.make_request(version.key, version.name, version.number)
                token = CURRENT.set(request)
                try:
                    await self._app(*_replaced(scope, body, receive), meter)
                finally:
                    CURRENT.reset(token)
        finally:
            meter.finish(fleet, version, Request(scope).headers.get("x-request-id"))


async def _read(receive: Receive) -> dict[str, Any]:
    parts, size, more = [], 0, True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise RefusedError(400, "The request ended before its body did.")
        parts.append(message.get("body", b""))
        size, more = size + len(parts[-1]), message.get("more_body", False)
        if size > LARGEST_BODY:
            raise RefusedError(413, f"The request is longer than {LARGEST_BODY:,} bytes.")
    try:
        body = json.loads(b"".join(parts))
    except (ValueError, RecursionError) as error:
        raise RefusedError(400, f"The request is no JSON: {error}.") from error
    if not isinstance(body, dict):
        raise RefusedError(400, f"The request is a JSON {type(body).__name__}; send an object.")
    return body


async def _find(fleet: Fleet, tenant: Tenant, model: object) -> Version | None:
    """The adapter that is asked for, None for the base."""
    if model is None or model in fleet.base:
        if not tenant.base:
            raise _refuse(model)
        return None
    version = await fleet.find(model) if isinstance(model, str) and tenant.may_use(model) else None
    if version is None:
        raise _refuse(model)
    return version


def _refuse(model: object) -> RefusedError:
    refused = RefusedError(404, "")
    refused.response = no_such_model(model)
    return refused


def _prepare(body: dict[str, Any], tenant: Tenant, is_open: bool) -> bool:
    """Have the tokens of a stream counted, and prefixes kept apart; whether the count is only for us."""
    if not is_open:
        body["cache_salt"] = tenant.salt
    options = body.get("stream_options")
    if body.get("stream") is not True or not isinstance(options, dict | None):
        return False
    asked = bool(options and options.get("include_usage"))
    body["stream_options"] = {**(options or {}), "include_usage": True}
    return not asked


def _replaced(scope: Scope, body: dict[str, Any], receive: Receive) -> tuple[Scope, Receive]:
    """The request with another body."""
    content = json.dumps(body).encode()
    headers = [(key, value) for key, value in scope["headers"] if key != b"content-length"]
    sent = False

    async def replay() -> Message:
        nonlocal sent
        if sent:
            return await receive()  # the client's going
        sent = True
        return {"type": "http.request", "body": content, "more_body": False}

    return {**scope, "headers": [*headers, (b"content-length", str(len(content)).encode())]}, replay
