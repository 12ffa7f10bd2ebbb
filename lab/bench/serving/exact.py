"""Is every answer that of stock PEFT with the adapter alone, token for token?"""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from itertools import chain
from pathlib import Path

from lab.bench.serving.fleet import (
    POPULARITIES,
    TOKENS,
    Question,
    Request,
    draw,
    make_store,
    name_of,
    peft_answers,
    read_prompts,
)
from lab.bench.serving.record import Record, Samples, one
from lab.bench.serving.server import Server, ask_all, fleet_server, running

CLIENTS = 16
SHARING = 64  # adapters that are asked the same
SHARED_TOKENS, BLOCK = 160, 32  # of the prompt that they share, and in a block of the cache


def case_name(popularity: str, count: int, slots: int) -> str:
    """Requests to a fleet, drawn by popularity."""
    return f"exact, {count:,} adapters, {slots:,} slots, {popularity}"


def shared_name(count: int, slots: int) -> str:
    """One prompt that many adapters get, twice, with the cache of prefixes on."""
    return f"exact, {count:,} adapters, {slots:,} slots, one prompt through {min(SHARING, count)} adapters, twice"


def base_name(count: int, slots: int) -> str:
    """The base in place of each adapter: what would be right if adapters did nothing."""
    return f"exact, {count:,} adapters, {slots:,} slots, the base in their place"


def exact(model: Path, folder: Path, count: int, slots: int, record: Record) -> None:
    """Ask for adapters of each popularity, and for many with one prompt; count the answers that are PEFT's."""
    missing = [each for each in POPULARITIES if not record.has(case_name(each, count, slots))]
    shares, asks_base = (not record.has(name(count, slots)) for name in (shared_name, base_name))
    if not (missing or shares or asks_base):
        return
    store = folder / f"fleet-{count}.db"
    make_store(store, model, count)
    prompts = read_prompts(model, count)
    shared = list(chain.from_iterable(prompts[k % count] for k in range(SHARED_TOKENS)))[:SHARED_TOKENS]
    questions = {str(k): Question(k, prompts[k]) for k in range(count)}
    questions |= {f"{k}, shared": Question(k, shared) for k in range(min(SHARING, count))}
    expected = peft_answers(model, folder / "answers.json", questions)
    with running(fleet_server(model, store, slots, f"--block-size {BLOCK}"), folder / "exact.log") as server:
        for popularity in missing:
            drawn = draw(popularity, count, count)
            requests = [Request(name_of(k), prompts[k]) for k in drawn]
            figures = compare(server, model.name, requests, [expected[str(k)] for k in drawn])
            record.add(case_name(popularity, count, slots), figures)
        if asks_base:
            requests = [Request(None, prompt) for prompt in prompts]
            figures = compare(server, model.name, requests, [expected[str(k)] for k in range(count)], shown=0)
            record.add(base_name(count, slots), figures)
        if shares:
            sharing = list(range(min(SHARING, count))) * 2
            requests = [Request(name_of(k), shared) for k in sharing]
            before = cached_tokens(server.get("/metrics"))
            figures = compare(server, model.name, requests, [expected[f"{k}, shared"] for k in sharing])
            found = one(cached_tokens(server.get("/metrics")) - before)
            record.add(shared_name(count, slots), {**figures, "tokens found in the cache": found})


def compare(
    server: Server, base: str, requests: Sequence[Request], expected: Sequence[list[int]], shown: int = 10
) -> Samples:
    """Ask, and count the answers that are as expected; show some that are not."""
    answers, seconds = ask_all(server, base, requests, TOKENS, CLIENTS)
    wrong = [k for k, answer in enumerate(answers) if answer.tokens != expected[k]]
    for k in wrong[:shown]:
        print(
            f"wrong: {requests[k].adapter} {answers[k]}, not {expected[k]}, for {requests[k].prompt}", file=sys.stderr
        )
    return {"right": one(len(answers) - len(wrong)), "of": one(len(answers)), "seconds": one(seconds, "s")}


def cached_tokens(metrics: str) -> float:
    """Tokens of prompts that vLLM found in its cache of prefixes, from what it tells Prometheus."""
    found = re.findall(r"^vllm:prefix_cache_hits_total\{.*\} (\S+)$", metrics, re.MULTILINE)
    return sum(map(float, found))
