"""The gate before a server that answers with what reaches it; `tests/serving/vllm` has it before vLLM."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import io
import json
import os
import threading
import time
import zipfile
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from fourierft.errors import StoreError, UnavailableError
from fourierft.serving import completions, gate, launch, uploads
from fourierft.serving.gate import Settings
from fourierft.serving.launch import ServeSettings
from fourierft.serving.limits import Limits
from fourierft.serving.tenant import Tenant
from fourierft.serving.tenants import Tenants
from fourierft.store import AdapterStore

from .conftest import KEYS

Serve = Callable[[Tenants], TestClient]


def key(name: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {name}"}


def state_of(client: TestClient) -> Any:
    """What the server's application keeps."""
    app: Any = client.app
    return app.state


def ask(client: TestClient, model: object, who: str | None = None, **more: Any) -> Any:
    body = {"model": model, "prompt": "my secret prompt", **more}
    return client.post("/v1/completions", json=body, headers=key(who) if who else {})


def test_each_request_reaches_the_server_with_its_adapter_and_no_other(serve: Serve, store: AdapterStore) -> None:
    client = serve(Tenants())
    for name in ("acme/one", "shared"):
        content = ask(client, name).json()
        assert content["adapter"] == [store._tables.latest(name)[0], name]
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
    assert after == store._tables.latest("shared")[0] != before


def test_a_version_or_an_alias_answers_by_its_name(client: TestClient, store: AdapterStore) -> None:
    old = store.get("acme/one")
    keys = {n: store._tables.id_of("acme/one", store.put("acme/one", old.layout, old.values)) for n in (2, 3)}
    store.set_alias("acme/one", "live", 2)
    for reference, number in (("acme/one", 3), ("acme/one@2", 2), ("acme/one@live", 2)):
        answer = ask(client, reference, "acme")
        assert answer.json()["adapter"] == [keys[number], "acme/one"]
        assert answer.json()["body"]["model"] == "acme/one"
        assert answer.headers["x-adapter"] == f"acme/one@{number}"
    store.set_alias("acme/one", "live", 3)
    assert ask(client, "acme/one@live", "acme").headers["x-adapter"] == "acme/one@3"
    for reference in ("acme/one@4", "acme/one@dead", "umbrella/secret@1", "base@1"):
        answer = ask(client, reference, "acme")
        assert (answer.status_code, answer.json()["error"]["message"]) == (
            404,
            f"The model `{reference}` does not exist.",
        )
    assert client.get("/v1/models/acme/one@live", headers=key("acme")).json()["version"] == 3


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


@pytest.mark.parametrize(
    ("content", "status", "message"),
    [
        (b'{"model": "shared"', 400, "The request is not valid JSON"),
        (b"[" * 100_000, 400, "The request is not valid JSON"),
        (b"\xff\xfe", 400, "The request is not valid JSON"),
        (b"[]", 400, "The request is a JSON list; send an object"),
        (b'{"model": 5}', 400, "The field `model` is invalid: Input should be a valid string"),
        (b'{"model": ["shared"]}', 400, "The field `model` is invalid"),
        (b'{"model": "nobody"}', 404, "The model `nobody` does not exist"),
        (b'{"prompt": "' + bytes(Limits().body) + b'"}', 413, "longer than 8,388,608 bytes"),
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


def test_too_many_requests_are_told_when_to_come_again(serve: Serve) -> None:
    tenants, now = Tenants(KEYS), [0.0]
    for turns in tenants.all():
        turns.clock, turns._filled = lambda: now[0], 0.0
    client = serve(tenants)
    statuses = [ask(client, "shared", "acme").status_code for _ in range(31)]
    assert statuses == [*[200] * 30, 429]  # 30 at once, and another every two seconds
    now[0] = 1.5
    assert ask(client, "shared", "acme").headers["retry-after"] == "1"
    now[0] = 2.0
    assert [ask(client, "shared", "acme").status_code for _ in range(2)] == [200, 429]
    assert ask(client, "shared", "umbrella").status_code == 200


def test_while_the_server_stops_everybody_is_told_to_come_again(client: TestClient) -> None:
    engine = state_of(client).engine_client
    engine.shutdown(timeout=30)
    assert engine.calls[-1] == ("shutdown", 30)
    for answer in (ask(client, "shared", "acme"), client.get("/v1/models", headers=key("acme")), client.get("/health")):
        assert answer.status_code == 503
        assert int(answer.headers["retry-after"]) == 5
        assert answer.json()["error"]["type"] == "server_error"
        assert "is stopping" in answer.json()["error"]["message"]


def test_who_waits_for_a_turn_when_the_server_stops_is_told_so(serve: Serve) -> None:
    one_at_a_time = Tenants(everybody=Tenant("everybody", ("*",), running=1))
    client = serve(one_at_a_time)
    state_of(client).held = threading.Event()
    with ThreadPoolExecutor() as pool:
        begun = pool.submit(ask, client, "shared", hold=True)
        while one_at_a_time.all()[0].running == 0:
            time.sleep(0.001)
        waiting = pool.submit(ask, client, "acme/one")
        while one_at_a_time.all()[0].waiting == 0:
            time.sleep(0.001)
        state_of(client).engine_client.shutdown()
        state_of(client).held.set()
        assert begun.result().status_code == 200
        assert waiting.result().status_code == 503


def test_prefixes_of_tenants_are_kept_apart_in_the_cache(client: TestClient, serve: Serve) -> None:
    salts = [ask(client, "shared", who, cache_salt="acme").json()["body"]["cache_salt"] for who in ("acme", "umbrella")]
    assert len({*salts, "acme"}) == 3
    assert ask(serve(Tenants()), "shared", cache_salt="mine").json()["body"]["cache_salt"] == "mine"


def test_a_stream_arrives_as_it_was_asked_for(serve: Serve) -> None:
    client = serve(Tenants())
    silent = ask(client, "shared", stream=True).text
    counted = ask(client, "shared", stream=True, stream_options={"include_usage": True}).text
    assert silent.count("data:") == 3
    assert "usage" not in silent
    assert counted.count("data:") == 4
    assert '"completion_tokens":7' in counted


def test_an_adapter_that_is_replaced_between_find_and_hold_is_looked_for_again(
    serve: Serve, store: AdapterStore
) -> None:
    client = serve(Tenants())
    adapter, engine = store.get("shared"), state_of(client).engine_client
    inner, replaced = engine.collective_rpc, 0

    async def replace_first(method: str, args: tuple[Any, ...] = ()) -> list[Any]:
        nonlocal replaced
        if method == "fleet_hold" and replaced < 3:
            replaced += 1
            store.put("shared", adapter.layout, adapter.values)
            store.remove("shared", args[2])
            return [f"'shared' has no version {args[2]}; there are {args[2] + 1}"]
        return list(await inner(method, args))

    engine.collective_rpc = replace_first
    assert ask(client, "shared").json()["adapter"][0] == store._tables.latest("shared")[0]
    assert replaced == 3
    replaced = 2
    store.put("acme/one", adapter.layout, adapter.values)

    async def remove_first(method: str, args: tuple[Any, ...] = ()) -> list[Any]:
        if method == "fleet_hold":
            store.remove("acme/one")
            return ["there is no adapter 'acme/one'"]
        return list(await inner(method, args))

    engine.collective_rpc = remove_first
    assert ask(client, "acme/one").status_code == 404


def test_who_asks_for_what_is_replaced_again_and_again_is_told_to_come_again(serve: Serve, store: AdapterStore) -> None:
    client = serve(Tenants())
    adapter, asked = store.get("shared"), []

    async def replace(method: str, args: tuple[Any, ...] = ()) -> list[Any]:
        if method == "fleet_hold":
            asked.append(args[2])
            store.put("shared", adapter.layout, adapter.values)
            store.remove("shared", args[2])
        return [f"'shared' has no version {args[-1]}"]

    state_of(client).engine_client.collective_rpc = replace
    answer = ask(client, "shared")
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
    assert answer.json()["error"]["message"].endswith("is being replaced; ask again.")
    assert asked == list(range(1, completions._LOOKS + 1))


def test_while_an_adapter_is_replaced_all_the_time_every_request_is_answered(
    serve: Serve, store: AdapterStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(completions, "_LOOKS", 1000)  # a slow machine may replace it more than ten times in between
    client = serve(Tenants())
    adapter, engine = store.get("shared"), state_of(client).engine_client

    async def read(method: str, args: tuple[Any, ...] = ()) -> list[Any]:
        if method != "fleet_hold":
            return [None]
        try:
            await asyncio.to_thread(store.get, args[1], args[2])  # as an engine does
        except StoreError as error:
            return [str(error)]
        return [None]

    engine.collective_rpc = read
    stop = threading.Event()

    def replace() -> None:
        while not stop.is_set():
            store.remove("shared", store.put("shared", adapter.layout, adapter.values) - 1)

    with ThreadPoolExecutor(9) as pool:
        replacing = pool.submit(replace)
        statuses = Counter(pool.map(lambda _: ask(client, "shared").status_code, range(200)))
        stop.set()
        replacing.result()
    assert statuses == {200: 200}


def test_the_environment_says_what_is_served(
    store: AdapterStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(gate.STORE, str(store))
    monkeypatch.setenv(gate.REQUESTS, "7")
    assert Settings.from_environment().tenants.find([]).tenant.running == 7
    (tmp_path / "t.toml").write_text(f'[tenants.a]\nkey_sha256 = "{hashlib.sha256(b"k").hexdigest()}"\n')
    monkeypatch.setenv(gate.TENANTS, str(tmp_path / "t.toml"))
    assert not Settings.from_environment().tenants.are_open


@pytest.mark.parametrize("how", ["is locked", "is gone"])
def test_a_store_out_of_reach_is_told_to_come_again_and_why_to_admins_alone(
    serve: Serve, store: AdapterStore, how: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    digests = {name: hashlib.sha256(name.encode()).hexdigest() for name in ("acme", "boss")}
    acme, boss = Tenant("acme", ("*",)), Tenant("boss", ("*",), admin=True)
    client = serve(Tenants({digests["acme"]: acme, digests["boss"]: boss}))

    def fail(*arguments: Any, **options: Any) -> Any:
        raise (UnavailableError if how == "is locked" else StoreError)(f"/secret/fleet.db {how}")

    for name in ("resolve", "names"):
        monkeypatch.setattr(AdapterStore, name, fail)
    status = 503 if how == "is locked" else 500
    for path in ("/v1/models", "/v1/models/shared"):
        answer = client.get(path, headers=key("acme"))
        assert answer.status_code == status
        assert answer.headers.get("Retry-After") == ("5" if status == 503 else None)
        said = f"The adapters cannot be served; the server's log says why under {answer.headers['X-Request-Id']}."
        assert answer.json()["error"]["message"] == said
        assert client.get(path, headers=key("boss")).json()["error"]["message"].endswith(f"/secret/fleet.db {how}")
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines() if line.startswith("{")]
    assert [line["error"] for line in lines] == [f"/secret/fleet.db {how}"] * 4
    assert {line["event"] for line in lines} == {"request"}


def test_a_full_disk_or_a_busy_store_is_no_fault_of_what_is_added(
    serve: Serve, store: AdapterStore, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    client = serve(Tenants({hashlib.sha256(b"boss").hexdigest(): Tenant("boss", ("*",), admin=True)}))
    store.export("shared", tmp_path / "out")
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for file in (tmp_path / "out").iterdir():
            archive.write(file, file.name)

    def fail(*arguments: Any) -> Any:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as full:
        full.setattr(uploads.shutil, "copyfileobj", fail)
        answer = client.put("/fleet/adapters/new", content=packed.getvalue(), headers=key("boss"))
    assert answer.status_code == 503
    assert "no space is left on the disk" in answer.json()["error"]["message"]

    def wait(*arguments: Any) -> Any:
        raise UnavailableError("another process is writing")

    monkeypatch.setattr(AdapterStore, "add", wait)
    monkeypatch.setattr(AdapterStore, "remove", wait)
    assert client.put("/fleet/adapters/new", content=packed.getvalue(), headers=key("boss")).status_code == 503
    assert client.delete("/fleet/adapters/shared", headers=key("boss")).status_code == 503


def test_limits_and_places_come_with_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = ServeSettings("base", str(tmp_path / "f.db"), requests=3, waiting=2, limits=Limits(body=7, turn=0.5))
    for name in [name for name in os.environ if name.startswith("FOURIERFT_")]:
        monkeypatch.delenv(name)
    for name, value in launch.environment(settings).items():
        monkeypatch.setenv(name, value)
    read = Settings.from_environment()
    assert read.limits == Limits(body=7, turn=0.5)
    everybody = read.tenants.all()[0].tenant
    assert (everybody.running, everybody.waiting) == (3, 2)
    monkeypatch.delenv("FOURIERFT_LIMITS")
    assert Settings.from_environment().limits == Limits()
