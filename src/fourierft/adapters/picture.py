"""An adapter drawn: where a layer's coefficients lie, the dW they make, and how large every layer's is."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch

from fourierft.adapters.figure import ACCENT, INK, new_figure, save_figure
from fourierft.adapters.report import AdapterReport, LayerReport, layer_update
from fourierft.errors import ConfigError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_LAYERS = 6
MAP = "RdBu_r"


def save_picture(report: AdapterReport, file: str | Path, layers: list[str] | None = None) -> None:
    """Write a picture of an adapter; the format follows the file's ending, such as .png or .svg.

    Args:
        report: the adapter, measured.
        file: to write; replaced if it is there.
        layers: names of the layers whose spectrum and dW are drawn; the one with the largest update if None.

    Raises: ConfigError, if a layer is unknown, too many are wanted or the file cannot be written. MissingExtraError,
        without matplotlib.
    """
    save_figure(draw_adapter(report, layers), file)


def draw_adapter(report: AdapterReport, layers: list[str] | None = None) -> Figure:
    """The figure of `save_picture`: a row a layer (spectrum, dW), and the norms of all layers below."""
    shown = pick_layers(report, layers)
    rows = len(shown) + 1
    figure = new_figure(11, 4.6 * len(shown) + 3.4)
    grid = figure.add_gridspec(rows, 2, height_ratios=[4.6] * len(shown) + [3.4])
    for row, layer in enumerate(shown):
        draw_spectrum(figure.add_subplot(grid[row, 0]), report, layer)
        draw_update(figure.add_subplot(grid[row, 1]), report, layer)
    draw_norms(figure.add_subplot(grid[-1, :]), report, {layer.name for layer in shown})
    return figure


def pick_layers(report: AdapterReport, names: list[str] | None) -> list[LayerReport]:
    """The layers to draw in full.

    Raises: ConfigError, if one has no known shape, is unknown, or there are too many.
    """
    if names is None:
        drawable = [layer for layer in report.layers if layer.shape and layer.weights == 1]
        return sorted(drawable, key=lambda layer: -(layer.relative_norm or layer.frobenius_norm or 0))[:1]
    by_name = {layer.name: layer for layer in report.layers}
    for name in names:
        if name not in by_name or by_name[name].shape is None:
            why = f"({report.base_problem})" if report.base_problem else "(the adapter has no such layer)"
            raise ConfigError(f"the layer {name} cannot be drawn {why}")
        if by_name[name].weights > 1:
            raise ConfigError(
                f"{name} is a stack of several weights, which do not fit into one picture; name other layers"
            )
    if len(names) > MOST_LAYERS:
        raise ConfigError(f"{len(names)} layers are too many for one picture; name at most {MOST_LAYERS}")
    return [by_name[name] for name in names]


def draw_spectrum(axes: Axes, report: AdapterReport, layer: LayerReport) -> None:
    """Every entry at its frequency, zero in the middle, coloured by its coefficient."""
    assert layer.shape is not None
    out_features, in_features = layer.shape
    coefficients = report.checkpoint.coefficients[layer.name].float()
    u, v = report.checkpoint.basis(out_features, in_features, layer.n_frequency).entries
    limit = float(coefficients.abs().max()) or 1.0
    order = coefficients.abs().argsort()  # the largest on top
    points = axes.scatter(
        centred(v, in_features)[order].numpy(),
        centred(u, out_features)[order].numpy(),
        c=coefficients[order].numpy(),
        cmap=MAP,
        vmin=-limit,
        vmax=limit,
        s=min(40.0, max(4.0, 12000 / layer.n_frequency)),
        linewidths=0.25,
        edgecolors="#00000055",
    )
    axes.set(
        xlim=(-in_features / 2, in_features / 2),
        ylim=(-out_features / 2, out_features / 2),
        xlabel="frequency along the inputs, v",
        ylabel="frequency along the outputs, u",
    )
    axes.set_title(f"{layer.name}\n{layer.n_frequency:,} coefficients at their frequencies", loc="left", color=INK)
    axes.set_facecolor("#fafafa")
    axes.figure.colorbar(points, ax=axes, shrink=0.85, label="coefficient")


def draw_update(axes: Axes, report: AdapterReport, layer: LayerReport) -> None:
    """dW as a heat map, colours up to three standard deviations."""
    assert layer.shape is not None
    delta = layer_update(report.checkpoint, layer.name, layer.shape)
    limit = 3 * float(delta.std(correction=0)) or 1.0
    image = axes.imshow(delta.numpy(), cmap=MAP, vmin=-limit, vmax=limit, aspect="auto", interpolation="nearest")
    axes.set(xlabel="input", ylabel="output")
    norm = f", {layer.relative_norm:.1%} of ||W||" if layer.relative_norm is not None else ""
    axes.set_title(f"dW: {layer.shape[0]} x {layer.shape[1]}{norm}", loc="left", color=INK)
    axes.figure.colorbar(image, ax=axes, shrink=0.85, label="change of the weight")


def draw_norms(axes: Axes, report: AdapterReport, shown: set[str]) -> None:
    """A bar a layer: ||dW|| / ||W||, or else ||dW||, or else ||c||; the layers drawn above stand out."""
    label, values = norms_to_draw(report)
    colours = [ACCENT if layer.name in shown else "#a9c3d0" for layer in report.layers]
    axes.bar(range(len(values)), values, color=colours, width=0.8)
    axes.set(ylabel=label, xlim=(-0.6, len(values) - 0.4))
    short = shorten_names([layer.name for layer in report.layers])
    step = -(-len(short) // 48)
    ticks = range(0, len(short), step)
    axes.set_xticks(list(ticks), [short[i] for i in ticks], rotation=60, ha="right", rotation_mode="anchor", fontsize=8)
    axes.set_title("size of the update, layer by layer", loc="left", color=INK)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="#ddd")
    axes.set_axisbelow(True)


def norms_to_draw(report: AdapterReport) -> tuple[str, list[float]]:
    """The most telling norm that all layers have, with its name."""
    kinds = (("||dW|| / ||W||", "relative_norm"), ("||dW||", "frobenius_norm"), ("||c||", "coefficient_norm"))
    for label, name in kinds:
        values = [getattr(layer, name) for layer in report.layers]
        if all(value is not None for value in values):
            return label, values
    raise AssertionError("every layer has a coefficient norm")


def shorten_names(names: list[str]) -> list[str]:
    """Dotted names without the parts all of them share in the same place."""
    parts = [name.split(".") for name in names]
    if len(names) < 2 or len({len(part) for part in parts}) > 1:
        return names
    differing = [k for k in range(len(parts[0])) if len({part[k] for part in parts}) > 1]
    return [".".join(part[k] for k in differing) for part in parts]


def centred(index: torch.Tensor, size: int) -> torch.Tensor:
    """Signed frequencies of indices 0 .. size - 1: from -size/2 on, zero in the middle."""
    return (index + size // 2) % size - size // 2
