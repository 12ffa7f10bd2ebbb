"""The whole server as a process, asked by many clients, by OpenAI's own, and told to stop."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fourierft.store import AdapterStore
from lab.bench.serving.fleet import Request
from lab.bench.serving.server import Server, ask_all, fleet_server, running

from .conftest import BASE, TOKENS, Answers


@pytest.fixture(scope="module")
def server(small_llama: Path, peft_answers: Answers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    command = fleet_server(small_llama, peft_answers.store, 4, "--block-size 32")
    log = tmp_path_factory.mktemp("server") / "log"
    with running(command, log, {"VLLM_ENABLE_V1_MULTIPROCESSING": "1"}) as server:
        yield server


@pytest.fixture(scope="module")
def client(server: Server) -> Any:
    import openai

    return openai.OpenAI(base_url=f"{server.address}/v1", api_key="none", max_retries=0)


def test_clients_at_once_get_the_answers_of_stock_peft(
    server: Server, small_llama: Path, peft_answers: Answers
) -> None:
    asked = [(name, i) for i in range(4) for name in peft_answers.names]
    requests = [Request(None if name == BASE else name, peft_answers.prompts[name][i]) for name, i in asked]
    answers, _ = ask_all(server, small_llama.name, requests, TOKENS, 16)
    assert [answer.tokens for answer in answers] == [peft_answers.expected[name][i] for name, i in asked]


def test_what_cannot_be_answered_is_an_error_of_openai_and_the_server_goes_on(
    client: Any, peft_answers: Answers
) -> None:
    import openai

    with AdapterStore(peft_answers.store) as store:
        plain = store.get("team/0")
        store.put("damaged", plain.layout, plain.values)
        key = store._tables.latest("damaged")[0]
        with store._tables.writing() as execute:
            execute("UPDATE fourierft_adapters SET coefficients = zeroblob(640) WHERE id = :id", {"id": key})
    complete = client.completions.create
    with pytest.raises(openai.NotFoundError, match="does not exist"):
        complete(model="nobody", prompt="w1")
    with pytest.raises(openai.BadRequestError, match="256"):
        complete(model="team/0", prompt="w1 " * 400, max_tokens=8)
    with pytest.raises(openai.BadRequestError):
        complete(model="team/0", prompt="w1", max_tokens=8, extra_body={"temperature": "warm"})
    with pytest.raises(openai.InternalServerError, match="is damaged"):
        complete(model="damaged", prompt="w1")
    with AdapterStore(peft_answers.store) as store:
        store.remove("damaged")
    with complete(model="team/1", prompt="w1 w2", max_tokens=200, stream=True, extra_body={"ignore_eos": True}) as gone:
        next(iter(gone))  # the rest is not waited for
    answer = client.chat.completions.create(model="team/0", messages=[{"role": "user", "content": "w1"}], max_tokens=4)
    assert answer.usage.completion_tokens <= 4
    assert answer.model == "team/0"


def test_a_server_that_stops_ends_what_it_has_begun_and_tells_others_to_come_again(server: Server, client: Any) -> None:
    import openai

    stream = client.completions.create(
        model="team/2",
        prompt="w1",
        max_tokens=240,
        stream=True,
        stream_options={"include_usage": True},
        temperature=0,
        extra_body={"ignore_eos": True},
    )
    parts = iter(stream)
    next(parts)
    told: list[openai.APIStatusError] = []

    def ask_until_refused() -> None:
        while not told:
            try:
                client.completions.create(model="team/0", prompt="w1", max_tokens=1)
            except openai.APIStatusError as error:
                told.append(error)

    asking = threading.Thread(target=ask_until_refused)
    asking.start()
    server.process.send_signal(signal.SIGTERM)
    *_, finish, last = parts
    asking.join(600)
    assert finish.choices[0].finish_reason == "length"
    assert last.usage.completion_tokens == 240
    assert told[0].status_code == 503
    assert told[0].response.headers["retry-after"] == "5"
    assert server.process.wait(600) == 0
