from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest

from fourierft.errors import ConfigError, StoreError
from fourierft.serving import launch, vllm_internals
from fourierft.serving.launch import ServeSettings
from fourierft.store import Adapter, AdapterStore


@pytest.fixture
def settings(
    tmp_path: Path, make_adapter: Callable[..., Adapter], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., ServeSettings]:
    monkeypatch.setattr(vllm_internals, "vllm_version", lambda: "0.33.0")
    with AdapterStore(tmp_path / "fleet.db") as store:
        store.put("a", make_adapter(1).layout, make_adapter(1).values)
    return lambda **given: ServeSettings(**{"model": "base", "store": str(tmp_path / "fleet.db"), **given})


def test_it_says_what_it_serves_and_to_whom(settings: Callable[..., ServeSettings], tmp_path: Path) -> None:
    told = launch.check(settings())
    assert told.startswith(
        "1 adapters of base on vLLM 0.33.0, 256 of them at a time, at http://127.0.0.1:8000, to ever"
    )
    assert "without a key" in told
    (tmp_path / "t.toml").write_text(f'[tenants.a]\nkey_sha256 = "{hashlib.sha256(b"k").hexdigest()}"\n')
    told = launch.check(settings(tenants=str(tmp_path / "t.toml"), host="0.0.0.0"))
    assert told.endswith(f"to the 1 tenant of {tmp_path / 't.toml'}")


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.2", "::", "example.org"])
def test_without_tenants_only_this_machine_is_served(settings: Callable[..., ServeSettings], host: str) -> None:
    with pytest.raises(ConfigError, match=f"--host {host} would open the server to everyone"):
        launch.check(settings(host=host))


def test_this_machine_has_several_names() -> None:
    assert all(map(launch.is_loopback, ("127.0.0.1", "127.1.2.3", "::1", "localhost")))


def test_another_base_or_no_store_is_refused(settings: Callable[..., ServeSettings], tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="keeps adapters of the base base, but it is to be served for other"):
        launch.check(settings(model="other"))
    with pytest.raises(StoreError, match="there is no store"):
        launch.check(settings(store=str(tmp_path / "none.db")))


@pytest.mark.parametrize("option", ["--max-loras=4", "--max_loras", "--host", "--data-parallel-size", "--lora-modules"])
def test_options_that_would_break_the_fleet_are_refused(settings: Callable[..., ServeSettings], option: str) -> None:
    with pytest.raises(ConfigError, match=f"{option} cannot be passed to vLLM for a fleet"):
        launch.check(settings(options=("--dtype", "float32", option)))


def test_settings_out_of_range_are_refused(settings: Callable[..., ServeSettings]) -> None:
    with pytest.raises(ConfigError, match="slots=0"):
        launch.check(settings(slots=0))
    with pytest.raises(ConfigError, match="waiting=-1 must be at least 0"):
        launch.check(settings(waiting=-1))
    with pytest.raises(ConfigError, match="dtype=float8 is unknown"):
        launch.check(settings(adapter_dtype="float8"))


def test_vllm_gets_its_options_and_the_plug_in_what_it_reads(
    settings: Callable[..., ServeSettings], tmp_path: Path
) -> None:
    given = settings(model=str(tmp_path), slots=7, options=("--dtype", "float32"), tenants="t.toml")
    words = launch.command(given)
    assert words[words.index("--served-model-name") + 1] == tmp_path.name
    assert words[words.index("--max-loras") + 1] == "7"
    assert words[-2:] == ["--dtype", "float32"]
    environment = launch.environment(given)
    assert environment["FOURIERFT_STORE"] == str(tmp_path / "fleet.db")
    assert Path(environment["FOURIERFT_TENANTS"]).is_absolute()
    remote = launch.environment(settings(store="postgresql://user@host/fleet"))
    assert remote["FOURIERFT_STORE"] == "postgresql://user@host/fleet"
