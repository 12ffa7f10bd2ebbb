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

from benchmarks.harness import Case, Contender, Settings, relative_rms
from benchmarks.methods import METHODS, adapt, draw_coefficients, merge_truth, spectra, true_gradients, visible_scaling
from benchmarks.models import ARCHITECTURES, Architecture, build, draw_batch, share
from benchmarks.suites.stock import excuse_stock

TITLE = "Training step of whole models"
MODELS = ("roberta-base", "llama-2048", "gpt2", "vit-base")
N_FREQUENCY = 1000
CANNOT = {"gpt2": {"road": "RoAd adapts nn.Linear only, GPT-2 has Conv1D"}}


def cases(settings: Settings) -> Iterator[Case]:
    """A case a model."""
    for name in MODELS:
        setting = Stage(ARCHITECTURES[name], settings)
        cannot = CANNOT.get(name, {})
        names = (
            "base",
            *(m for m in METHODS if m not in cannot),
            *(("ours-bare",) if "ours-bare" in settings.only else ()),
        )
        yield Case(
            name=name,
            shapes=setting.shapes(),
            contenders={method: functools.partial(setting.contender, method) for method in names},
            cannot=cannot,
        )


class Stage:
    """One base model whose weights all contenders share, its batch, and the truth of its adapted step."""

    def __init__(self, architecture: Architecture, settings: Settings) -> None:
        self.architecture, self.settings = architecture, settings
        self.n = 100 if settings.grid == "smoke" else N_FREQUENCY

    def shapes(self) -> dict[str, object]:
        a = self.architecture
        return {"batch": a.batch, "tokens": a.tokens or "image", "targets": ",".join(a.targets), "n": self.n}

    @functools.cached_property
    def base(self) -> nn.Module:
        return build(self.architecture, self.settings.grid).to(self.settings.device, self.settings.torch_dtype)

    @functools.cached_property
    def batch(self) -> dict[str, torch.Tensor]:
        return draw_batch(self.architecture, self.base, self.settings.device, self.settings.torch_dtype)

    @functools.cached_property
    def scaling(self) -> float:
        return visible_scaling(self.base, self.architecture.targets, self.n)

    def adapted(self, method: str) -> nn.Module:
        """The model under a method, ready for a step."""
        head = self.architecture.head
        model = share(self.base, own=lambda name: head is not None and name.startswith(head))
        model.enable_input_require_grads()
        heads = [head] if head else None
        model = adapt(model, method, self.architecture.targets, self.n, self.scaling, modules_to_save=heads)
        draw_coefficients(model)
        return model.train()

    @functools.cached_property
    def truth(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits and coefficient gradients of the step, dW from the float64 cosine sum, the model in float32."""
        coefficients = {path: c.detach() for path, c in spectra(self.adapted("stock")).items()}
        model = build(self.architecture, self.settings.grid).to(self.settings.device)
        model.load_state_dict(self.base.state_dict())
        merge_truth(model, coefficients, self.scaling)
        batch = {k: v.float() if v.is_floating_point() else v for k, v in self.batch.items()}
        out = model.train()(**batch)
        out.loss.backward()
        gradients = true_gradients(model, coefficients, self.scaling)
        return out.logits.detach(), torch.cat([gradients[path] for path in sorted(gradients)])

    def distance(self, model: nn.Module) -> float:
        """Distance of a step to the truth, in its logits and its coefficient gradients: the larger of both."""
        model.zero_grad()
        out = model(**self.batch)
        out.loss.backward()
        found = spectra(model)
        gradients = torch.cat([found[path].grad for path in sorted(found)])
        return max(relative_rms(out.logits.detach(), self.truth[0]), relative_rms(gradients, self.truth[1]))

    def contender(self, method: str) -> Contender:
        model = self.adapted(method)
        run = training_step(model, self.batch)
        if method == "stock":
            error, note = excuse_stock(functools.partial(self.distance, model), self.settings)
            return Contender(run, error, note=note)
        return Contender(run, functools.partial(self.distance, model) if method.startswith("ours") else None)


def training_step(model: nn.Module, batch: dict[str, torch.Tensor]) -> Callable[[], None]:
    """The step as a function."""
    trainable = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trainable, lr=1e-5, fused=True) if trainable else None

    def step() -> None:
        model(**batch).loss.backward()
        if optimizer is not None:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)

    return step
