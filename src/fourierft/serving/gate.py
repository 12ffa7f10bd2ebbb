"""The gate before vLLM's server: who asks, for which adapter, and whether it is their turn.

It is ASGI middleware. vLLM makes it (`--middleware`), and what it should do is in the environment (`Settings`). It
answers the paths of `routes` itself and hands requests for completions on, with their adapter. Whatever goes wrong with
a request ends here, in one answer and one line of the log.
"""

from __future__ import annotations

import os
import traceback
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any

from fourierft.errors import FourierFTError, PlaceError, UnavailableError
from fourierft.extras import needs
from fourierft.serving import metrics, vllm_internals
from fourierft.serving.client import Client, ClientGoneError
from fourierft.serving.completions import AGAIN, Completions, refuse_key, refuse_stopping
from fourierft.serving.fleet import Fleet
from fourierft.serving.limits import Limits
from fourierft.serving.lines import log_to_stderr, write_line
from fourierft.serving.meter import Meter
from fourierft.serving.request_adapter import CurrentRequest
from fourierft.serving.responses import RefusedError, nothing_at, problem
from fourierft.serving.routes import Routes
from fourierft.serving.tenant import Tenant
from fourierft.serving.tenants import Tenants
from fourierft.serving.tenants_file import TenantsFile, read_tenants
from fourierft.serving.turns import BusyError
from fourierft.store import AdapterStore

with needs("serve", "the server"):
    from starlette.exceptions import HTTPException
    from starlette.responses import Response
    from starlette.types import ASGIApp, Receive, Scope, Send

COMPLETIONS = ("/v1/chat/completions", "/v1/completions")
FREE = ("/", "/health", "/ping")
LORA = ("/v1/load_lora_adapter", "/v1/unload_lora_adapter")  # vLLM's, which would end the engine
STORE, TENANTS, LIMITS = "FOURIERFT_STORE", "FOURIERFT_TENANTS", "FOURIERFT_LIMITS"
REQUESTS, WAITING = "FOURIERFT_REQUESTS", "FOURIERFT_WAITING"


@dataclass(frozen=True)
class Settings:
    """What the gate serves, and to whom.

    Attributes:
        store: of the adapters.
        tenants: to whom.
        file: that the tenants were read from, and are read from again; None for none.
        limits: what a client may take.
    """

    store: str
    tenants: Tenants
    file: str | None = None
    limits: Limits = field(default_factory=Limits)

    @classmethod
    def from_environment(cls) -> Settings:
        """What `fourierft serve` leaves in the environment of vLLM."""
        requests, waiting = (int(os.environ.get(name, least)) for name, least in ((REQUESTS, "1024"), (WAITING, "0")))
        everybody = Tenant("everybody", ("*",), running=requests, waiting=waiting)
        path = os.environ.get(TENANTS)
        tenants = Tenants(read_tenants(path)) if path else Tenants(everybody=everybody)
        return cls(os.environ[STORE], tenants, path, Limits.unpack(os.environ.get(LIMITS, "{}")))


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
        if scope["type"] == "http":
            await self._bound(scope, receive, send)
        elif scope["type"] == "lifespan":
            async with AsyncExitStack() as stack:
                stack.callback(self._start(scope["app"].state).close)
                if self._settings.file is not None:
                    await stack.enter_async_context(TenantsFile(self._settings.file, self._settings.tenants).followed())
                await self._app(scope, receive, send)
        elif self._settings.tenants.are_open:
            await self._app(scope, receive, send)
        else:
            await send({"type": "websocket.close", "code": 1008})

    def _start(self, state: Any) -> AdapterStore:
        log_to_stderr()
        names = vllm_internals.serve_only(state, CurrentRequest())
        store = AdapterStore(self._settings.store, create=False)
        tenants, limits = self._settings.tenants, self._settings.limits
        self._fleet = Fleet(store, state.engine_client, names)
        self._routes = Routes(self._fleet, tenants, limits)
        self._completions = Completions(self._app, self._fleet, tenants, limits)
        vllm_internals.before_shutdown(state.engine_client, self._fleet.stop)
        return store

    async def _bound(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, whatever it is, and write its line."""
        assert self._fleet is not None
        client = Client(scope, receive)
        meter = Meter(scope, send, client, self._settings.limits.send)
        try:
            await self._answer(self._fleet, scope, client, meter)
        except ClientGoneError:
            pass
        except Exception as error:
            response = as_response(error)
            if isinstance(error, FourierFTError):
                meter.noted["error"] = str(error)
                response = self._unserved(error, scope, meter)
            elif response is None:
                write_line("failure", id=meter.request_id, traceback=traceback.format_exc().splitlines())
                response = problem(500, f"The server failed; its log says more under {meter.request_id}.")
            if not meter.begun:
                await response(scope, receive, meter)
        finally:
            client.close()
            if scope["path"] not in FREE or meter.status >= 400:
                meter.finish(self._fleet)
        if meter.is_held_open:
            await client.drain(self._settings.limits.pause)
            await send({"type": "http.response.body", "body": b"", "more_body": False})

    def _unserved(self, error: FourierFTError, scope: Scope, meter: Meter) -> Response:
        """The answer where the store or an adapter fails: why, to those alone who may see all of it."""
        status, again = (503, AGAIN) if isinstance(error, UnavailableError | PlaceError) else (500, None)
        tenant = scope.get("tenant")
        if self._settings.tenants.are_open or (tenant is not None and tenant.admin):
            return problem(status, f"The adapters cannot be served: {error}", retry_after=again)
        what = f"The adapters cannot be served; the server's log says why under {meter.request_id}."
        return problem(status, what, retry_after=again)

    async def _answer(self, fleet: Fleet, scope: Scope, client: Client, meter: Meter) -> None:
        path, tenants = scope["path"], self._settings.tenants
        key = [value for name, value in scope["headers"] if name == b"authorization"]
        turns = tenants.find(key)
        lengths = {name for name, _ in scope["headers"]} & {b"content-length", b"transfer-encoding"}
        if len(lengths) > 1:  # which a proxy before may have read otherwise: what follows may be another's
            said = "The request has a Content-Length and a Transfer-Encoding; send one."
            raise RefusedError(400, said, headers={"Connection": "close"})
        if fleet.stopping:
            raise refuse_stopping()
        if turns is None and path not in FREE:
            raise refuse_key()
        tenant = None if turns is None else turns.tenant
        meter.tenant = None if tenant is None else tenant.name
        scope["tenant"], scope["meter"] = tenant, meter
        if turns is not None and path in COMPLETIONS and scope["method"] == "POST":
            await self._completions.answer(turns, key, scope, client, meter)
        elif path in LORA:
            raise RefusedError(
                404, "Adapters of a fleet come from its store; an admin adds them at /fleet/adapters/NAME."
            )
        elif self._routes.has(path):
            await self._routes(scope, client.receive, meter)
        elif path in FREE or tenants.are_open or (turns is not None and turns.tenant.admin):
            if path == "/metrics":
                await self._refresh(fleet)
            await self._app(scope, client.receive, meter)
        else:
            raise nothing_at(path)

    async def _refresh(self, fleet: Fleet) -> None:
        metrics.set_counts(await fleet.counts())
        metrics.set_turns(self._settings.tenants.all())


def as_response(error: Exception) -> Response | None:
    """The answer that an error stands for; None if it is none that was foreseen."""
    if isinstance(error, RefusedError):
        return error.response
    if isinstance(error, BusyError):
        return problem(429, f"Too much at once: {error}.", retry_after=error.retry_after)
    if isinstance(error, HTTPException):
        return problem(error.status_code, f"{error.detail}.", headers=error.headers)
    return None
