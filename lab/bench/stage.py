"""A stage: one base model whose weights all contenders share, and the truth of its adapted results."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch

from lab.bench.harness import Settings, relative_rms
from lab.bench.methods import (
    adapt,
    coefficients_of,
    fill,
    merge_truth,
    spectra,
    targeted,
    true_gradients,
    visible_scaling,
)
from lab.bench.models import ARCHITECTURES, Model, build, draw_batch, share

N_FREQUENCY = 1000  # of query and value alone
N_EVERY = 340  # of every linear layer


class Stage:
    """Builds on first use, so that listing cases costs nothing.

    Args:
        name: of the architecture.
        settings: of the run.
        every: whether every linear layer of a block is adapted.
        like: another stage, whose base model this one has.
    """

    def __init__(self, name: str, settings: Settings, every: bool = False, like: Stage | None = None) -> None:
        self.settings, self.like = settings, like
        self.architecture = architecture = ARCHITECTURES[name]
        if settings.grid == "smoke":
            self.architecture = replace(architecture, tokens=min(architecture.tokens, 128))
        self.n = 100 if settings.grid == "smoke" else N_EVERY if every else N_FREQUENCY
        self.targets = self.architecture.every if every else self.architecture.targets

    def shapes(self) -> dict[str, object]:
        """What a training step's row tells of its shapes."""
        a = self.architecture
        return {"batch": a.batch, "tokens": a.tokens or "image", "targets": ",".join(self.targets), "n": self.n}

    @functools.cached_property
    def base(self) -> Model:
        if self.like is not None:
            return self.like.base
        with torch.device(self.settings.device):
            return build(self.architecture, self.settings.grid).to(self.settings.torch_dtype)

    @functools.cached_property
    def batch(self) -> dict[str, torch.Tensor]:
        """Inputs and labels of a training step."""
        return draw_batch(self.architecture, self.base, self.settings.device, self.settings.torch_dtype)

    @functools.cached_property
    def scaling(self) -> float:
        """Alpha of the spectral methods."""
        return visible_scaling(self.base, self.targets, self.n)

    @functools.cached_property
    def paths(self) -> list[str]:
        """The adapted layers, in the order of the model."""
        return list(targeted(self.base, self.targets))

    def coefficients(self, seed: int = 0) -> dict[str, torch.Tensor]:
        """Coefficients of the adapter with this seed."""
        return coefficients_of(self.paths, self.n, seed)

    def adapted(
        self, method: str, adapters: Sequence[str] = ("default",), own: Sequence[str] = (), train: bool = False
    ) -> Model:
        """The model under a method, adapter i filled from seed i.

        Args:
            method: see `lab.bench.methods.adapt`.
            adapters: their names.
            own: names of modules whose weights this copy gets for itself, beside the head.
            train: prepare for training, with gradients down to the embeddings' output.
        """
        head = self.architecture.head
        kept = (*own, *([head] if head else []))
        model = share(self.base, own=lambda name: not set(kept).isdisjoint(name.split(".")))
        if train:
            model.enable_input_require_grads()
        heads = [head] if head else None
        model = adapt(model, method, self.targets, self.n, self.scaling, adapters, modules_to_save=heads)
        for seed, adapter in enumerate(adapters):
            fill(model, self.coefficients(seed), adapter)
        return model.train(train)

    def merged(self, coefficients: Mapping[str, torch.Tensor]) -> Model:
        """The base with dW of the float64 cosine sum in its weights, in float32 whatever the base has."""
        model = share(self.base)
        if self.settings.dtype != "float32":
            with torch.device(self.settings.device):
                model = build(self.architecture, self.settings.grid)
            model.load_state_dict(self.base.state_dict())
        merge_truth(model, coefficients, self.scaling)
        return model.eval()

    @functools.cached_property
    def truth(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits and coefficient gradients of the training step, by way of the merged weights."""
        coefficients = self.coefficients()
        model = self.merged(coefficients).train()
        batch = {k: v.float() if v.is_floating_point() else v for k, v in self.batch.items()}
        out = model(**batch)
        out.loss.backward()
        gradients = true_gradients(model, coefficients, self.scaling)
        return out.logits.detach(), torch.cat([gradients[path] for path in self.paths])

    def distance(self, model: Model) -> float:
        """Distance of a training step to the truth, in its logits and coefficient gradients: the larger of both."""
        model.zero_grad()
        out = model(**self.batch)
        out.loss.backward()
        found: dict[str, Any] = spectra(model)
        gradients = torch.cat([found[path].grad for path in self.paths])
        return max(relative_rms(out.logits.detach(), self.truth[0]), relative_rms(gradients, self.truth[1]))
