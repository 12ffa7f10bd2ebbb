"""A server as a process of its own, and many clients at once."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.serving.fleet import Request


class Answer(NamedTuple):
    """What came back: HTTP status, tokens, seconds."""

    status: int
    tokens: list[int]
    seconds: float


@contextmanager
def running(command: Sequence[str], log: Path, environment: dict[str, str] | None = None) -> Iterator[str]:
    """Inside, a server answers at the address that this gives; {port} in the command is a free port."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = [word.replace("{port}", str(port)) for word in command]
    with log.open("w") as file:
        process = subprocess.Popen(words, stdout=file, stderr=file, env={**os.environ, **(environment or {})})
    try:
        wait_for(f"http://127.0.0.1:{port}/health", process, log)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(120)


def wait_for(address: str, process: subprocess.Popen[Any], log: Path, seconds: float = 900) -> None:
    """Wait until a server is there."""
    end = time.monotonic() + seconds
    while time.monotonic() < end and process.poll() is None:
        try:
            with urllib.request.urlopen(address, timeout=2):
                return
        except OSError:
            time.sleep(0.5)
    raise SystemExit(f"the server did not come up; the end of {log}:\n" + "\n".join(log.read_text().splitlines()[-20:]))


def fleet_server(model: Path, store: Path, slots: int, *options: str) -> list[str]:
    """The command of `fourierft serve` in float32."""
    vllm = " ".join(["--dtype float32 --max-model-len 256 --max-num-seqs 16", *options])
    own = ["--store", str(store), "--slots", str(slots), "--port", "{port}", "--requests", "20000", f"--vllm={vllm}"]
    return [sys.executable, "-m", "fourierft.cli.main", "serve", str(model), *own]


def ask_all(
    address: str, base: str, requests: Sequence[Request], tokens: int, clients: int
) -> tuple[list[Answer], float]:
    """Send requests, so many at once; answers in their order, and the seconds that all of them took."""
    return asyncio.run(_ask_all(address, base, requests, tokens, clients))


async def _ask_all(
    address: str, base: str, requests: Sequence[Request], tokens: int, clients: int
) -> tuple[list[Answer], float]:
    import aiohttp

    turns = asyncio.Semaphore(clients)
    connector, timeout = aiohttp.TCPConnector(limit=0), aiohttp.ClientTimeout(total=None)
    async with aiohttp.ClientSession(address, connector=connector, timeout=timeout) as session:

        async def ask(request: Request) -> Answer:
            body = {
                "model": request.adapter or base,
                "prompt": request.prompt,
                "max_tokens": tokens,
                "temperature": 0,
                "ignore_eos": True,
                "return_token_ids": True,
            }
            async with turns:
                start = time.perf_counter()
                async with session.post("/v1/completions", json=body) as response:
                    content = await response.json()
            own = content["choices"][0]["token_ids"] if response.status == 200 else []
            return Answer(response.status, own, time.perf_counter() - start)

        start = time.perf_counter()
        answers = await asyncio.gather(*map(ask, requests))
        return answers, time.perf_counter() - start
