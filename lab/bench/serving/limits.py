"""What the server bears: thousands of requests at once, and slots at the size of LLaMA-2 7B."""

from __future__ import annotations

from pathlib import Path

import torch

from lab.bench.serving.fleet import Request, draw, make_store, name_of, read_prompts
from lab.bench.serving.record import Record, one
from lab.bench.serving.server import ask_all, fleet_server, running

AT_ONCE = 1024  # requests that the server takes, its default


def burst_name(requests: int) -> str:
    return f"{requests:,} requests at once"


def memory_name(slots: int) -> str:
    return f"{slots:,} slots, LLaMA-2 7B, q and v"


def burst(model: Path, folder: Path, count: int, slots: int, record: Record, requests: int) -> None:
    """Requests all at once, and one after them."""
    if record.has(burst_name(requests)):
        return
    store = folder / f"fleet-{count}.db"
    make_store(store, model, count)
    prompts = read_prompts(model, count)
    command = fleet_server(model, store, slots)
    command[command.index("--requests") + 1] = str(AT_ONCE)
    with running(command, folder / "burst.log") as server:
        asked = [Request(name_of(k), prompts[k]) for k in draw("uniform", count, requests)]
        answers, seconds = ask_all(server, model.name, asked, 2, requests)
        after, _ = ask_all(server, model.name, asked[:1], 2, 1)
    answered = sum(answer.status == 200 and len(answer.tokens) == 2 for answer in answers)
    refused = sum(answer.status == 429 and answer.error is not None for answer in answers)
    for odd in [answer for answer in answers if answer.status not in (200, 429)][:5]:
        print(odd)
    figures = {"answered": one(answered), "refused with 429": one(refused)}
    figures |= {"anything else": one(requests - answered - refused), "seconds": one(seconds, "s")}
    record.add(burst_name(requests), {**figures, "answered after it": one(after[0].status == 200)})


def memory(record: Record, slots: int = 10_000) -> None:
    """Bytes of the tables at the shapes of LLaMA-2 7B: q and v, 32 layers x 4096, n = 1000; nothing is allocated."""
    from fourierft.serving.residents import Residents
    from fourierft.store import Layout

    names = [f"model.layers.{i}.self_attn.{name}_proj" for i in range(32) for name in "qv"]
    layout = Layout.make({"peft_type": "FOURIERFT", "n_frequency": 1000}, dict.fromkeys(names, (4096, 4096)))
    figures = {"numbers in a slot": one(layout.total)}
    for dtype in ("float32", "bfloat16", "int8"):
        figures[dtype] = one(Residents(slots, dtype, torch.device("meta"), [layout]).nbytes, "B")
    record.add(memory_name(slots), figures)
