"""A fleet of SmolLM2-135M made from numbers, requests drawn from it, and what stock PEFT answers with each alone."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch

from fourierft.bars import bar
from fourierft.store import AdapterStore, Layout

LAYERS, N_FREQUENCY, SCALING, SIZE = 30, 1000, 150.0, 0.5  # SIZE: of a coefficient
SHAPES = {"q_proj": (576, 576), "v_proj": (192, 576)}
NAMES = [f"model.layers.{i}.self_attn.{name}" for i in range(LAYERS) for name in SHAPES]
TOKENS = 16
SETTINGS = f"n{N_FREQUENCY}-{SCALING:g}-{SIZE:g}-{TOKENS}"  # what stores and answers in the cache are good for
POPULARITIES = ("distinct", "uniform", "zipf", "identical")


class Request(NamedTuple):
    """A prompt for an adapter; None is the base."""

    adapter: str | None
    prompt: list[int]


class Question(NamedTuple):
    """A prompt for an adapter by number."""

    adapter: int
    prompt: list[int]


def fleet_layout(model: Path) -> Layout:
    """q and v of all layers, n = 1000."""
    config = {
        "peft_type": "FOURIERFT",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": str(model),
        "n_frequency": N_FREQUENCY,
        "random_loc_seed": 777,
        "scaling": SCALING,
        "target_modules": list(SHAPES),
    }
    return Layout.make(config, {name: SHAPES[name.rpartition(".")[2]] for name in NAMES})


def numbers(layout: Layout, k: int) -> torch.Tensor:
    """Coefficients of adapter k: [total n]."""
    return SIZE * torch.randn(layout.total, generator=torch.Generator().manual_seed(k))


def name_of(k: int) -> str:
    return f"tenant-{k:05d}"


def make_store(path: Path, model: Path, count: int) -> None:
    """Write the fleet, or what it lacks."""
    layout = fleet_layout(model)
    with AdapterStore(path) as store:
        store.add_many(layout, ((name_of(k), numbers(layout, k)) for k in range(len(store), count)), total=count)


def read_prompts(model: Path, count: int) -> list[list[int]]:
    """Prompts of the Alpaca demonstration through the model's chat template, one for each adapter, in turn."""
    from transformers import AutoTokenizer

    from fourierft.training.assets import obtain
    from fourierft.training.catalogue import ALPACA

    tokenizer: Any = AutoTokenizer.from_pretrained(model)
    texts = json.loads(next(obtain(ALPACA).rglob("alpaca_en_demo.json")).read_text(encoding="utf-8"))
    prompts = []
    for text in texts:
        if text["input"]:
            continue
        chat = [{"role": "user", "content": text["instruction"]}]
        tokens = tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_dict=True)["input_ids"]
        if len(tokens) <= 96:
            prompts.append(list(tokens))
    return [prompts[k % len(prompts)] for k in range(count)]


def draw(popularity: str, count: int, requests: int) -> list[int]:
    """Which adapters are asked for: each once in turn, all alike, by Zipf's law, or one alone."""
    if popularity == "distinct":
        return [k % count for k in range(requests)]
    if popularity == "identical":
        return [count // 2] * requests
    weights = [1.0 if popularity == "uniform" else 1 / (k + 1) for k in range(count)]
    return random.Random(0).choices(range(count), weights, k=requests)


def peft_answers(model: Path, file: Path, questions: Mapping[str, Question]) -> dict[str, list[int]]:
    """Greedy answers of stock PEFT with each adapter alone, merged.

    Args:
        model: folder of the base.
        file: where answers are kept, and gone on with.
        questions: by name.
    """
    import peft
    from transformers import AutoModelForCausalLM

    answers: dict[str, list[int]] = json.loads(file.read_text()) if file.exists() else {}
    missing = [name for name in questions if name not in answers]  # in their order: a smaller run finds its own
    if not missing:
        return answers
    layout = fleet_layout(model)
    base = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32).eval()
    config = {key: layout.config[key] for key in ("n_frequency", "random_loc_seed", "scaling", "target_modules")}
    tuned: Any = peft.get_peft_model(base, peft.FourierFTConfig(**config)).eval()
    layers = {name: tuned.base_model.model.get_submodule(name) for name in NAMES}
    weights = {name: layer.base_layer.weight.detach().clone() for name, layer in layers.items()}
    for done, name in enumerate(bar(missing, "asking stock PEFT", "answers")):
        adapter, prompt = questions[name]
        with torch.no_grad():
            for layer, coefficients in layout.split(numbers(layout, adapter)).items():
                layers[layer].fourierft_spectrum["default"].copy_(coefficients)
            tuned.merge_adapter()
            answers[name] = greedy(base, prompt)
            for own, merged in layers.items():  # unmerging would leave a rounding
                merged.base_layer.weight.copy_(weights[own])
                merged.merged_adapters.clear()
        if done % 50 == 49 or name == missing[-1]:
            keep(file, json.dumps(answers))
    return answers


def keep(file: Path, text: str) -> None:
    """Write a file, whole or not at all."""
    beside = file.with_suffix(".tmp")
    beside.write_text(text)
    os.replace(beside, file)


def greedy(model: Any, prompt: list[int], count: int = TOKENS) -> list[int]:
    tokens = torch.tensor([prompt])
    answer = model.generate(
        input_ids=tokens,
        attention_mask=torch.ones_like(tokens),
        max_new_tokens=count,
        do_sample=False,
        eos_token_id=None,
        pad_token_id=0,
    )
    return answer[0, len(prompt) :].tolist()
