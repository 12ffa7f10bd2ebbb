"""Figure 3: where a frequency bias draws its entries from (Eq. 5)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from fourierft.adapters.figure import new_figure, save_figure
from fourierft.spectral import bandpass_entries
from fourierft.spectral.entries import band_log_probability
from fourierft.tables import markdown_table
from lab.ledger import Ledger, Row
from lab.paper.experiment import Choice, Experiment

SIDE, WIDTH, CENTERS = 768, 200.0, (0.0, 100.0, 200.0, 350.0, 480.0)
DRAWN, SEED = 1000, 2024
SHARES = (0.1, 0.5, 0.9)


def probability_map(center: float) -> torch.Tensor:
    """Eq. 5 over the shifted spectrum of a 768 x 768 weight, [768, 768], its largest value 1."""
    signed = torch.arange(SIDE) - SIDE // 2
    log_p = band_log_probability(signed, signed, center, WIDTH)
    return torch.exp(log_p - log_p.max())


def distances() -> torch.Tensor:
    """Distance D of every entry from the centre of the shifted spectrum, [768, 768]."""
    signed = (torch.arange(SIDE) - SIDE // 2).double()
    return (signed[:, None] ** 2 + signed[None, :] ** 2).sqrt()


def describe(center: float) -> dict[str, Any]:
    """Where the probability lies, and where entries drawn by it do.

    Returns: `peak`, the distance of the likeliest entry; `distance_quantiles` under the probability; `drawn_quantiles`
        of the entries drawn.
    """
    p, distance = probability_map(center), distances()
    order = distance.flatten().argsort()
    cumulated = p.flatten()[order].cumsum(0)
    places = torch.searchsorted(cumulated, torch.tensor(SHARES, dtype=p.dtype) * cumulated[-1])
    entries = bandpass_entries(SIDE, SIDE, DRAWN, SEED, center, WIDTH)
    signed = (entries + SIDE // 2) % SIDE - SIDE // 2  # [2, n], frequencies with their sign
    drawn = signed.double().square().sum(0).sqrt()
    return {
        "peak": float(distance.flatten()[p.argmax()]),
        "distance_quantiles": [round(float(value), 2) for value in distance.flatten()[order][places]],
        "drawn_quantiles": [round(float(value), 2) for value in drawn.quantile(torch.tensor(SHARES).double())],
    }


def run(choice: Choice, ledger: Ledger) -> None:
    cells = [{"center": center, "width": WIDTH, "side": SIDE, "n_frequency": DRAWN, "seed": SEED} for center in CENTERS]
    for cell in ledger.missing(cells, choice.max_runs):
        ledger.add(cell, describe(cell["center"]))


def page(rows: Sequence[Row], folder: Path) -> list[str]:
    """The maps as the paper draws them, and a table of where they lie."""
    plot = draw(folder / "fig3.png")
    lines: list[tuple[str, ...]] = [
        ("fc", "likeliest D", "D of 10, 50, 90% of p", f"D of 10, 50, 90% of {DRAWN} entries drawn")
    ]
    for row in rows:
        spread = [", ".join(f"{value:.0f}" for value in row[f"{name}_quantiles"]) for name in ("distance", "drawn")]
        lines.append((f"{row['center']:g}", f"{row['peak']:.1f}", *spread))
    return [
        f"p(u, v) of Eq. 5 over a {SIDE} x {SIDE} spectrum, W = {WIDTH:g}, zero frequency in the middle, each map "
        "divided by its largest value, as in the paper.",
        f"![probability maps]({plot.name})",
        "The paper prints maps and no numbers. The likeliest distance is fc, to within half an entry; entries drawn by "
        "`fourierft.bandpass_entries` lie where p does.",
        markdown_table(lines),
    ]


def draw(file: Path) -> Path:
    figure = new_figure(9, 2.2)
    grid = figure.subplots(1, len(CENTERS))
    for axes, center in zip(grid, CENTERS, strict=True):
        picture = axes.imshow(probability_map(center).numpy(), cmap="viridis", vmin=0, vmax=1)
        axes.set_title(f"fc = {center:g}", fontsize=10)
        axes.set_axis_off()
    figure.colorbar(picture, ax=grid, shrink=0.8)
    save_figure(figure, file)
    return file


def names(choice: Choice) -> list[str]:
    return [f"fc = {center:g}" for center in CENTERS]


EXPERIMENTS = (Experiment("fig3", "Figure 3: sampling probability of entries", run, page, names),)
