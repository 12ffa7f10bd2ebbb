"""Suite (a): a training step of whole models, as a multiple of the step of the frozen base.

A step is forward, backward and optimiser (fused AdamW over whatever is trainable). In every contender the embeddings'
output requires a gradient, so all go backward through all layers down to the input, and what an adapter adds is all
that differs. The base trains the head where the task has one, and nothing otherwise.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator

import torch
from torch import nn

from lab.bench.harness import Case, Contender, Settings
from lab.bench.methods import METHODS
from lab.bench.stage import Stage
from lab.bench.suites.stock import excuse_stock

TITLE = "Training step of whole models"
MODELS = ("roberta-base", "llama-2048", "gpt2", "vit-base")
CANNOT = {"gpt2": {"road": "RoAd adapts nn.Linear only, GPT-2 has Conv1D"}}


def cases(settings: Settings) -> Iterator[Case]:
    """A case a model."""
    for name in MODELS:
        stage, cannot = Stage(name, settings), CANNOT.get(name, {})
        methods = ("base", *(m for m in METHODS if m not in cannot), *({"ours-bare"} & {*settings.only}))
        builders = {method: functools.partial(contender, stage, method) for method in methods}
        yield Case(name=name, shapes=stage.shapes(), contenders=builders, cannot=cannot)


def contender(stage: Stage, method: str) -> Contender:
    """A method's training step."""
    model = stage.adapted(method, train=True)
    run, distance = training_step(model, stage.batch), functools.partial(stage.distance, model)
    if method == "stock":
        error, note = excuse_stock(distance, stage.settings)
        return Contender(run, error, note=note)
    return Contender(run, distance if method.startswith("ours") else None)


def training_step(model: nn.Module, batch: dict[str, torch.Tensor]) -> Callable[[], None]:
    trainable = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trainable, lr=1e-5, fused=True) if trainable else None

    def step() -> None:
        model(**batch).loss.backward()
        if optimizer is not None:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)

    return step
