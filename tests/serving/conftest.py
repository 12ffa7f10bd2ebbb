"""Adapters in stores, made from seeds, for tests that need no vLLM; and the gate before what stands in for vLLM."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from fourierft.adapters.store import Adapter, AdapterStore, Layout
from fourierft.serving import seam
from fourierft.serving.gate import Gate, Settings
from fourierft.serving.tenants import Tenant, Tenants

CHROMIUM = shutil.which("chromium")  # as Debian's package calls it
collect_ignore = [] if CHROMIUM else ["test_page.py"]
SHAPES = {"q_proj": (24, 16), "down_proj": (16, 40)}
TENANTS = {
    "acme": Tenant("acme", ("acme/*", "shared"), requests_per_minute=30),
    "umbrella": Tenant("umbrella", ("umbrella/*", "shared"), base=False),
    "boss": Tenant("boss", ("*",), admin=True),
}
NAMES = ("acme/one", "acme/two", "shared", "umbrella/secret", "broken")


class Engine:
    """Has every adapter but the one that is broken."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []

    async def collective_rpc(self, method: str, args: tuple[Any, ...] = ()) -> list[Any]:
        self.calls.append((method, *args))
        if method == "fleet_counts":
            return [{"resident": 3, "slots": 4, "loads": 7, "evictions": 2, "bytes": 100}]
        return ["adapter 'broken' version 1 is damaged" if "broken" in args else None]

    def shutdown(self, timeout: float | None = None) -> None:
        self.calls.append(("shutdown", timeout))


async def complete(request: Request) -> Response:
    """What vLLM would be asked."""
    body = await request.json()
    known = request.app.state.openai_serving_models.lora_requests
    model = body.get("model")
    found = known.get(model)
    usage = {"prompt_tokens": 5, "completion_tokens": 7}
    if body.get("hold"):
        await run_in_threadpool(request.app.state.held.wait)
    if body.get("fail") or not isinstance(body.get("stream_options"), dict | None):
        return JSONResponse({"error": {"message": "no"}}, 400)
    if not body.get("stream"):
        seen = {"body": body, "adapter": found and [found.lora_int_id, found.lora_name], "known": list(known)}
        said = {"content": f"hello from {model}"}
        return JSONResponse({**seen, "choices": [{"text": "hello", "message": said}], "usage": usage})

    async def parts() -> Any:
        for word in ("hel", "lo"):
            yield f"data: {json.dumps({'choices': [{'text': word}]}, separators=(',', ':'))}\n\n"
        if (body.get("stream_options") or {}).get("include_usage"):
            yield f"data: {json.dumps({'choices': [], 'usage': usage}, separators=(',', ':'))}\n\n"
        yield "data: [DONE]\n\n"

    return StreamingResponse(parts(), media_type="text/event-stream")


async def plain(request: Request) -> Response:
    return PlainTextResponse("vllm")


Serve = Callable[[Tenants], TestClient]


@pytest.fixture
def make_adapter() -> Callable[..., Adapter]:
    """An adapter of two layers, its numbers drawn from its key."""

    def make(key: int, n_frequency: int = 12, random_loc_seed: int = 777, scaling: float = 60.0) -> Adapter:
        config = {
            "peft_type": "FOURIERFT",
            "base_model_name_or_path": "base",
            "n_frequency": n_frequency,
            "random_loc_seed": random_loc_seed,
            "scaling": scaling,
            "target_modules": sorted(SHAPES),
        }
        layout = Layout.make(config, SHAPES)
        values = torch.randn(layout.total, generator=torch.Generator().manual_seed(key))
        return Adapter(f"adapter-{key}", 1, layout, values, "float32")

    return make


@pytest.fixture
def store(tmp_path: Path, make_adapter: Callable[..., Adapter]) -> AdapterStore:
    store = AdapterStore(tmp_path / "fleet.db")
    for k, name in enumerate(NAMES):
        store.put(name, make_adapter(k).layout, make_adapter(k).values)
    return store


@pytest.fixture
def serve(store: AdapterStore, monkeypatch: pytest.MonkeyPatch) -> Iterator[Serve]:
    """A client of a gate for these tenants."""
    monkeypatch.setattr(seam, "check_names", lambda names: None)
    monkeypatch.setattr(
        seam, "make_request", lambda key, name, version: SimpleNamespace(lora_int_id=key, lora_name=name)
    )
    open_clients: list[TestClient] = []

    def serve(tenants: Tenants) -> TestClient:
        app = Starlette(
            routes=[
                Route("/v1/chat/completions", complete, methods=["POST"]),
                Route("/v1/completions", complete, methods=["POST"]),
                *(Route(path, plain) for path in ("/health", "/metrics", "/version")),
            ]
        )
        app.state.engine_client = Engine()
        base = SimpleNamespace(name="base")
        app.state.openai_serving_models = SimpleNamespace(base_model_paths=[base], lora_requests={})
        app.add_middleware(Gate, settings=Settings(str(store.tables), tenants))
        client = TestClient(app)
        client.__enter__()
        open_clients.append(client)
        return client

    yield serve
    for client in open_clients:
        client.__exit__(None, None, None)


@pytest.fixture
def client(serve: Serve) -> TestClient:
    return serve(Tenants({hashlib.sha256(key.encode()).hexdigest(): tenant for key, tenant in TENANTS.items()}))
