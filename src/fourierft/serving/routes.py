"""What the server answers beside completions: models, its state, a page, and adapters for those who may change them."""

from __future__ import annotations

import heapq
import io
import tempfile
import zipfile
from collections.abc import Iterator
from importlib import resources
from itertools import islice
from pathlib import Path
from typing import Any

from fourierft import __version__
from fourierft.errors import FourierFTError
from fourierft.extras import needs
from fourierft.format.config import CONFIG_FILE, WEIGHTS_FILE
from fourierft.serving.fleet import Fleet
from fourierft.serving.responses import no_such_model, problem
from fourierft.serving.tenants import Tenant, Tenants

with needs("serve", "the server"):
    from starlette.concurrency import run_in_threadpool
    from starlette.requests import Request
    from starlette.responses import HTMLResponse, JSONResponse, Response
    from starlette.routing import Route, Router
    from starlette.types import Receive, Scope, Send

MOST_LISTED = 1000
LARGEST_ADAPTER = 256 << 20


class Routes:
    """The server's own paths.

    Args:
        fleet: what is served.
        tenants: to whom.
    """

    def __init__(self, fleet: Fleet, tenants: Tenants) -> None:
        self._fleet, self._tenants = fleet, tenants
        self._router = Router(
            [
                Route("/", self._page),
                Route("/v1/models", self._models),
                Route("/v1/models/{name:path}", self._model),
                Route("/fleet/status", self._status),
                Route("/fleet/adapters", self._list),
                Route("/fleet/adapters/{name:path}", self._add, methods=["PUT"]),
                Route("/fleet/adapters/{name:path}", self._remove, methods=["DELETE"]),
            ]
        )

    def has(self, path: str) -> bool:
        """Whether a path is one of these."""
        return path == "/" or path == "/v1/models" or path.startswith(("/v1/models/", "/fleet/"))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        await self._router(scope, receive, send)

    async def _page(self, request: Request) -> Response:
        return HTMLResponse(resources.files("fourierft.serving").joinpath("page.html").read_text(encoding="utf-8"))

    async def _models(self, request: Request) -> Response:
        """The models that a tenant may use: `?after=NAME&limit=N` pages through them."""
        tenant: Tenant = request.scope["tenant"]
        after, limit = request.query_params.get("after", ""), request.query_params.get("limit", str(MOST_LISTED))
        if not limit.isdigit() or not 1 <= int(limit) <= MOST_LISTED:
            return problem(400, f"limit={limit} is not a number from 1 to {MOST_LISTED}.", "limit")
        names = await run_in_threadpool(lambda: list(islice(self._visible(tenant, after), int(limit) + 1)))
        base = [card(name) for name in self._fleet.base] if tenant.base and not after else []
        cards = [card(name, self._fleet.base[0]) for name in names[: int(limit)]]
        return JSONResponse({"object": "list", "data": base + cards, "has_more": len(names) > int(limit)})

    async def _model(self, request: Request) -> Response:
        tenant, name = request.scope["tenant"], request.path_params["name"]
        if name in self._fleet.base and tenant.base:
            return JSONResponse(card(name))
        if not tenant.may_use(name) or await self._fleet.find(name) is None:
            return no_such_model(name)
        return JSONResponse(card(name, self._fleet.base[0]))

    async def _status(self, request: Request) -> Response:
        """Numbers alone for tenants; names for who may see them all."""
        tenant: Tenant = request.scope["tenant"]
        status: dict[str, Any] = {"fourierft": __version__, "base": self._fleet.base[0]}
        if not (self._tenants.are_open or tenant.admin):
            own = await run_in_threadpool(lambda: sum(1 for _ in self._visible(tenant)))
            return JSONResponse({**status, "adapters": own})
        turns = self._tenants.all()
        return JSONResponse(
            {
                **status,
                "adapters": await run_in_threadpool(len, self._fleet.store),
                **await self._fleet.counts(),
                "tokens_per_second": round(self._fleet.tokens_per_second(), 1),
                "running": sum(each.running for each in turns),
                "waiting": sum(each.waiting for each in turns),
                "recent": list(reversed(self._fleet.recent.items())),
            }
        )

    async def _list(self, request: Request) -> Response:
        """Adapters with version, dtype, bytes, metrics: `?prefix=TEXT&limit=N`."""
        if refused := self._refuse(request):
            return refused
        prefix, limit = request.query_params.get("prefix", ""), int(request.query_params.get("limit", MOST_LISTED))
        found = await run_in_threadpool(lambda: list(islice(self._fleet.store.list(prefix), limit)))
        return JSONResponse({"adapters": [listed._asdict() for listed in found]})

    async def _add(self, request: Request) -> Response:
        """A new version of an adapter: the body is a zip file of its PEFT directory."""
        if refused := self._refuse(request):
            return refused
        name, body = request.path_params["name"], b""
        async for part in request.stream():
            body += part
            if len(body) > LARGEST_ADAPTER:
                return problem(413, f"The adapter is larger than {LARGEST_ADAPTER:,} bytes.")
        try:
            version = await run_in_threadpool(self._add_zip, name, body)
        except FourierFTError as error:
            return problem(400, str(error))
        return JSONResponse({"name": name, "version": version}, 201)

    def _add_zip(self, name: str, body: bytes) -> int:
        with tempfile.TemporaryDirectory() as folder:
            unzip(body, Path(folder))
            return self._fleet.store.add(name, folder)

    async def _remove(self, request: Request) -> Response:
        """Remove all versions of an adapter."""
        if refused := self._refuse(request):
            return refused
        name = request.path_params["name"]
        try:
            count = await run_in_threadpool(self._fleet.store.remove, name)
        except FourierFTError as error:
            return problem(404, str(error))
        return JSONResponse({"name": name, "removed": count})

    def _refuse(self, request: Request) -> Response | None:
        """An answer to who may not change the fleet: as if there were nothing here."""
        tenant: Tenant | None = request.scope["tenant"]
        if tenant is not None and tenant.admin:
            return None
        return problem(404, f"There is nothing at {request.url.path}.")

    def _visible(self, tenant: Tenant, after: str = "") -> Iterator[str]:
        """Names that a tenant may see, in their order."""
        found = heapq.merge(*(self._fleet.store.names(prefix) for prefix in tenant.prefixes()))
        return (name for name in found if name > after and tenant.may_use(name))


def card(name: str, parent: str | None = None) -> dict[str, Any]:
    """A model as OpenAI's API lists it."""
    return {"id": name, "object": "model", "created": 0, "owned_by": "fourierft", "parent": parent}


def unzip(body: bytes, folder: Path) -> None:
    """Write the two files of an adapter, wherever in the zip they are; nothing else of it is looked at.

    Raises: CheckpointError, if it is no zip file, or they unpack to too much.
    """
    from fourierft.errors import CheckpointError

    try:
        with zipfile.ZipFile(io.BytesIO(body)) as archive:
            for entry in archive.infolist():
                own = Path(entry.filename).name
                if own not in (CONFIG_FILE, WEIGHTS_FILE):
                    continue
                if entry.file_size > LARGEST_ADAPTER:
                    raise CheckpointError(f"{own} is larger than {LARGEST_ADAPTER:,} bytes")
                (folder / own).write_bytes(archive.read(entry))
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError) as error:
        raise CheckpointError(f"the body is no zip file of a PEFT directory ({error})") from error
