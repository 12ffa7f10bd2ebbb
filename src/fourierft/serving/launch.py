"""Starting vLLM's server with all that a fleet needs."""

from __future__ import annotations

import ipaddress
import os
import sys
from dataclasses import dataclass, field
from pathlib import Path

from fourierft.errors import ConfigError
from fourierft.format.encoding import check_dtype
from fourierft.format.identity import identify_base
from fourierft.serving import vllm_internals
from fourierft.serving.limits import Limits
from fourierft.serving.tokenizers import check_tokenizers
from fourierft.store import AdapterStore

_OURS = (  # options of vLLM that are given here, or that a fleet rules out
    *("--host", "--port", "--enable-lora", "--lora-modules", "--max-loras", "--max-cpu-loras", "--max-lora-rank"),
    *("--fully-sharded-loras", "--worker-extension-cls", "--api-server-count", "--data-parallel-size"),
)


@dataclass(frozen=True)
class ServeSettings:
    """What to serve, and how.

    Attributes:
        model: hub id or folder of the base.
        store: of the adapters: path, or postgresql://...
        host, port: to listen at.
        slots: most adapters in the engine's tables, and in one of its batches.
        adapter_dtype: of the tables: float32, bfloat16 or int8.
        tenants: TOML file of keys; without one everybody may ask, from this machine alone.
        requests, waiting: most at once, and most beyond these that wait for their turn, without tenants.
        limits: what a client may take.
        allow_other_base: serve a model of the same shapes that the store does not belong to.
        options: further ones, for vLLM.
    """

    model: str
    store: str
    host: str = "127.0.0.1"
    port: int = 8000
    slots: int = 256
    adapter_dtype: str = "float32"
    tenants: str | None = None
    requests: int = 1024
    waiting: int = 0
    limits: Limits = field(default_factory=Limits)
    allow_other_base: bool = False
    options: tuple[str, ...] = ()


def check(settings: ServeSettings) -> str:
    """See whether it can be served; what will be, in a sentence.

    Raises: ConfigError, if a setting makes no sense, or an adapter was trained with another tokenizer. StoreError, if
        the store is not there or of another base. MissingExtraError, without vLLM.
    """
    version = vllm_internals.vllm_version()
    check_dtype(settings.adapter_dtype)
    if settings.slots < 1 or settings.requests < 1:
        raise ConfigError(f"slots={settings.slots} and requests={settings.requests} must both be at least 1")
    if settings.waiting < 0:
        raise ConfigError(f"waiting={settings.waiting} must be at least 0")
    for option in settings.options:
        if option.partition("=")[0].replace("_", "-") in _OURS:
            raise ConfigError(
                f"{option} cannot be passed to vLLM for a fleet; see `fourierft serve --help` "
                "for the options, and start several servers on one store instead of several "
                "API servers or replicas"
            )
    if settings.tenants is None and not is_loopback(settings.host):
        raise ConfigError(
            f"--host {settings.host} would open the server to everyone who can reach "
            "this machine; add --tenants FILE with keys, or use --host 127.0.0.1"
        )
    if settings.tenants is not None:
        from fourierft.serving.tenants_file import read_tenants

        count = len({tenant.name for tenant in read_tenants(settings.tenants).values()})
        whom = f"to the {count} tenant{'s' * (count != 1)} of {settings.tenants}"
    else:
        whom = "to everybody on this machine, without a key (--tenants asks for one)"
    with AdapterStore(settings.store, create=False) as store:
        if not settings.allow_other_base:
            store.check_base(identify_base(settings.model), "it is to be served")
        check_tokenizers(store.records(), settings.model, settings.options)
        adapters = len(store)
    return (
        f"{adapters:,} adapters of {settings.model} on vLLM {version}, {settings.slots:,} of them at a time, at "
        f"http://{settings.host}:{settings.port}, {whom}"
    )


def served_name(model: str) -> str:
    """What requests call the base: its hub id, or the name of its folder."""
    return Path(model).name if Path(model).is_dir() else model


def command(settings: ServeSettings) -> list[str]:
    return [
        *(sys.executable, "-m", vllm_internals.SERVER, "--model", settings.model),
        *("--served-model-name", served_name(settings.model), "--host", settings.host, "--port", str(settings.port)),
        *("--enable-lora", "--max-loras", str(settings.slots), "--max-lora-rank", "1"),
        *("--worker-extension-cls", "fourierft.serving.worker.FleetWorker"),
        *("--middleware", "fourierft.serving.gate.Gate"),
        *("--disable-uvicorn-access-log", "--shutdown-timeout", "30"),
        *settings.options,
    ]


def environment(settings: ServeSettings) -> dict[str, str]:
    """The environment of vLLM: that of this process, and what the plug-in and the gate read."""
    own = {
        "FOURIERFT_STORE": settings.store if "://" in settings.store else str(Path(settings.store).absolute()),
        "FOURIERFT_ADAPTER_DTYPE": settings.adapter_dtype,
        "FOURIERFT_REQUESTS": str(settings.requests),
        "FOURIERFT_WAITING": str(settings.waiting),
        "FOURIERFT_LIMITS": settings.limits.pack(),
    }
    if settings.tenants is not None:
        own["FOURIERFT_TENANTS"] = str(Path(settings.tenants).absolute())
    return {"VLLM_NO_USAGE_STATS": "1", **os.environ, **own}


def start(settings: ServeSettings) -> None:
    """Become vLLM's server."""
    words = command(settings)
    os.execve(words[0], words, environment(settings))


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches a host."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
