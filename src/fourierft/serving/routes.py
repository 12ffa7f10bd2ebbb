"""What the server answers beside completions: models, its state, a page, and adapters for those who may change them."""

from __future__ import annotations

import asyncio
from importlib import resources
from itertools import islice
from typing import Any

from fourierft.errors import FourierFTError, MissingAdapterError, PlaceError, StoreError, UnavailableError
from fourierft.extras import needs
from fourierft.serving.client import Client
from fourierft.serving.fleet import Fleet
from fourierft.serving.limits import Limits
from fourierft.serving.queries import Page, read_query
from fourierft.serving.responses import RefusedError, no_such_model, nothing_at
from fourierft.serving.status import Status, visible
from fourierft.serving.tenant import Tenant
from fourierft.serving.tenants import Tenants
from fourierft.serving.uploads import Uploads
from fourierft.store.additions import check_name

with needs("serve", "the server"):
    from starlette.concurrency import run_in_threadpool
    from starlette.requests import Request
    from starlette.responses import HTMLResponse, JSONResponse, Response
    from starlette.routing import Route, Router
    from starlette.types import Receive, Scope, Send

_LISTS = 4  # that are read at once, as each takes the time of all others


class Routes:
    """The server's own paths.

    Args:
        fleet: what is served.
        tenants: to whom.
        limits: what a client may take.
    """

    def __init__(self, fleet: Fleet, tenants: Tenants, limits: Limits) -> None:
        self._fleet = fleet
        self._uploads, self._state = Uploads(fleet.store, limits), Status(fleet, tenants)
        self._listing = asyncio.Semaphore(_LISTS)
        self._router = Router(
            redirect_slashes=False,
            routes=[
                Route("/", self._page),
                Route("/v1/models", self._models),
                Route("/v1/models/{name:path}", self._model),
                Route("/fleet/status", self._status),
                Route("/fleet/adapters", self._list),
                Route("/fleet/adapters/{name:path}", self._add, methods=["PUT"]),
                Route("/fleet/adapters/{name:path}", self._remove, methods=["DELETE"]),
            ],
        )

    def has(self, path: str) -> bool:
        return path == "/" or path == "/v1/models" or path.startswith(("/v1/models/", "/fleet/"))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._router(scope, receive, send)

    async def _page(self, request: Request) -> Response:
        return HTMLResponse(resources.files("fourierft.serving").joinpath("page.html").read_text(encoding="utf-8"))

    async def _models(self, request: Request) -> Response:
        """The models that a tenant may use: `?prefix=TEXT&after=NAME&limit=N`."""
        tenant: Tenant = request.scope["tenant"]
        page = read_query(request, Page)
        seen = visible(self._fleet, tenant, page.after, page.prefix)
        async with self._listing:
            names = await run_in_threadpool(lambda: list(islice(seen, page.limit + 1)))
        base = [card(name) for name in self._fleet.base] if tenant.base and not page.after and not page.prefix else []
        cards = [card(name, self._fleet.base[0]) for name in names[: page.limit] if name is not None]
        more = len(names) > page.limit or None in names[-1:]
        return JSONResponse({"object": "list", "data": base + cards, "has_more": more})

    async def _model(self, request: Request) -> Response:
        tenant, name = request.scope["tenant"], request.path_params["name"]
        if name in self._fleet.base and tenant.base:
            return JSONResponse(card(name))
        version = await self._fleet.find(name, tenant)
        if version is None:
            raise no_such_model(name)
        return JSONResponse({**card(name, self._fleet.base[0]), "version": version.number})

    async def _status(self, request: Request) -> Response:
        return JSONResponse(await self._state.read(request.scope["tenant"]))

    async def _list(self, request: Request) -> Response:
        """Adapters with version, dtype, bytes, metrics: `?prefix=TEXT&after=NAME&limit=N`."""
        _check_admin(request)
        page = read_query(request, Page)

        def read() -> list[Any]:
            found = self._fleet.store.list(page.prefix, after=page.after)
            return list(islice(found, page.limit + 1))

        async with self._listing:
            found = await run_in_threadpool(read)
        adapters = [listed._asdict() for listed in found[: page.limit]]
        return JSONResponse({"adapters": adapters, "has_more": len(found) > page.limit})

    async def _add(self, request: Request) -> Response:
        """A new version of an adapter: the body is a zip file of its PEFT directory."""
        _check_admin(request)
        name, noted = _name(request), request.scope["meter"].noted
        if name in self._fleet.base:
            raise RefusedError(409, f"`{name}` is the name of the base; choose another.")
        try:
            version, size = await self._uploads.add(name, Client(request.scope, request.receive))
        except (UnavailableError, PlaceError):
            raise
        except FourierFTError as error:
            raise RefusedError(400, str(error)) from error
        noted |= {"version": version, "bytes": size}
        return JSONResponse({"name": name, "version": version}, 201)

    async def _remove(self, request: Request) -> Response:
        """Remove all versions of an adapter, or one of them, `name@3`."""
        tenant, reference = _check_admin(request), _name(request)
        version = await self._fleet.find(reference, tenant)
        if version is None:
            raise no_such_model(reference)
        number = None if version.name == reference else version.number
        try:
            count = await run_in_threadpool(self._fleet.store.remove, version.name, number)
        except MissingAdapterError:
            raise no_such_model(reference) from None
        except UnavailableError:
            raise
        except StoreError as error:
            raise RefusedError(409, f"{error}.") from error
        request.scope["meter"].noted |= {"adapter": version.name, "version": number, "removed": count}
        return JSONResponse({"name": version.name, "version": number, "removed": count})


def _check_admin(request: Request) -> Tenant:
    """Answer who may not change the fleet as if there were nothing here."""
    tenant: Tenant | None = request.scope["tenant"]
    if tenant is None or not tenant.admin:
        raise nothing_at(request.scope["path"])
    return tenant


def _name(request: Request) -> str:
    """The name in a path, noted for the log."""
    name: str = request.path_params["name"]
    try:
        check_name(name)
    except StoreError as error:
        raise RefusedError(400, f"{error}.") from error
    request.scope["meter"].noted["adapter"] = name
    return name


def card(name: str, parent: str | None = None) -> dict[str, Any]:
    """A model as OpenAI's API lists it."""
    return {"id": name, "object": "model", "created": 0, "owned_by": "fourierft", "parent": parent}
