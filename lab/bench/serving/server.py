"""A server as a process of its own, and many clients at once."""

from __future__ import annotations

import asyncio
import json
import os
import resource
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from fourierft.serving import process
from lab.bench.serving.fleet import Request


class Answer(NamedTuple):
    """What came back.

    Fields:
        status: of HTTP; 0 if there was no answer.
        tokens: of the answer.
        error: what an error says, in the words of OpenAI's API; None if it is worded otherwise.
    """

    status: int
    tokens: list[int]
    error: str | None


class Server(NamedTuple):
    """A process that answers at an address."""

    address: str
    process: subprocess.Popen[Any]

    def memory(self) -> int:
        """Bytes that it and its children have for themselves."""
        import psutil

        own = psutil.Process(self.process.pid)
        return sum(each.memory_full_info().uss for each in (own, *own.children(recursive=True)))

    def get(self, path: str) -> str:
        """What it says at a path."""
        with urllib.request.urlopen(f"{self.address}{path}", timeout=60) as response:
            return response.read().decode()


@contextmanager
def running(command: Sequence[str], log: Path, environment: dict[str, str] | None = None) -> Iterator[Server]:
    """Inside, a server answers; {port} in the command is a free port.

    Raises: BackendError with the end of the log, if it does not come up.
    """
    with process.free_port() as port:
        words, address = [word.replace("{port}", str(port)) for word in command], f"http://127.0.0.1:{port}"
        with process.running(words, address, log, {**os.environ, **(environment or {})}) as running_process:
            try:
                yield Server(address, running_process)
            except BaseException:
                print(f"the end of {log}:\n{process.end_of(log)}", file=sys.stderr)
                raise


def fleet_server(model: Path, store: Path, slots: int, *options: str) -> list[str]:
    """The command of `fourierft serve` in float32."""
    vllm = " ".join(["--dtype float32 --max-model-len 256 --max-num-seqs 16", *options])
    own = ["--store", str(store), "--slots", str(slots), "--port", "{port}", "--requests", "20000", f"--vllm={vllm}"]
    return [sys.executable, "-m", "fourierft.cli.main", "serve", str(model), *own]


def ask_all(
    server: Server, base: str, requests: Sequence[Request], tokens: int, clients: int
) -> tuple[list[Answer], float]:
    """Send requests, so many at once; answers in their order, and the seconds that all of them took."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if clients > soft - 200:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return asyncio.run(_ask_all(server.address, base, requests, tokens, clients))


async def _ask_all(
    address: str, base: str, requests: Sequence[Request], tokens: int, clients: int
) -> tuple[list[Answer], float]:
    import aiohttp

    turns, silence = asyncio.Semaphore(clients), aiohttp.ClientTimeout(total=None, sock_read=600)
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(address, connector=connector, timeout=silence) as session:

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
                try:
                    async with session.post("/v1/completions", json=body) as response:
                        return read_answer(response.status, await response.text())
                except aiohttp.ClientError as error:
                    return Answer(0, [], str(error))

        start = time.perf_counter()
        answers = await asyncio.gather(*map(ask, requests))
        return answers, time.perf_counter() - start


def read_answer(status: int, text: str) -> Answer:
    """An answer from the body of a response."""
    try:
        content = json.loads(text)
        if status == 200:
            return Answer(status, content["choices"][0]["token_ids"], None)
        return Answer(status, [], content["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return Answer(status, [], None)
