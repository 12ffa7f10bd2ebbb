"""The gate before vLLM itself: hostile requests, clients that leave, and a file of tenants that changes."""

from __future__ import annotations

import asyncio
import hashlib
import json
import random
import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lab.bench.serving.server import Server, fleet_server, running
from tests.faults.hostile import draw_request
from tests.faults.judging import judge, send
from tests.serving.live import completion, exchange, leave, until

from .conftest import TOKENS, Answers

ATTEMPTS = 300
KEYS = {name: hashlib.sha256(name.encode()).hexdigest() for name in ("acme", "next")}


def write_tenants(path: Path, **keys: str) -> None:
    tables = [
        f'[tenants.{name}]\nkey_sha256 = "{KEYS[key]}"\nadapters = ["*"]\nrunning = 4\n' for name, key in keys.items()
    ]
    (path.parent / "new").write_text("".join(tables))
    (path.parent / "new").rename(path)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("gate")
    write_tenants(folder / "tenants.toml", acme="acme")
    return folder


@pytest.fixture(scope="module")
def server(small_llama: Path, peft_answers: Answers, folder: Path) -> Iterator[Server]:
    command = fleet_server(small_llama, peft_answers.store, 4, "--block-size 32")
    command += ["--tenants", str(folder / "tenants.toml")]
    with running(command, folder / "log", {"VLLM_ENABLE_V1_MULTIPROCESSING": "1"}) as server:
        yield server


def port(server: Server) -> int:
    return int(server.address.rpartition(":")[2])


def lines(folder: Path) -> list[dict[str, Any]]:
    text = (folder / "log").read_text(encoding="utf-8", errors="replace")
    return [json.loads(line) for line in text.splitlines() if line.startswith('{"time"')]


async def check(server: Server, answers: Answers, key: str) -> None:
    """An answer is that of stock PEFT, to the token."""
    name = answers.names[3]
    more = {"prompt": answers.prompts[name][0], "max_tokens": TOKENS, "temperature": 0, "ignore_eos": True}
    answer = await exchange(port(server), completion(name, key, return_token_ids=True, **more))
    assert answer.status == 200, answer.body
    assert json.loads(answer.body)["choices"][0]["token_ids"] == answers.expected[name][0]


def test_no_hostile_request_is_a_fault_of_the_server_or_changes_another_answer(
    server: Server, peft_answers: Answers, folder: Path
) -> None:
    chance = random.Random(0)
    left, faults = ATTEMPTS, []

    async def attack() -> None:
        nonlocal left
        while left > 0:
            left -= 1
            data = draw_request(chance, "acme", "team/1")
            faults.append(judge(data, await send(port(server), data, 3), worded=False))

    async def main() -> None:
        await asyncio.gather(*(attack() for _ in range(8)))
        await check(server, peft_answers, "acme")

    asyncio.run(main())
    assert [fault for fault in faults if fault] == []
    assert {line.get("status") for line in lines(folder)} >= {200, 400, 401, 404, 405}
    assert [line for line in lines(folder) if line["event"] == "failure"] == []


def test_who_leaves_leaves_nothing_in_the_engine(server: Server, peft_answers: Answers, folder: Path) -> None:
    before = len(lines(folder))

    async def main() -> None:
        gone, long = asyncio.Event(), {"prompt": [1, 5, 9], "max_tokens": 240, "ignore_eos": True}
        names = [f"team/{k % 12}" for k in range(24)]  # four run, the others wait
        data = [completion(name, "acme", stream=k % 2 == 0, **long) for k, name in enumerate(names)]
        reader, writer = await asyncio.open_connection("127.0.0.1", port(server))
        writer.write(data[0])
        leavers = [asyncio.create_task(leave(port(server), each, gone)) for each in data[1:]]
        await reader.readuntil(b"data: ")  # answers have begun
        writer.close()
        gone.set()
        await asyncio.gather(*leavers)
        await check(server, peft_answers, "acme")

    asyncio.run(main())
    statuses = Counter(line["status"] for line in lines(folder)[before:])
    assert statuses[499] >= 20
    assert set(statuses) <= {200, 499}


def test_keys_rotate_while_the_server_runs(server: Server, peft_answers: Answers, folder: Path) -> None:
    def status(key: str) -> int:
        return asyncio.run(exchange(port(server), completion("team/0", key, max_tokens=1))).status

    def read_again() -> dict[str, Any]:
        """The line that tells that the file was read, after a signal."""
        before = len(told())
        server.process.send_signal(signal.SIGHUP)
        asyncio.run(until(lambda: len(told()) > before))
        return told()[-1]

    def told() -> list[dict[str, Any]]:
        return [line for line in lines(folder) if line["event"] == "tenants"]

    assert [status(key) for key in ("acme", "next", "")] == [200, 401, 401]
    write_tenants(folder / "tenants.toml", acme="next")
    assert read_again()["count"] == 1
    assert [status(key) for key in ("acme", "next")] == [401, 200]
    (folder / "tenants.toml").write_text("[tenants.acme]")
    assert "the tenants stay as they were" in read_again()["error"]
    assert [status(key) for key in ("acme", "next")] == [401, 200]
