"""What is asked in the rounds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import peft
import pytest

from lab.bench.serving import throughput
from lab.bench.serving.fleet import Request, name_of
from lab.bench.serving.server import Answer
from lab.bench.serving.throughput import REQUESTS, TOKENS, by_popularity, in_turn, make_loras, sample

SERVER: Any = None  # nothing is asked


def test_distinct_adapters_of_a_round_are_others_in_the_next() -> None:
    names = by_popularity("distinct", 1000)
    assert len(set(names(0))) == len(set(names(1))) == REQUESTS
    assert not set(names(0)) & set(names(1))


def test_loras_come_in_turn() -> None:
    names = in_turn(["a", "b", "c"])
    assert names(0)[:4] == ["a", "b", "c", "a"]
    assert names(0)[-1] != names(1)[0]


def test_every_round_asks_the_same_prompts_of_base_and_fleet(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[list[Request]] = []

    def ask(
        server: object, base: str, requests: list[Request], tokens: int, clients: int
    ) -> tuple[list[Answer], float]:
        asked.append(requests)
        return [Answer(200, [0] * tokens, None)] * len(requests), 2.0

    monkeypatch.setattr(throughput, "ask_all", ask)
    draws = {"base": lambda turn: [None] * REQUESTS, "distinct": by_popularity("distinct", 1000)}
    samples = sample(SERVER, "base", [[k] for k in range(10)], draws, 3)
    assert samples == {name: [REQUESTS * TOKENS / 2] * 3 for name in draws}
    measured = asked[1:]  # after a warm-up
    assert len(measured) == 6
    assert all([r.prompt for r in requests] == [[k % 10] for k in range(REQUESTS)] for requests in measured)


def test_a_failed_request_ends_the_measurement(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(throughput, "ask_all", lambda *asked: ([Answer(500, [], "broken")], 1.0))
    with pytest.raises(SystemExit, match="broken"):
        sample(SERVER, "base", [[1]], {"base": lambda turn: [None] * REQUESTS}, 1)


def test_loras_are_adapters_of_peft_made_once(tiny_llama: Path, tmp_path: Path) -> None:
    assert make_loras(tmp_path, tiny_llama, 2) == [name_of(0), name_of(1)]
    file = tmp_path / name_of(1) / "adapter_model.safetensors"
    written = file.stat().st_mtime_ns
    make_loras(tmp_path, tiny_llama, 3)
    assert file.stat().st_mtime_ns == written
    config = peft.PeftConfig.from_pretrained(str(tmp_path / name_of(2)))
    assert (config.r, set(config.target_modules)) == (8, {"q_proj", "v_proj"})
