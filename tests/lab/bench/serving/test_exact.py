"""What is counted of answers."""

from __future__ import annotations

from typing import Any

import pytest

from lab.bench.serving import exact
from lab.bench.serving.exact import cached_tokens, compare
from lab.bench.serving.fleet import Request
from lab.bench.serving.server import Answer

SERVER: Any = None  # nothing is asked
METRICS = """\
# HELP vllm:prefix_cache_hits_total Prefix cache hits, in terms of number of cached tokens.
# TYPE vllm:prefix_cache_hits_total counter
vllm:prefix_cache_hits_total{engine="0",model_name="base"} 160.0
vllm:prefix_cache_hits_created{engine="0",model_name="base"} 1.7e+09
vllm:prefix_cache_queries_total{engine="0",model_name="base"} 500.0
"""


def test_an_answer_that_differs_is_counted_and_shown(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    answers = [Answer(200, [1, 2], None), Answer(200, [1, 3], None), Answer(503, [], "busy")]
    monkeypatch.setattr(exact, "ask_all", lambda *asked: (answers, 1.5))
    requests = [Request(f"adapter-{k}", [k]) for k in range(3)]
    figures = compare(SERVER, "base", requests, [[1, 2]] * 3)
    assert {name: values for name, (values, _) in figures.items()} == {"right": [1], "of": [3], "seconds": [1.5]}
    told = capsys.readouterr().err
    assert "adapter-1" in told
    assert "busy" in told
    assert "adapter-0" not in told


def test_tokens_in_the_cache_are_those_that_vllm_counted() -> None:
    assert cached_tokens(METRICS) == 160


def test_the_prompt_that_is_shared_fills_blocks_of_the_cache() -> None:
    assert exact.SHARED_TOKENS > 2 * exact.BLOCK
