"""The picture of docs/math.md: entries, the wave of one coefficient, and the weight change that all of them add up to.

    python -m lab paper mathematics

Draws docs/img/mathematics.png; a seed decides all of it, so that the picture is the same each time.
"""

from __future__ import annotations

import argparse

import torch

from fourierft import SpectralBasis, delta_weight, uniform_entries
from fourierft.adapters.figure import new_figure, save_figure
from fourierft.training.comparison.plots import COLOURS
from lab.folders import DOCS

PICTURE = DOCS / "img" / "mathematics.png"
OUT, IN, COUNT, SEED = 48, 64, 12, 777


def weights(count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The entries [2, COUNT], and the change [OUT, IN] of the first `count` coefficients, the others being zero."""
    entries = uniform_entries(OUT, IN, n_frequency=COUNT, seed=SEED)
    coefficients = torch.randn(COUNT, dtype=torch.float64, generator=torch.Generator().manual_seed(SEED))
    coefficients[count:] = 0
    return entries, delta_weight(coefficients, SpectralBasis(OUT, IN, entries), scaling=float(OUT * IN))


def run(arguments: argparse.Namespace) -> int:
    entries, wave = weights(1)
    _, change = weights(COUNT)
    figure = new_figure(10, 3.2)
    plane, *images = figure.subplots(1, 3)
    plane.scatter(entries[1, 1:], entries[0, 1:], color=COLOURS["lora"], s=40)
    plane.scatter(entries[1, :1], entries[0, :1], color=COLOURS["fourierft"], s=90, marker="s")
    plane.set(xlim=(-1, IN), ylim=(OUT, -1), xlabel="v, frequency along the inputs", ylabel="u, along the outputs")
    plane.set_title(f"{COUNT} of {OUT * IN:,} entries (u, v)")
    for axes, values, title in zip(
        images, (wave, change), ("the wave of the marked one", f"dW: {COUNT} waves added up"), strict=True
    ):
        bound = float(values.abs().max())
        axes.imshow(values, cmap="PuOr", vmin=-bound, vmax=bound, aspect="auto")
        axes.set(xlabel="q, input", ylabel="p, output", title=title)
    save_figure(figure, PICTURE)
    return 0
