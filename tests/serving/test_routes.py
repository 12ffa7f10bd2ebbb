"""What the server answers beside completions, to whom."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from fourierft.serving.tenants import Tenants
from fourierft.store import AdapterStore

NAMES = ["acme/one", "acme/two", "broken", "shared", "umbrella/secret"]
Serve = Callable[[Tenants], TestClient]


def key(name: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {name}"}


def ask(client: TestClient, model: object, who: str | None = None, **more: Any) -> Any:
    body = {"model": model, "prompt": "my secret prompt", **more}
    return client.post("/v1/completions", json=body, headers=key(who) if who else {})


def test_models_are_those_that_a_tenant_may_use_page_by_page(client: TestClient) -> None:
    def names(who: str, query: str = "") -> list[str]:
        return [model["id"] for model in client.get(f"/v1/models{query}", headers=key(who)).json()["data"]]

    assert names("acme") == ["base", "acme/one", "acme/two", "shared"]
    assert names("umbrella") == ["shared", "umbrella/secret"]
    assert names("boss") == ["base", *NAMES]
    assert names("boss", "?limit=2") == ["base", *NAMES[:2]]
    assert names("boss", "?limit=2&after=acme/two") == NAMES[2:4]
    assert names("boss", "?limit=1&after=shared") == NAMES[4:]
    assert names("boss", f"?after={NAMES[4]}") == []
    adapters = client.get("/fleet/adapters?limit=2&after=acme/two", headers=key("boss")).json()
    assert ([each["name"] for each in adapters["adapters"]], adapters["has_more"]) == (NAMES[2:4], True)


@pytest.mark.parametrize("path", ["/v1/models", "/fleet/adapters"])
@pytest.mark.parametrize(
    "query",
    [
        *(f"limit={limit}" for limit in ("x", "%C2%B2", "7" * 5000, "0", "-1", "1001", "1.5", "", "%00", "1e999")),
        *(f"{field}=%00" for field in ("after", "limit")),
        "after=" + "x" * 501,
    ],
)
def test_a_query_that_makes_no_sense_is_a_sentence(client: TestClient, path: str, query: str) -> None:
    answer = client.get(f"{path}?{query}", headers=key("boss"))
    assert answer.status_code == 400
    field = query.partition("=")[0]
    assert answer.json()["error"]["message"].startswith(f"`{field}` in the query is invalid: ")


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        *(("POST", path, 405) for path in ("/", "/v1/models", "/fleet/status", "/fleet/adapters/shared")),
        *((method, "/fleet/status", 405) for method in ("TRACE", "PATCH", "OPTIONS", "BREW")),
        *(
            ("GET", path, 404)
            for path in ("/fleet/", "/fleet/nothing", "/fleet/status/", "/v1/models/", "/fleet/a%0Ab")
        ),
        *(("GET", f"/v1/models/{name}", 404) for name in ("%00", "%FF", "%ED%A0%80", "x" * 501, "a%0D%0Ab")),
        *(("PUT", f"/fleet/adapters/{name}", 400) for name in ("", "%00", "x" * 501)),
        ("DELETE", "/fleet/adapters/%00", 400),
        ("DELETE", "/fleet/adapters/base", 404),
        ("PUT", "/fleet/adapters/base", 409),
        ("POST", "/v1/load_lora_adapter", 404),
        ("POST", "/v1/unload_lora_adapter", 404),
    ],
)
def test_what_is_not_there_is_told_in_one_sentence(client: TestClient, method: str, path: str, status: int) -> None:
    answer = client.request(method, path, headers=key("boss"), follow_redirects=False)
    assert answer.status_code == status
    error = answer.json()["error"]
    assert (error["code"], error["message"][-1]) == (status, ".")
    assert error["message"].isprintable()


def test_who_has_no_key_learns_nothing_but_that_the_page_is_no_place_to_send_to(client: TestClient) -> None:
    assert client.post("/").status_code == 405
    for path in ("/fleet/nothing", "/v1/models", "/fleet/status"):
        assert client.request("TRACE", path).status_code == 401


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


def test_an_admin_removes_one_version_unless_an_alias_is_it(client: TestClient, store: AdapterStore) -> None:
    old = store.get("shared")
    for _ in range(2):
        store.put("shared", old.layout, old.values)
    store.set_alias("shared", "live", 2)

    def remove(reference: str) -> Any:
        return client.delete(f"/fleet/adapters/{reference}", headers=key("boss"))

    assert remove("shared@1").json() == {"name": "shared", "version": 1, "removed": 1}
    assert [remove(reference).status_code for reference in ("shared@1", "shared@2", "shared@live", "shared@9")] == [
        404,
        409,
        409,
        404,
    ]
    assert store.versions("shared") == [2, 3]
    assert remove("shared").json()["removed"] == 2
    assert "shared" not in store


@pytest.mark.parametrize("content", [b"", b"no zip", b"PK\x05\x06" + bytes(18)])
def test_what_is_no_adapter_is_not_added(client: TestClient, store: AdapterStore, content: bytes) -> None:
    answer = client.put("/fleet/adapters/new", content=content, headers=key("boss"))
    assert answer.status_code == 400
    assert "new" not in store


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
