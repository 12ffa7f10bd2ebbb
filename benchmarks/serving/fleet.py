"""A fleet of SmolLM2-135M made from numbers, requests drawn from it, and what stock PEFT answers with each alone."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from tqdm import tqdm

from fourierft.adapters.store import AdapterStore, Layout

LAYERS, N_FREQUENCY, SCALING, SIZE = 30, 1000, 150.0, 0.25  # SIZE: of a coefficient, as training leaves them
SHAPES = {"q_proj": (576, 576), "v_proj": (192, 576)}
NAMES = [f"model.layers.{i}.self_attn.{name}" for i in range(LAYERS) for name in SHAPES]
TOKENS = 16
POPULARITIES = ("distinct", "uniform", "zipf", "identical")


class Request(NamedTuple):
    """A prompt for an adapter; None is the base."""

    adapter: str | None
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
    """Name of adapter k."""
    return f"tenant-{k:05d}"


def make_store(path: Path, model: Path, count: int) -> None:
    """Write the fleet, or what it lacks."""
    layout = fleet_layout(model)
    with AdapterStore(path) as store:
        store.add_many(layout, ((name_of(k), numbers(layout, k)) for k in range(len(store), count)), total=count)


def read_prompts(model: Path, count: int) -> list[list[int]]:
    """Prompts of the Alpaca demonstration through the model's chat template, one for each adapter, in turn."""
    from transformers import AutoTokenizer

    from fourierft.training.assets import ALPACA, obtain

    tokenizer = AutoTokenizer.from_pretrained(model)
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


def peft_answers(model: Path, folder: Path, prompts: Sequence[list[int]], count: int) -> list[list[int]]:
    """Greedy answers of stock PEFT with each adapter alone, merged; the base's last. Kept in a file, and gone on with.

    Args:
        model: folder of the base.
        folder: for answers.json.
        prompts: one for each adapter.
        count: adapters.
    """
    import peft
    from transformers import AutoModelForCausalLM

    file = folder / "answers.json"
    answers: dict[str, list[int]] = json.loads(file.read_text()) if file.exists() else {}
    layout = fleet_layout(model)
    base = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32).eval()
    config = {key: layout.config[key] for key in ("n_frequency", "random_loc_seed", "scaling", "target_modules")}
    tuned = peft.get_peft_model(base, peft.FourierFTConfig(**config)).eval()
    layers = {name: tuned.base_model.model.get_submodule(name) for name in NAMES}
    weights = {name: layer.base_layer.weight.detach().clone() for name, layer in layers.items()}
    for k in tqdm(range(count + 1), desc="answers of stock PEFT", disable=None):
        if str(k) in answers:
            continue
        with torch.no_grad():
            if k < count:
                for name, coefficients in layout.split(numbers(layout, k)).items():
                    layers[name].fourierft_spectrum["default"].copy_(coefficients)
                tuned.merge_adapter()
            answers[str(k)] = greedy(base if k == count else tuned, prompts[k % len(prompts)], k == count and tuned)
            if k < count:
                tuned.unmerge_adapter()
                for name, layer in layers.items():
                    layer.base_layer.weight.copy_(weights[name])  # unmerging leaves a rounding
        if k % 50 == 49 or k == count:
            file.write_text(json.dumps(answers))
    return [answers[str(k)] for k in range(count + 1)]


def greedy(model: Any, prompt: list[int], tuned: Any = None) -> list[int]:
    """The next tokens; with `tuned`, those of its base."""
    from contextlib import nullcontext

    tokens = torch.tensor([prompt])
    with tuned.disable_adapter() if tuned else nullcontext():
        answer = model.generate(
            input_ids=tokens,
            attention_mask=torch.ones_like(tokens),
            max_new_tokens=TOKENS,
            do_sample=False,
            eos_token_id=None,
            pad_token_id=0,
        )
    return answer[0, len(prompt) :].tolist()
