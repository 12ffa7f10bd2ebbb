"""A fleet as a map: adapters whose dW are alike lie close together."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from fourierft.adapters.figure import ACCENT, INK, new_figure, save_figure
from fourierft.errors import StoreError
from fourierft.store.store import AdapterStore
from fourierft.store.study.stats import unit_rows

MOST_ADAPTERS, MOST_NAMES = 10_000, 40


def save_map(store: AdapterStore, file: str | Path, marked: Sequence[str] = ()) -> None:
    """Draw the map; up to 40 adapters are named, more than 10,000 are thinned evenly.

    Args:
        store: the fleet.
        file: to write, such as fleet.png; replaced if it is there.
        marked: names that are drawn larger, and named however many there are.

    Raises: StoreError, with fewer than two adapters. ConfigError, if the file cannot be written. MissingExtraError,
        without matplotlib.
    """
    names = list(store.names())
    if len(names) < 2:
        raise StoreError(f"{store} holds {len(names)} adapters; a map needs at least two")
    shown = sorted({*names[:: -(-len(names) // MOST_ADAPTERS)], *marked})
    layers = store.layers(shown)
    points, explained = project(torch.cat([unit_rows(block, layers) for block in store.blocks(shown)]))
    figure = new_figure(8.5, 7)
    axes = figure.add_subplot()
    stands_out = [name in marked for name in shown]
    axes.scatter(
        points[:, 0].numpy(),
        points[:, 1].numpy(),
        s=[70 if out else max(6, 30 - len(shown) / 100) for out in stands_out],
        c=["#c8553d" if out else ACCENT for out in stands_out],
        alpha=0.75,
        linewidths=0,
    )
    for name, (x, y), out in zip(shown, points.tolist(), stands_out, strict=True):
        if out or len(shown) <= MOST_NAMES:
            text = (name if len(name) <= 30 else f"{name[:29]}…").replace("$", r"\$")
            axes.annotate(text, (x, y), xytext=(5, 4), textcoords="offset points", fontsize=8, color=INK)
    axes.set(xlabel=f"first direction ({explained[0]:.0%})", ylabel=f"second direction ({explained[1]:.0%})")
    some = f"{len(shown):,} of {len(names):,}" if len(shown) < len(names) else f"{len(names):,}"
    axes.set_title(f"{some} adapters by the direction of their dW\n{layers_text(len(layers))}", loc="left", color=INK)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color="#eee")
    axes.set_axisbelow(True)
    save_figure(figure, file)


def project(rows: torch.Tensor) -> tuple[torch.Tensor, tuple[float, float]]:
    """Principal components.

    Args:
        rows: [adapters, features].

    Returns: [adapters, 2], and the share of the spread that each of the two directions has.
    """
    centred = rows - rows.mean(0)
    spread = float(centred.square().sum())
    size = min(8, *rows.shape)
    left, values, _ = torch.svd_lowrank(centred, q=size, niter=4)
    points = torch.zeros(len(rows), 2)
    kept = min(2, size)
    points[:, :kept] = left[:, :kept] * values[:kept]
    shares = points.square().sum(0) / spread if spread else torch.zeros(2)
    return points, (float(shares[0]), float(shares[1]))


def layers_text(count: int) -> str:
    """What the map rests on."""
    return f"principal components over {count} layer{'s' * (count != 1)}; near means alike"
