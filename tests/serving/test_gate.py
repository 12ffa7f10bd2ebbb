"""The gate before a server that answers with what reaches it; `tests/serving/vllm` has it before vLLM."""

from __future__ import annotations

import hashlib
import io
import json
import logging
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from fourierft.adapters.store import Adapter, AdapterStore
from fourierft.serving import gate, seam
from fourierft.serving.gate import Gate, Settings
from fourierft.serving.tenants import Tenant, Tenants

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


async def complete(request: Request) -> Response:
    """What vLLM would be asked."""
    body = await request.json()
    known = request.app.state.openai_serving_models.lora_requests
    model = body.get("model")
    found = known.get(model)
    usage = {"prompt_tokens": 5, "completion_tokens": 7}
    if body.get("fail") or not isinstance(body.get("stream_options"), dict | None):
        return JSONResponse({"error": {"message": "no"}}, 400)
    if not body.get("stream"):
        seen = {"body": body, "adapter": found and [found.lora_int_id, found.lora_name], "known": list(known)}
        return JSONResponse({**seen, "choices": [{"text": "hello"}], "usage": usage})

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


def key(name: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {name}"}


def ask(client: TestClient, model: object, who: str | None = None, **more: Any) -> Any:
    body = {"model": model, "prompt": "my secret prompt", **more}
    return client.post("/v1/completions", json=body, headers=key(who) if who else {})


def test_each_request_reaches_the_server_with_its_adapter_and_no_other(serve: Serve, store: AdapterStore) -> None:
    client = serve(Tenants())
    for name in ("acme/one", "shared"):
        content = ask(client, name).json()
        assert content["adapter"] == [store.tables.latest(name)[0], name]
        assert content["known"] == [name]
    for base in ("base", None):
        content = ask(client, base).json()
        assert (content["adapter"], content["known"]) == (None, [])


def test_a_new_version_answers_the_next_request(serve: Serve, store: AdapterStore) -> None:
    client = serve(Tenants())
    before = ask(client, "shared").json()["adapter"][0]
    old = store.get("shared")
    store.put("shared", old.layout, old.values)
    after = ask(client, "shared").json()["adapter"][0]
    assert after == store.tables.latest("shared")[0] != before


def test_without_a_key_or_with_a_wrong_one_nothing_is_told(client: TestClient) -> None:
    for headers in ({}, key("wrong"), {"Authorization": "Basic acme"}):
        for method, path in (("GET", "/v1/models"), ("POST", "/v1/completions"), ("GET", "/metrics"), ("GET", "/x")):
            answer = client.request(method, path, headers=headers)
            assert answer.status_code == 401
            assert answer.json()["error"]["type"] == "authentication_error"
    assert client.get("/health").text == "vllm"
    assert "fourierft serve" in client.get("/").text


def test_a_foreign_adapter_is_as_if_it_were_not_there(client: TestClient) -> None:
    foreign, none = ask(client, "umbrella/secret", "acme"), ask(client, "umbrella/nothing", "acme")
    assert foreign.status_code == none.status_code == 404
    assert foreign.text.replace("secret", "nothing") == none.text
    assert ask(client, "umbrella/secret", "umbrella").status_code == 200
    assert ask(client, "base", "umbrella").status_code == 404
    assert ask(client, None, "umbrella").status_code == 404
    for path in ("/v1/models/umbrella/secret", "/v1/models/umbrella/nothing"):
        assert client.get(path, headers=key("acme")).status_code == 404
    assert client.get("/v1/models/umbrella/secret", headers=key("umbrella")).json()["id"] == "umbrella/secret"


def test_models_are_those_that_a_tenant_may_use_page_by_page(client: TestClient) -> None:
    def names(who: str, query: str = "") -> list[str]:
        return [model["id"] for model in client.get(f"/v1/models{query}", headers=key(who)).json()["data"]]

    assert names("acme") == ["base", "acme/one", "acme/two", "shared"]
    assert names("umbrella") == ["shared", "umbrella/secret"]
    assert names("boss") == ["base", *sorted(NAMES)]
    assert names("boss", "?limit=2") == ["base", *sorted(NAMES)[:2]]
    assert names("boss", "?limit=2&after=acme/two") == sorted(NAMES)[2:4]
    assert client.get("/v1/models?limit=x", headers=key("acme")).status_code == 400


def test_what_is_for_an_admin_is_not_there_for_others(client: TestClient) -> None:
    for method, path in (
        ("GET", "/metrics"),
        ("GET", "/version"),
        ("GET", "/fleet/adapters"),
        ("PUT", "/fleet/adapters/new"),
        ("DELETE", "/fleet/adapters/shared"),
    ):
        assert client.request(method, path, headers=key("acme")).status_code == 404
    assert client.get("/metrics", headers=key("boss")).text == "vllm"
    status = client.get("/fleet/status", headers=key("acme")).json()
    assert status["adapters"] == 3
    assert "recent" not in status


def test_everybody_may_ask_and_nobody_change_the_fleet_without_tenants(serve: Serve) -> None:
    client = serve(Tenants())
    assert client.get("/version").text == "vllm"
    assert client.delete("/fleet/adapters/shared").status_code == 404
    ask(client, "shared")
    status = client.get("/fleet/status").json()
    assert (status["adapters"], status["resident"], status["recent"]) == (5, 3, [["shared", 1]])
    assert status["tokens_per_second"] > 0


def test_an_admin_adds_lists_and_removes(client: TestClient, store: AdapterStore, tmp_path: Path) -> None:
    store.export("shared", tmp_path / "out")
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for path in (tmp_path / "out").iterdir():
            archive.write(path, f"folder/{path.name}")
    answer = client.put("/fleet/adapters/acme/new", content=packed.getvalue(), headers=key("boss"))
    assert (answer.status_code, answer.json()) == (201, {"name": "acme/new", "version": 1})
    assert (store.get("acme/new").values == store.get("shared").values).all()
    listed = client.get("/fleet/adapters?prefix=acme", headers=key("boss")).json()["adapters"]
    assert [each["name"] for each in listed] == ["acme/new", "acme/one", "acme/two"]
    assert ask(client, "acme/new", "acme").status_code == 200
    assert client.delete("/fleet/adapters/acme/new", headers=key("boss")).json()["removed"] == 1
    assert ask(client, "acme/new", "acme").status_code == 404
    assert client.delete("/fleet/adapters/acme/new", headers=key("boss")).status_code == 404


@pytest.mark.parametrize("content", [b"", b"no zip", b"PK\x05\x06" + bytes(18)])
def test_what_is_no_adapter_is_not_added(client: TestClient, store: AdapterStore, content: bytes) -> None:
    answer = client.put("/fleet/adapters/new", content=content, headers=key("boss"))
    assert answer.status_code == 400
    assert "new" not in store


@pytest.mark.parametrize(
    ("content", "status", "message"),
    [
        (b'{"model": "shared"', 400, "The request is no JSON"),
        (b"[" * 100_000, 400, "The request is no JSON"),
        (b"\xff\xfe", 400, "The request is no JSON"),
        (b"[]", 400, "The request is a JSON list; send an object"),
        (b'{"model": 5}', 404, "The model `5` does not exist"),
        (b'{"model": ["shared"]}', 404, "does not exist"),
        (b'{"model": "nobody"}', 404, "The model `nobody` does not exist"),
        (b'{"prompt": "' + bytes(gate.LARGEST_BODY) + b'"}', 413, "longer than 8,388,608 bytes"),
    ],
)
def test_what_makes_no_sense_is_answered_as_openai_words_it(
    serve: Serve, content: bytes, status: int, message: str
) -> None:
    answer = serve(Tenants()).post("/v1/completions", content=content)
    assert answer.status_code == status
    assert message in answer.json()["error"]["message"]
    assert set(answer.json()["error"]) == {"message", "type", "param", "code"}


def test_an_adapter_that_cannot_be_read_is_an_error_of_the_server(serve: Serve) -> None:
    client = serve(Tenants())
    answer = ask(client, "broken")
    assert answer.status_code == 500
    assert answer.json()["error"]["message"].endswith("adapter 'broken' version 1 is damaged")
    assert ask(client, "shared").status_code == 200


def test_too_many_requests_are_told_when_to_come_again(client: TestClient) -> None:
    statuses = [ask(client, "shared", "acme").status_code for _ in range(31)]
    assert statuses == [200] * 30 + [429]
    assert int(ask(client, "shared", "acme").headers["retry-after"]) >= 1
    assert ask(client, "shared", "umbrella").status_code == 200


def test_prefixes_of_tenants_are_kept_apart_in_the_cache(client: TestClient, serve: Serve) -> None:
    salts = [ask(client, "shared", who, cache_salt="acme").json()["body"]["cache_salt"] for who in ("acme", "umbrella")]
    assert len({*salts, "acme"}) == 3
    assert ask(serve(Tenants()), "shared", cache_salt="mine").json()["body"]["cache_salt"] == "mine"


def test_a_stream_arrives_as_it_was_asked_for_and_is_counted_all_the_same(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    client = serve(Tenants())
    silent = ask(client, "shared", stream=True).text
    counted = ask(client, "shared", stream=True, stream_options={"include_usage": True}).text
    assert silent.count("data:") == 3
    assert "usage" not in silent
    assert counted.count("data:") == 4
    assert '"completion_tokens":7' in counted
    assert ask(client, "shared", stream=True, stream_options=5).status_code == 400  # said by the server itself


def test_a_line_of_the_log_has_lengths_and_no_text(serve: Serve, capsys: pytest.CaptureFixture[str]) -> None:
    client = serve(Tenants())
    for more in ({}, {"stream": True}, {"fail": True}):
        ask(client, "shared", **more)
    ask(client, "nobody")
    written = capsys.readouterr().err
    lines = [json.loads(line) for line in written.splitlines() if line.startswith("{")]
    assert [line["status"] for line in lines] == [200, 200, 400, 404]
    assert [line["answer_tokens"] for line in lines] == [7, 7, 0, 0]
    assert [(line["tenant"], line["adapter"], line["version"]) for line in lines[:3]] == [
        ("everybody", "shared", 1)
    ] * 3
    assert lines[1]["first_token_seconds"] is not None
    assert "secret prompt" not in written
    assert "hello" not in written


def test_metrics_count_by_tenant(client: TestClient) -> None:
    from prometheus_client import REGISTRY

    def count(name: str, **labels: str) -> float:
        return REGISTRY.get_sample_value(name, labels) or 0.0

    before = count("fourierft_tokens_total", tenant="umbrella", kind="answer")
    ask(client, "shared", "umbrella")
    ask(client, "acme/one", "umbrella")
    client.get("/metrics", headers=key("boss"))
    assert count("fourierft_tokens_total", tenant="umbrella", kind="answer") == before + 7
    assert count("fourierft_requests_total", tenant="umbrella", status="404") >= 1
    assert count("fourierft_adapters_resident") == 3
    assert count("fourierft_adapter_evictions") == 2


def test_the_environment_says_what_is_served(
    store: AdapterStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(gate.STORE, str(store.tables))
    monkeypatch.setenv(gate.REQUESTS, "7")
    assert Settings.from_environment().tenants.find(None).tenant.running == 7
    (tmp_path / "t.toml").write_text(f'[tenants.a]\nkey_sha256 = "{hashlib.sha256(b"k").hexdigest()}"\n')
    monkeypatch.setenv(gate.TENANTS, str(tmp_path / "t.toml"))
    assert not Settings.from_environment().tenants.are_open
    assert logging.getLogger("fourierft.requests") is not None
