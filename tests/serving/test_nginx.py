"""docs/nginx.conf before the gate, as Debian's nginx runs it. Only ports, folders and one timeout are changed."""

from __future__ import annotations

import asyncio
import hashlib
import os
import socket
import subprocess
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from fourierft.serving.gate import Settings
from fourierft.serving.process import free_port
from fourierft.serving.tenant import Tenant
from fourierft.serving.tenants import Tenants
from fourierft.store import AdapterStore

from .conftest import NGINX
from .live import allow_files, completion, exchange, leave, live, request, until
from .standin import make_app, stand_in_for_vllm

PAGE = Path(__file__).parents[2] / "docs" / "nginx.conf"
CHANGES = {"worker_connections 8192": "worker_connections 2500", "client_header_timeout 5s": "client_header_timeout 1s"}
SLOW = 2000


def configure(folder: Path, port: int, behind: int, **changes: str) -> Path:
    text = PAGE.read_text(encoding="utf-8")
    replaced = {
        **CHANGES,
        "listen 8080": f"listen 127.0.0.1:{port}",
        "127.0.0.1:8000": f"127.0.0.1:{behind}",
        **changes,
    }
    for old, new in replaced.items():
        assert text.count(old) == 1
        text = text.replace(old, new)
    kept = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    paths = "".join(f"    {name}_temp_path {folder}/{name};\n" for name in kept)
    own = "user root;\n" * (os.geteuid() == 0)  # folders of tests are their user's alone
    own += f"daemon off;\npid {folder}/pid;\nerror_log {folder}/error.log;\n"
    path = folder / "nginx.conf"
    path.write_text(own + text.replace("http {\n", f"http {{\n{paths}    access_log off;\n", 1))
    return path


@asynccontextmanager
async def before(behind: int, folder: Path, **changes: str) -> AsyncIterator[int]:
    """Inside, nginx answers at this port."""
    assert NGINX is not None
    with free_port() as port:
        path = configure(folder, port, behind, **changes)
        process = subprocess.Popen([NGINX, "-p", str(folder), "-e", str(folder / "error.log"), "-c", str(path)])

        def answers() -> bool:
            assert process.poll() is None, (folder / "error.log").read_text()
            with socket.socket() as trying:
                return trying.connect_ex(("127.0.0.1", port)) == 0

        try:
            await until(answers)
            yield port
        finally:
            process.terminate()
            process.wait(60)


@pytest.fixture
def tenants() -> Tenants:
    return Tenants({hashlib.sha256(b"acme").hexdigest(): Tenant("acme", ("*",), running=4, waiting=100, admin=True)})


@pytest.fixture
def app(store: AdapterStore, tenants: Tenants, monkeypatch: pytest.MonkeyPatch) -> Any:
    stand_in_for_vllm(monkeypatch)
    return make_app(Settings(str(store), tenants))


def test_half_sent_headers_end_and_others_are_answered_meanwhile(app: Any, tmp_path: Path) -> None:
    allow_files()

    async def main() -> None:
        app.state.held = asyncio.Event()
        many = {"limit_conn address 256": "limit_conn address 2500"}  # all of them come from this machine
        async with live(app) as behind, before(behind, tmp_path, **many) as port:
            half = completion("shared", "acme")[:60]
            start = time.monotonic()
            slow = await asyncio.gather(*(asyncio.open_connection("127.0.0.1", port) for _ in range(SLOW)))
            for _, writer in slow:
                writer.write(half)
            assert (await exchange(port, completion("shared", "acme"))).status == 200
            await asyncio.gather(*(reader.read() for reader, _ in slow), return_exceptions=True)  # nginx resets them
            assert time.monotonic() - start < 50  # nginx's own limit is 60 s
            for _, writer in slow:
                writer.close()
            assert len(app.state.asked) == 1

    asyncio.run(main())


def test_a_slow_body_reaches_nothing_and_streams_pass_part_by_part(app: Any, tenants: Tenants, tmp_path: Path) -> None:
    async def main() -> None:
        app.state.held = asyncio.Event()
        turns, gone = tenants.all()[0], asyncio.Event()
        async with live(app) as behind, before(behind, tmp_path) as port:
            half = asyncio.create_task(leave(port, completion("shared", "acme")[:-5], gone))
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(completion("shared", "acme", stream=True, words=["word"], times=100_000, pause=0.05))
            first = await reader.readuntil(b"\n\n")
            assert turns.running == 1  # the answer goes on
            assert b"word" in first + await reader.readuntil(b"\n\n")
            writer.close()
            await until(lambda: turns.places == 0)  # who leaves nginx leaves the server
            gone.set()
            await half
            assert len(app.state.asked) == 1
            long = request("POST", "/v1/completions", {"Content-Length": str(9 << 20)})
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(long)
            assert b" 413 " in await reader.readline()
            writer.close()
            put = request("PUT", "/fleet/adapters/new", {"Authorization": "Bearer acme"}, bytes(9 << 20))
            answer = await exchange(port, put)
            assert (answer.status, "not a zip file" in answer.message) == (400, True)

    asyncio.run(main())


def test_an_address_has_its_share_of_connections(app: Any, tmp_path: Path) -> None:
    async def main() -> None:
        app.state.held = asyncio.Event()
        gone = asyncio.Event()
        few = {"limit_conn address 256": "limit_conn address 3"}
        async with live(app) as behind, before(behind, tmp_path, **few) as port:
            holding = [
                asyncio.create_task(leave(port, completion("shared", "acme", hold=True), gone)) for _ in range(3)
            ]
            await until(lambda: len(app.state.asked) == 3)
            assert (await exchange(port, completion("shared", "acme"))).status == 429
            gone.set()
            await asyncio.gather(*holding)

    asyncio.run(main())
