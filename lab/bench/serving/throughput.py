"""Tokens a second: a fleet whose adapters are all in slots, one that has to evict, and vLLM's own LoRA r=8."""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from fourierft.bars import bar
from lab.bench.serving.fleet import POPULARITIES, Request, draw, make_store, name_of, read_prompts
from lab.bench.serving.record import Record, one
from lab.bench.serving.server import Server, ask_all, fleet_server, running

CLIENTS = 16
REQUESTS, TOKENS, PROMPT = 64, 64, 48  # in a sample, in an answer, at most in a prompt
LORA_SLOTS = (16, 64, 256)
BASE = "the base alone"
RATE = "tokens/s"

Names = Sequence[str | None]


def case_name(count: int, slots: int) -> str:
    """A fleet behind so many slots."""
    return f"throughput, {count:,} adapters, {slots:,} slots"


def lora_name(slots: int) -> str:
    """As many adapters as slots, of vLLM's LoRA."""
    return f"throughput, LoRA r=8, {slots:,} adapters, {slots:,} slots"


def throughput(model: Path, folder: Path, count: int, slots: int, record: Record, rounds: int) -> None:
    """Measure each server in rounds that interleave the base with the popularities."""
    prompts = read_prompts(model, 200)
    for number in dict.fromkeys((count, slots)):
        if record.has(case_name(count, number)):
            continue
        store = folder / f"fleet-{count}.db"
        make_store(store, model, count)
        draws: dict[str, Draw] = {BASE: lambda turn: [None] * REQUESTS}
        draws |= {popularity: by_popularity(popularity, count) for popularity in POPULARITIES}
        command = fleet_server(model, store, number, "--no-enable-prefix-caching")
        with running(command, folder / "throughput.log") as server:
            if number >= count:
                bring_all(server, model.name, count)
            samples = sample(server, model.name, prompts, draws, rounds)
            status = json.loads(server.get("/fleet/status"))
            figures = {name: (values, RATE) for name, values in samples.items()}
            figures |= {"evictions": one(status["evictions"]), "tables": one(status["bytes"], "B")}
            figures["all memory"] = one(server.memory(), "B")
        record.add(case_name(count, number), figures, BASE)
    for number in LORA_SLOTS:
        if record.has(lora_name(number)):
            continue
        names = make_loras(folder / "loras", model, number)
        draws = {BASE: lambda turn: [None] * REQUESTS, "distinct": in_turn(names)}
        with running(lora_server(model, folder / "loras", names), folder / "lora.log") as server:
            samples = sample(server, model.name, prompts, draws, rounds)
            figures = {name: (values, RATE) for name, values in samples.items()}
            figures["all memory"] = one(server.memory(), "B")
        record.add(lora_name(number), figures, BASE)


Draw = Callable[[int], Names]


def by_popularity(popularity: str, count: int) -> Draw:
    """Adapters of the requests of a round; those of another round are others."""

    def names(turn: int) -> Names:
        drawn = draw(popularity, count, (turn + 1) * REQUESTS)[turn * REQUESTS :]
        return [name_of(k) for k in drawn]

    return names


def in_turn(names: Sequence[str]) -> Draw:
    """Each once, then from the start."""
    return lambda turn: [names[(turn * REQUESTS + k) % len(names)] for k in range(REQUESTS)]


def sample(
    server: Server, base: str, prompts: Sequence[list[int]], draws: dict[str, Draw], rounds: int
) -> dict[str, list[float]]:
    """Tokens a second, a number a round, of each of these; all get the same prompts."""
    asked = [prompts[k % len(prompts)][:PROMPT] for k in range(REQUESTS)]
    ask_all(server, base, [Request(None, prompt) for prompt in asked[:CLIENTS]], 8, CLIENTS)
    samples: dict[str, list[float]] = {name: [] for name in draws}
    for turn in bar(range(rounds), "measuring", "rounds"):
        for name in random.Random(turn).sample(list(draws), len(draws)):
            requests = list(map(Request, draws[name](turn), asked))
            answers, seconds = ask_all(server, base, requests, TOKENS, CLIENTS)
            failed = [answer for answer in answers if len(answer.tokens) != TOKENS]
            if failed:
                raise SystemExit(f"{name}: {len(failed)} of {REQUESTS} requests failed: {failed[0]}")
            samples[name].append(REQUESTS * TOKENS / seconds)
            print(f"  {name}: {samples[name][-1]:.1f} tokens/s", file=sys.stderr, flush=True)
    return samples


def bring_all(server: Server, base: str, count: int) -> None:
    """Have every adapter in its slot."""
    ask_all(server, base, [Request(name_of(k), [1, 2]) for k in range(count)], 1, CLIENTS)


def make_loras(folder: Path, model: Path, count: int) -> list[str]:
    """LoRA r=8 adapters of q and v, as PEFT saves them; their names."""
    import peft
    from transformers import AutoModelForCausalLM

    missing = [k for k in range(count) if not (folder / name_of(k) / "adapter_model.safetensors").is_file()]
    if missing:
        config = peft.LoraConfig(r=8, target_modules=["q_proj", "v_proj"], init_lora_weights=False)
        tuned = peft.get_peft_model(AutoModelForCausalLM.from_pretrained(model), config)
        for k in bar(missing, "making LoRA adapters", "adapters"):
            tuned.save_pretrained(str(folder / name_of(k)))
    return [name_of(k) for k in range(count)]


def lora_server(model: Path, folder: Path, names: Sequence[str]) -> list[str]:
    """The command of vLLM alone, with its own LoRA, a slot for each adapter."""
    return [
        *(sys.executable, "-m", "vllm.entrypoints.launchers.api_server.entry", "--model", str(model)),
        *("--served-model-name", model.name, "--host", "127.0.0.1", "--port", "{port}", "--dtype", "float32"),
        *("--max-model-len", "256", "--max-num-seqs", "16", "--no-enable-prefix-caching", "--enable-lora"),
        *("--max-loras", str(len(names)), "--max-lora-rank", "8", "--disable-uvicorn-access-log"),
        *("--lora-modules", *(f"{name}={folder / name}" for name in names)),
    ]
