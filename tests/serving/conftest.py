"""Adapters in stores, made from seeds, for tests that need no vLLM; and the gate before what stands in for vLLM."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from starlette.testclient import TestClient

from fourierft.serving.gate import Settings
from fourierft.serving.tenant import Tenant
from fourierft.serving.tenants import Tenants
from fourierft.store import Adapter, AdapterStore, Layout

from .standin import make_app, stand_in_for_vllm

CHROMIUM = shutil.which("chromium")  # as Debian's package calls it
NGINX = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
collect_ignore = [name for name, there in (("test_page.py", CHROMIUM), ("test_nginx.py", NGINX)) if not there]
SHAPES = {"q_proj": (24, 16), "down_proj": (16, 40)}
TENANTS = {
    "acme": Tenant("acme", ("acme/*", "shared"), requests_per_minute=30),
    "umbrella": Tenant("umbrella", ("umbrella/*", "shared"), base=False),
    "boss": Tenant("boss", ("*",), admin=True),
}
KEYS = {hashlib.sha256(key.encode()).hexdigest(): tenant for key, tenant in TENANTS.items()}
NAMES = ("acme/one", "acme/two", "shared", "umbrella/secret", "broken")


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
    stand_in_for_vllm(monkeypatch)
    open_clients: list[TestClient] = []

    def serve(tenants: Tenants) -> TestClient:
        client = TestClient(make_app(Settings(str(store), tenants)))
        client.__enter__()
        open_clients.append(client)
        return client

    yield serve
    for client in open_clients:
        client.__exit__(None, None, None)


@pytest.fixture
def client(serve: Serve) -> TestClient:
    return serve(Tenants(KEYS))
