"""Unequal n per layer, the sum fixed: more coefficients where the gradient of the weight is larger."""

from __future__ import annotations

import contextlib
import io
import math
import tempfile
from collections.abc import Mapping
from typing import Any

import torch

from fourierft.training.comparison.grid import QUIET
from fourierft.training.comparison.tasks import Task
from fourierft.training.method_parser import Method
from fourierft.training.plan import plan_training
from fourierft.training.run import build_trainer
from fourierft.training.settings import build_arguments
from fourierft.tuner.layer import FourierFTLayer

BATCHES = 8
LEAST = 16


def with_counts(task: Task, method: Method) -> Method:
    """The method with as many coefficients in all, a layer's share by its gradient's norm at the start.

    Args:
        method: FourierFT with an equal n.
    """
    assert method.config is not None
    norms = gradient_norms(task, method.config["target_modules"])
    pattern = share_out(norms, method.config["n_frequency"] * len(norms))
    return Method(
        f"{method.spec},counts=gradient",
        method.family,
        f"{method.title}, n by gradient",
        {**method.config, "n_frequency_pattern": pattern},
    )


def share_out(norms: Mapping[str, float], total: int) -> dict[str, int]:
    """`total` coefficients over layers: LEAST each, the rest in proportion to the norms, largest remainders first."""
    left, whole = total - LEAST * len(norms), sum(norms.values())
    shares = {name: left * norm / whole for name, norm in norms.items()}
    counts = {name: math.floor(share) for name, share in shares.items()}
    last = sorted(shares, key=lambda name: counts[name] - shares[name])[: left - sum(counts.values())]
    return {name: LEAST + count + (name in last) for name, count in counts.items()}


def gradient_norms(task: Task, target_modules: Any) -> dict[str, float]:
    """Frobenius norm of the gradient of each layer's weight, summed over BATCHES batches of the untrained model."""
    with tempfile.TemporaryDirectory() as scratch, contextlib.redirect_stdout(io.StringIO()):
        settings = {**QUIET, **task.prepare(), "method": "fourierft", "n_frequency": 1, "output_dir": scratch}
        arguments = build_arguments({**settings, "target_modules": target_modules, "learning_rate": 1e-3, "seed": 0})
        prepared = plan_training(arguments)
        trainer = build_trainer(prepared)
        model = prepared.trainable.model
        layers = {name: layer for name, layer in model.named_modules() if isinstance(layer, FourierFTLayer)}
        for layer in layers.values():
            layer.get_base_layer().weight.requires_grad_(True)
        model.train()
        for _, batch in zip(range(BATCHES), trainer.get_train_dataloader(), strict=False):
            model(**trainer._prepare_inputs(batch)).loss.backward()
    start = len("base_model.model.")
    gradients = {name[start:]: layer.get_base_layer().weight.grad for name, layer in layers.items()}
    return {name: float(torch.linalg.norm(gradient)) for name, gradient in gradients.items()}
