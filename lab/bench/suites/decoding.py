"""Suite (c): decoding with a key-value cache, adapters not merged; one adapter for all rows, and one for each row.

One repetition feeds a few tokens, one by one, to a model that has read a prompt; the result is seconds a token. In
the mixed cases the rows name their adapters (PEFT's `adapter_names`), in four popularities: distinct, uniform, Zipf,
identical. In the last cases calls with one adapter and mixed calls take turns, token by token, as a server's do. The
truth is the model with dW merged, without a cache, one adapter after the other.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import nn
from transformers.modeling_outputs import CausalLMOutputWithPast

from lab.bench.harness import Case, Contender, Settings, relative_rms
from lab.bench.methods import METHODS, RIVALS
from lab.bench.stage import Stage
from lab.bench.suites.stock import excuse_stock

_FIELDS = [field.name for field in dataclasses.fields(CausalLMOutputWithPast)]
CACHE = "cache" if "cache" in _FIELDS else "past_key_values"  # transformers 5.24 renamed it
TITLE = "Decoding"
PROMPT = 32
STEPS = 8
ROWS = {"llama-2048": (1, 16), "smollm2-135m": (1, 8, 32)}
MIXED_ROWS = {"llama-2048": 16, "smollm2-135m": 8}  # and as many adapters
TURNS = {"smollm2-135m": (1, 16, 64)}
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
    for model, counts in TURNS.items():
        for rows in counts:
            name = f"{model}, {rows} {'row' if rows == 1 else 'rows'}, one adapter and one a row in turn"
            decoders = [Decoder(stages[model], rows, popularity, min(rows, 8)) for popularity in (None, "distinct")]
            yield Turns(*decoders).case(name, ("base", "lora-8", "ours"))


class Decoder:
    """Rows of one model, the adapter of each, the tokens they are fed, and the true logits."""

    def __init__(self, stage: Stage, rows: int, popularity: str | None, adapters: int | None = None) -> None:
        self.stage, self.rows = stage, rows
        self.mixed = popularity is not None
        self.adapters = adapters or (rows if self.mixed else 1)
        self.chosen = choose(popularity, rows, self.adapters) if popularity else [0] * rows  # [rows], adapter of each

    def case(self, name: str, methods: tuple[str, ...], cannot: dict[str, str] | None = None) -> Case:
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
        logits: dict[int, torch.Tensor] = {}
        for adapter in dict.fromkeys(self.chosen):
            rows = tuple(row for row, own in enumerate(self.chosen) if own == adapter)
            logits.update(zip(rows, true_logits(self.stage, self.rows, rows, adapter), strict=True))
        return torch.stack([logits[row] for row in range(self.rows)])

    @property
    def names(self) -> list[str]:
        """Of the adapters of the model."""
        return [f"a{i}" for i in range(self.adapters)]

    def session(self, model: nn.Module, method: str) -> Session:
        """The rows on a model, prompt read."""
        named = {"adapter_names": [self.names[i] for i in self.chosen]} if self.mixed and method != "base" else {}
        return Session(model, draw_ids(self.stage, self.rows), named)

    def contender(self, method: str) -> Contender:
        model = self.stage.adapted(method, self.names)
        session = self.session(model, method)

        def distance() -> float:
            return relative_rms(self.session(model, method).decode(), self.truth)

        if method == "stock":
            error, note = excuse_stock(distance, self.stage.settings)
            return Contender(session.decode, error, note=note)
        return Contender(session.decode, distance if method.startswith("ours") else None)


class Turns:
    """Two decoders of as many rows on one model, a token of one, then a token of the other."""

    def __init__(self, first: Decoder, second: Decoder) -> None:
        self.first, self.second = first, second

    def case(self, name: str, methods: tuple[str, ...]) -> Case:
        """The line-up; a step is one of either."""
        case = self.first.case(name, methods)
        shapes = {**case.shapes, "adapters": self.second.adapters}
        contenders = {method: functools.partial(self.contender, method) for method in methods}
        return dataclasses.replace(case, shapes=shapes, contenders=contenders, operations=2 * STEPS)

    def contender(self, method: str) -> Contender:
        model = self.first.stage.adapted(method, self.first.names)
        sessions = [decoder.session(model, method) for decoder in (self.first, self.second)]

        def distance() -> float:
            found = decode_in_turn([decoder.session(model, method) for decoder in (self.first, self.second)])
            return max(
                relative_rms(y, decoder.truth) for y, decoder in zip(found, (self.first, self.second), strict=True)
            )

        return Contender(lambda: decode_in_turn(sessions), distance if method.startswith("ours") else None)


class Session:
    """A model that has read its prompt, and can decode the same steps again and again."""

    @torch.no_grad()
    def __init__(self, model: Callable[..., Any], ids: torch.Tensor, named: dict[str, Any]) -> None:
        self.model, self.ids, self.named = model, ids, named
        self.cache = model(input_ids=ids[:, :PROMPT], use_cache=True, **named)[CACHE]

    def decode(self) -> torch.Tensor:
        """Feed the steps and return their logits [rows, steps, vocabulary]."""
        return decode_in_turn([self])[0]

    @torch.no_grad()
    def feed(self, step: int) -> torch.Tensor:
        """One step: logits [rows, 1, vocabulary]."""
        token = self.ids[:, step : step + 1]
        return self.model(input_ids=token, use_cache=True, **{CACHE: self.cache}, **self.named).logits


def decode_in_turn(sessions: Sequence[Session]) -> list[torch.Tensor]:
    """Feed the steps of all sessions, one of each at a time; logits [rows, steps, vocabulary] of each."""
    logits: list[list[torch.Tensor]] = [[] for _ in sessions]
    for step in range(PROMPT, PROMPT + STEPS):
        for session, found in zip(sessions, logits, strict=True):
            found.append(session.feed(step))
    for session in sessions:
        session.cache.crop(-STEPS)
    return [torch.cat(found, dim=1) for found in logits]


@functools.lru_cache(maxsize=4)
def draw_ids(stage: Stage, rows: int) -> torch.Tensor:
    """Tokens of the prompt and of the steps, [rows, prompt + steps]."""
    size = (rows, PROMPT + STEPS)
    drawn = torch.randint(3, stage.base.config.vocab_size, size, generator=torch.Generator().manual_seed(2))
    return drawn.to(stage.settings.device)


@functools.lru_cache(maxsize=32)
@torch.no_grad()
def true_logits(stage: Stage, count: int, rows: tuple[int, ...], adapter: int) -> torch.Tensor:
    """Logits of the steps [rows, steps, vocabulary] of some rows out of so many, under one adapter."""
    model = stage.merged(stage.coefficients(adapter))
    return model(input_ids=draw_ids(stage, count)[list(rows)]).logits[:, PROMPT:]


def choose(popularity: str, rows: int, adapters: int) -> list[int]:
    """Adapter of each row, out of so many."""
    if popularity == "distinct":
        return [row % adapters for row in range(rows)]
    if popularity == "identical":
        return [0] * rows
    ranks = torch.arange(1, adapters + 1, dtype=torch.float64)
    weights = 1 / ranks if popularity == "Zipf" else torch.ones_like(ranks)
    generator = torch.Generator().manual_seed(3)
    return torch.multinomial(weights, rows, replacement=True, generator=generator).tolist()
