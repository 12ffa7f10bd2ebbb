"""Suite (c): decoding with a key-value cache, adapters not merged; one adapter for all rows, and one for each row.

One repetition feeds a few tokens, one by one, to a model that has read a prompt; the result is seconds a token. In
the mixed cases the rows name their adapters (PEFT's `adapter_names`), in four popularities: distinct, uniform, Zipf,
identical. The truth is the model with dW merged, without a cache, one adapter after the other.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from benchmarks.harness import Case, Contender, Settings, relative_rms
from benchmarks.methods import METHODS, RIVALS
from benchmarks.stage import Stage
from benchmarks.suites.stock import excuse_stock

TITLE = "Decoding"
PROMPT = 32
STEPS = 8
ROWS = {"llama-2048": (1, 16), "smollm2-135m": (1, 8, 32)}
MIXED_ROWS = {"llama-2048": 16, "smollm2-135m": 8}  # and as many adapters
POPULARITIES = ("distinct", "uniform", "Zipf", "identical")
IGNORED = {"stock": "stock PEFT ignores adapter_names: every row silently gets the active adapter"}


def cases(settings: Settings) -> Iterator[Case]:
    """Models and rows with one adapter, then the popularities of many."""
    stages = {model: Stage(model, settings) for model in ROWS}
    for model, counts in ROWS.items():
        for rows in counts:
            name = f"{model}, {rows} {'row' if rows == 1 else 'rows'}, one adapter"
            yield Decoder(stages[model], rows, None).case(name, ("base", *METHODS))
    for model, rows in MIXED_ROWS.items():
        for popularity in POPULARITIES:
            name = f"{model}, {rows} rows, {rows} adapters, {popularity}"
            yield Decoder(stages[model], rows, popularity).case(name, ("base", *RIVALS, "ours"), IGNORED)


class Decoder:
    """Rows of one model, the adapter of each, the tokens they are fed, and the true logits."""

    def __init__(self, stage: Stage, rows: int, popularity: str | None) -> None:
        self.stage, self.rows = stage, rows
        self.mixed = popularity is not None
        self.chosen = choose(popularity, rows) if popularity else [0] * rows  # [rows], adapter of each

    def case(self, name: str, methods: tuple[str, ...], cannot: dict[str, str] | None = None) -> Case:
        """The line-up."""
        adapters = len(set(self.chosen))
        shapes = {"rows": self.rows, "adapters": adapters, "prompt": PROMPT, "steps": STEPS, "n": self.stage.n}
        return Case(
            name=name,
            shapes={**shapes, "targets": ",".join(self.stage.targets)},
            contenders={method: functools.partial(self.contender, method) for method in methods},
            cannot=cannot or {},
            operations=STEPS,
        )

    @functools.cached_property
    def truth(self) -> torch.Tensor:
        """Logits [rows, steps, vocabulary]."""
        logits = [true_logits(self.stage, self.rows, adapter)[row] for row, adapter in enumerate(self.chosen)]
        return torch.stack(logits)

    def contender(self, method: str) -> Contender:
        adapters = [f"a{i}" for i in range(self.rows)] if self.mixed else ["default"]
        model = self.stage.adapted(method, adapters)
        named: dict[str, Any] = {}
        if self.mixed and method != "base":
            named["adapter_names"] = [adapters[i] for i in self.chosen]
        ids = draw_ids(self.stage, self.rows)
        session = Session(model, ids, named)

        def distance() -> float:
            return relative_rms(Session(model, ids, named).decode(), self.truth)

        if method == "stock":
            error, note = excuse_stock(distance, self.stage.settings)
            return Contender(session.decode, error, note=note)
        return Contender(session.decode, distance if method.startswith("ours") else None)


class Session:
    """A model that has read its prompt, and can decode the same steps again and again."""

    @torch.no_grad()
    def __init__(self, model: nn.Module, ids: torch.Tensor, named: dict[str, Any]) -> None:
        self.model, self.ids, self.named = model, ids, named
        self.cache = model(input_ids=ids[:, :PROMPT], use_cache=True, **named).past_key_values

    @torch.no_grad()
    def decode(self) -> torch.Tensor:
        """Feed the steps and return their logits [rows, steps, vocabulary]."""
        logits = []
        for step in range(PROMPT, PROMPT + STEPS):
            token = self.ids[:, step : step + 1]
            out = self.model(input_ids=token, past_key_values=self.cache, use_cache=True, **self.named)
            logits.append(out.logits)
        self.cache.crop(-STEPS)
        return torch.cat(logits, dim=1)


@functools.lru_cache(maxsize=4)
def draw_ids(stage: Stage, rows: int) -> torch.Tensor:
    """Tokens of the prompt and of the steps, [rows, prompt + steps]."""
    size = (rows, PROMPT + STEPS)
    drawn = torch.randint(3, stage.base.config.vocab_size, size, generator=torch.Generator().manual_seed(2))
    return drawn.to(stage.settings.device)


@functools.lru_cache(maxsize=32)
@torch.no_grad()
def true_logits(stage: Stage, rows: int, adapter: int) -> torch.Tensor:
    """Logits of the steps [rows, steps, vocabulary], all rows under one adapter."""
    model = stage.merged(stage.coefficients(adapter))
    return model(input_ids=draw_ids(stage, rows)).logits[:, PROMPT:]


def choose(popularity: str, rows: int) -> list[int]:
    """Adapter of each row, out of as many adapters as rows."""
    if popularity == "distinct":
        return list(range(rows))
    if popularity == "identical":
        return [0] * rows
    ranks = torch.arange(1, rows + 1, dtype=torch.float64)
    weights = 1 / ranks if popularity == "Zipf" else torch.ones_like(ranks)
    generator = torch.Generator().manual_seed(3)
    return torch.multinomial(weights, rows, replacement=True, generator=generator).tolist()
