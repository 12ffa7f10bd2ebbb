"""The table of the server: exactness, throughput, memory.

    python -m benchmarks.serving exact --adapters 1000      every answer against stock PEFT alone, token for token
    python -m benchmarks.serving throughput --adapters 1000 tokens a second: the base, a fleet, and LoRA r=8
    python -m benchmarks.serving burst                      10,000 requests at once
    python -m benchmarks.serving memory                     10,000 slots at the shapes of LLaMA-2 7B, counted

Runs in .venv-vllm. SmolLM2-135M in float32 on a CPU, adapters of q and v, n = 1000, made from their numbers. Prints a
JSON object. VLLM_CPU_OMP_THREADS_BIND says on which cores the engine computes.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import torch

from benchmarks.machine import cpu_model
from benchmarks.serving.fleet import (
    POPULARITIES,
    TOKENS,
    Request,
    draw,
    make_store,
    name_of,
    peft_answers,
    read_prompts,
)
from benchmarks.serving.server import ask_all, fleet_server, running

CLIENTS = 16


def exact(model: Path, folder: Path, count: int, slots: int) -> dict[str, Any]:
    """Requests of each popularity, and one prompt through 64 adapters twice: how many answers are PEFT's."""
    store = folder / f"fleet-{count}.db"
    make_store(store, model, count)
    prompts = read_prompts(model, count)
    expected = peft_answers(model, folder, prompts, count)
    results: dict[str, Any] = {"adapters": count, "slots": slots}
    with running(fleet_server(model, store, slots), folder / "server.log") as address:
        for popularity in POPULARITIES:
            drawn = draw(popularity, count, count)
            requests = [Request(name_of(k), prompts[k]) for k in drawn]
            answers, seconds = ask_all(address, model.name, requests, TOKENS, CLIENTS)
            right = sum(answer.tokens == expected[k] for answer, k in zip(answers, drawn, strict=True))
            results[popularity] = {"right": right, "of": count, "seconds": round(seconds, 1)}
            results[popularity]["wrong"] = [
                name_of(k) for answer, k in zip(answers, drawn, strict=True) if answer.tokens != expected[k]
            ][:10]
        plain, _ = ask_all(address, model.name, [Request(None, prompt) for prompt in prompts], TOKENS, CLIENTS)
        results["of all, unlike the base"] = sum(a.tokens != expected[k] for k, a in enumerate(plain))
    return results


def throughput(model: Path, folder: Path, count: int, slots: int) -> dict[str, Any]:
    """Tokens a second: the base and the fleet on one server, evicting and resident, then vLLM's LoRA r=8."""
    store, tokens, requests = folder / f"fleet-{count}.db", 64, 8 * CLIENTS
    make_store(store, model, count)
    prompts = read_prompts(model, count)

    def rate(address: str, names: list[str | None]) -> float:
        asked = [Request(name, prompts[k % len(prompts)][:48]) for k, name in enumerate(names)]
        ask_all(address, model.name, asked[:CLIENTS], 8, CLIENTS)
        answers, seconds = ask_all(address, model.name, asked, tokens, CLIENTS)
        assert {answer.status for answer in answers} == {200}
        return round(len(names) * tokens / seconds, 1)

    results: dict[str, Any] = {"clients": CLIENTS, "tokens": tokens, "requests": requests}
    for kind, number in (("evicting", slots), ("resident", count)):
        with running(fleet_server(model, store, number, "--no-enable-prefix-caching"), folder / "s.log") as address:
            own: dict[str, Any] = {"slots": number}
            for popularity in ("distinct", "uniform", "zipf", "identical"):
                if kind == "resident":  # all of them in their slots before the clock starts
                    ask_all(address, model.name, [Request(name_of(k), [1, 2]) for k in range(count)], 1, CLIENTS)
                drawn = draw(popularity, count, requests)
                base = rate(address, [None] * requests)
                fleet = rate(address, [name_of(k) for k in drawn])
                own[popularity] = {"base": base, "fleet": fleet, "ratio": round(fleet / base, 3)}
            results[kind] = own
    results["LoRA r=8"] = {}
    for number in (CLIENTS, 64, 256):
        names = make_loras(folder / "loras", model, number)
        command = lora_server(model, folder / "loras", names)
        with running(command, folder / "lora.log") as address:
            base = rate(address, [None] * requests)
            lora = rate(address, [names[k % number] for k in range(requests)])
            results["LoRA r=8"][number] = {"base": base, "lora": lora, "ratio": round(lora / base, 3)}
    return results


def burst(model: Path, folder: Path, count: int, slots: int, requests: int = 10_000) -> dict[str, Any]:
    """Requests all at once, and one after them."""
    store = folder / f"fleet-{count}.db"
    make_store(store, model, count)
    prompts = read_prompts(model, count)
    command = fleet_server(model, store, slots)
    command[command.index("--requests") + 1] = "1024"
    with running(command, folder / "server.log") as address:
        asked = [Request(name_of(k), prompts[k]) for k in draw("uniform", count, requests)]
        answers, seconds = ask_all(address, model.name, asked, 2, requests)
        after, _ = ask_all(address, model.name, asked[:1], 2, 1)
    statuses = Counter(answer.status for answer in answers)
    return {"requests": requests, "statuses": dict(statuses), "seconds": seconds, "after": after[0].status}


def memory(slots: int = 10_000) -> dict[str, Any]:
    """Bytes of the tables at the shapes of LLaMA-2 7B: q and v, 32 layers x 4096, n = 1000; nothing is allocated."""
    from fourierft.adapters.store import Layout
    from fourierft.serving.residents import Residents

    names = [f"model.layers.{i}.self_attn.{name}_proj" for i in range(32) for name in "qv"]
    layout = Layout.make({"peft_type": "FOURIERFT", "n_frequency": 1000}, dict.fromkeys(names, (4096, 4096)))
    sizes = {}
    for dtype in ("float32", "bfloat16", "int8"):
        sizes[dtype] = Residents(slots, dtype, torch.device("meta"), [layout]).nbytes
    return {"slots": slots, "numbers": layout.total, "bytes": sizes}


def make_loras(folder: Path, model: Path, count: int) -> list[str]:
    """LoRA r=8 adapters of q and v, as PEFT saves them."""
    import peft
    from transformers import AutoModelForCausalLM

    missing = [k for k in range(count) if not (folder / name_of(k)).is_dir()]
    if missing:
        config = peft.LoraConfig(r=8, target_modules=["q_proj", "v_proj"], init_lora_weights=False)
        tuned = peft.get_peft_model(AutoModelForCausalLM.from_pretrained(model), config)
        for k in missing:
            tuned.save_pretrained(folder / name_of(k))
    return [name_of(k) for k in range(count)]


def lora_server(model: Path, folder: Path, names: list[str]) -> list[str]:
    """vLLM alone, with its own LoRA, a slot for each adapter."""
    return [
        *(sys.executable, "-m", "vllm.entrypoints.launchers.api_server.entry", "--model", str(model)),
        *("--served-model-name", model.name, "--host", "127.0.0.1", "--port", "{port}", "--dtype", "float32"),
        *("--max-model-len", "256", "--max-num-seqs", "16", "--no-enable-prefix-caching", "--enable-lora"),
        *("--max-loras", str(len(names)), "--max-lora-rank", "8", "--disable-uvicorn-access-log"),
        *("--lora-modules", *(f"{name}={folder / name}" for name in names)),
    ]


def main() -> None:
    """Run what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("exact", "throughput", "burst", "memory"))
    parser.add_argument("--adapters", type=int, default=1000, help="default: %(default)s")
    parser.add_argument("--slots", type=int, default=64, help="default: %(default)s")
    parser.add_argument("--folder", help="for stores, logs and PEFT's answers, which are used again")
    arguments = parser.parse_args()
    os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")
    results: dict[str, Any] = {"what": arguments.what, "cpu": cpu_model()}
    if arguments.what == "memory":
        results |= memory()
    else:
        from fourierft.training.assets import SMOLLM2
        from fourierft.training.conversion import convert, convert_gguf

        model = convert(SMOLLM2, convert_gguf)
        work = {"exact": exact, "throughput": throughput, "burst": burst}[arguments.what]
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(arguments.folder or temporary)
            folder.mkdir(parents=True, exist_ok=True)
            results |= work(model, folder, arguments.adapters, arguments.slots)
    print(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()
