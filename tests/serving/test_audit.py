"""One line of the log a request: who did what, when, and how it ended; never a key, a prompt or an answer."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import REGISTRY
from starlette.testclient import TestClient

from fourierft.serving.tenants import Tenants
from fourierft.store import AdapterStore

from .conftest import KEYS, Serve

Capture = pytest.CaptureFixture[str]


def key(name: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {name}"}


def ask(client: TestClient, model: object, headers: dict[str, str], **more: Any) -> Any:
    body = {"model": model, "prompt": "my secret prompt", **more}
    return client.post("/v1/completions", json=body, headers=headers)


def lines(capsys: Capture) -> list[dict[str, Any]]:
    written = capsys.readouterr().err
    for secret in ("secret prompt", "Bearer", "sk-wrong", "hello", "hel"):
        assert secret not in written
    found = [json.loads(line) for line in written.splitlines() if line.startswith("{")]
    assert all(line["time"].endswith("Z") and "id" in line for line in found)
    return found


def test_a_wrong_key_leaves_a_line_and_is_counted(capsys: Capture, serve: Serve) -> None:
    client = serve(Tenants(KEYS))

    def count() -> float:
        return REGISTRY.get_sample_value("fourierft_requests_total", {"tenant": "", "status": "401"}) or 0.0

    before = count()
    for headers in ({}, key("sk-wrong"), {"Authorization": "Basic sk-wrong"}):
        client.get("/v1/models", headers=headers)
    found = lines(capsys)
    assert [(line["status"], line["tenant"], line["path"]) for line in found] == [(401, None, "/v1/models")] * 3
    assert found[0]["client"] == "testclient"
    assert count() == before + 3


def test_what_the_page_asks_for_again_and_again_leaves_a_line_only_if_it_is_refused(
    capsys: Capture, serve: Serve
) -> None:
    client = serve(Tenants(KEYS))
    assert client.get("/fleet/status", headers=key("acme")).status_code == 200
    assert client.get("/fleet/status").status_code == 401
    assert [line["status"] for line in lines(capsys)] == [401]


def test_what_an_admin_changes_leaves_lines(capsys: Capture, serve: Serve, store: AdapterStore, tmp_path: Path) -> None:
    client = serve(Tenants(KEYS))
    store.export("shared", tmp_path / "out")
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for path in (tmp_path / "out").iterdir():
            archive.write(path, path.name)
    capsys.readouterr()
    client.put("/fleet/adapters/acme/new", content=packed.getvalue(), headers=key("boss"))
    client.put("/fleet/adapters/acme/new", content=b"no zip", headers=key("boss"))
    client.delete("/fleet/adapters/acme/new", headers=key("boss"))
    client.delete("/fleet/adapters/acme/new", headers=key("acme"))
    client.get("/version", headers=key("boss"))
    what = ("method", "path", "tenant", "status", "adapter", "version", "removed")
    assert [tuple(line.get(field) for field in what) for line in lines(capsys)] == [
        ("PUT", "/fleet/adapters/acme/new", "boss", 201, "acme/new", 1, None),
        ("PUT", "/fleet/adapters/acme/new", "boss", 400, "acme/new", None, None),
        ("DELETE", "/fleet/adapters/acme/new", "boss", 200, "acme/new", None, 1),
        ("DELETE", "/fleet/adapters/acme/new", "acme", 404, None, None, None),
        ("GET", "/version", "boss", 200, None, None, None),
    ]


def test_a_completion_leaves_lengths(capsys: Capture, serve: Serve) -> None:
    client = serve(Tenants(KEYS))
    for more in ({}, {"stream": True}, {"fail": True}):
        ask(client, "shared", key("umbrella"), **more)
    ask(client, "nobody", key("umbrella"))
    found = lines(capsys)
    assert [line["status"] for line in found] == [200, 200, 400, 404]
    assert [(line["prompt_tokens"], line["answer_tokens"]) for line in found] == [(5, 7), (5, 7), (0, 0), (0, 0)]
    assert [(line["tenant"], line["adapter"], line["version"]) for line in found[:3]] == [("umbrella", "shared", 1)] * 3
    assert found[1]["first_token_seconds"] > 0
    assert client.get("/health").status_code == 200
    assert not lines(capsys)  # what asks every second whether the server lives is no news


@pytest.mark.parametrize(("how", "status"), [("raise", 500), ("tell", 503)])
def test_a_stream_that_dies_is_no_200(capsys: Capture, serve: Serve, how: str, status: int) -> None:
    client = serve(Tenants(KEYS))
    ask(client, "shared", key("umbrella"), stream=True, die=how)
    request = lines(capsys)[-1]
    assert (request["status"], request["answer_tokens"]) == (status, 2)


@pytest.mark.parametrize(
    ("given", "noted"),
    [
        ("mine-1", "mine-1"),
        ("a\x1b[31m\x9b\x85\xe9b", "a?[31m??????b"),
        ("x" * 5000, "x" * 100 + "..."),
    ],
)
def test_the_id_of_a_request_is_short_and_prints(capsys: Capture, serve: Serve, given: str, noted: str) -> None:
    client = serve(Tenants(KEYS))
    headers = {b"x-request-id": given.encode("latin-1"), b"authorization": b"Bearer umbrella"}
    answer = client.get("/v1/models", headers=headers)
    assert lines(capsys)[0]["id"] == answer.headers["x-request-id"] == noted


def test_a_request_without_an_id_gets_one_of_its_own(capsys: Capture, serve: Serve) -> None:
    client = serve(Tenants(KEYS))
    ids = [ask(client, "shared", key("umbrella")).headers["x-request-id"] for _ in range(2)]
    assert [line["id"] for line in lines(capsys)] == ids
    assert len(set(ids)) == 2


def test_names_and_paths_cannot_forge_a_line(capsys: Capture, serve: Serve) -> None:
    client = serve(Tenants(KEYS))
    client.get("/fleet/%0A%7B%22event%22:%22request%22%7D%1B%5B2J" + "x" * 2000, headers=key("boss"))
    client.put("/fleet/adapters/a%1Bb%C2%9B", content=b"", headers=key("boss"))
    forged, named = lines(capsys)
    assert forged["path"].isprintable()
    assert len(forged["path"]) < 400
    assert named["adapter"] == "a?b?"
