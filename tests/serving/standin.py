"""What stands in for vLLM behind the gate: it answers with what reaches it, and does what its tests ask for."""

from __future__ import annotations

import asyncio
import json
from types import SimpleNamespace
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from fourierft.serving import vllm_internals
from fourierft.serving.gate import Gate, Settings


def stand_in_for_vllm(monkeypatch: Any) -> None:
    """Have the gate do without vLLM's classes."""
    monkeypatch.setattr(vllm_internals, "check_names", lambda names: None)
    monkeypatch.setattr(
        vllm_internals, "make_request", lambda key, name, version: SimpleNamespace(lora_int_id=key, lora_name=name)
    )


async def stays(request: Request) -> bool:
    """Wait until `state.held` is set, or the client left, as vLLM does: whether it stayed."""
    while not request.app.state.held.is_set():
        if await request.is_disconnected():
            return False
        await asyncio.sleep(0.001)
    return True


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
    request.app.state.asked.append(body)
    known = request.app.state.openai_serving_models.lora_requests
    model = body.get("model")
    found = known.get(model)
    usage = {"prompt_tokens": 5, "completion_tokens": 7}
    if body.get("hold") and not await stays(request):
        return Response(status_code=499)
    if body.get("fail") or not isinstance(body.get("stream_options"), dict | None):
        return JSONResponse({"error": {"message": "no"}}, 400)
    if not body.get("stream"):
        seen = {"body": body, "adapter": found and [found.lora_int_id, found.lora_name], "known": list(known)}
        said = {"content": f"hello from {model}"}
        return JSONResponse({**seen, "choices": [{"text": "hello", "message": said}], "usage": usage})

    async def parts() -> Any:
        is_chat = "messages" in body
        for word in body.get("words", ["hello ", f"from {model}"] if is_chat else ["hel", "lo"]) * body.get("times", 1):
            said = {"delta": {"content": word}} if is_chat else {"text": word}
            yield f"data: {json.dumps({'choices': [said]}, separators=(',', ':'))}\n\n"
            await asyncio.sleep(body.get("pause", 0))
        if body.get("die") == "raise":
            raise RuntimeError("the engine is dead")
        if body.get("die") == "tell":
            yield f"data: {json.dumps({'error': {'message': 'the engine is dead', 'code': 503}})}\n\n"
            return
        if (body.get("stream_options") or {}).get("include_usage"):
            yield f"data: {json.dumps({'choices': [], 'usage': usage}, separators=(',', ':'))}\n\n"
        yield "data: [DONE]\n\n"

    return StreamingResponse(parts(), media_type="text/event-stream")


async def plain(request: Request) -> Response:
    return PlainTextResponse("vllm")


def make_app(settings: Settings) -> Starlette:
    """The application, with the gate before it."""
    app = Starlette(
        routes=[
            Route("/v1/chat/completions", complete, methods=["POST"]),
            Route("/v1/completions", complete, methods=["POST"]),
            *(Route(path, plain) for path in ("/health", "/metrics", "/version")),
        ]
    )
    app.state.engine_client, app.state.asked = Engine(), []
    base = SimpleNamespace(name="base")
    app.state.openai_serving_models = SimpleNamespace(base_model_paths=[base], lora_requests={})
    app.add_middleware(Gate, settings=settings)
    return app
