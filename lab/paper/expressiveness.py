"""Figure 7: 128 numbers that fit what LoRA's 128 can't.

Points in the plane lie around eight centres, a class each. A network of one hidden 64 x 64 layer sorts them: its random
layers stay as they are drawn, and the hidden one is adapted, by LoRA r=1 or by FourierFT n=128. Both train 128 numbers.
The paper names the sizes, not the centres, the noise, the learning rate or what becomes of the other layers; those are
chosen here, the same for both, and every learning rate tried is told.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import mean, median
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fourierft.adapters.figure import new_figure, save_figure
from fourierft.tables import markdown_table
from fourierft.training.comparison.plots import COLOURS
from lab.ledger import Ledger, Row
from lab.paper.experiment import Choice, Experiment

CENTERS = ((-5, -5), (-5, 5), (5, -5), (5, 5), (0, 3), (0, -3), (-3, 0), (3, 0))
POINTS, NOISE, WIDTH = 100, 0.5, 64
EPOCHS, EVERY = 2000, 20
RATES = (1e-2, 3e-2)
METHODS = {"LoRA r=1": "lora", "FourierFT n=128": "fourierft"}
SEEDS = tuple(range(10))


class Classifier(nn.Module):
    """2 -> 64 -> 64 -> 8 with ReLU between."""

    def __init__(self) -> None:
        super().__init__()
        self.enter = nn.Linear(2, WIDTH)
        self.hidden = nn.Linear(WIDTH, WIDTH)
        self.leave = nn.Linear(WIDTH, len(CENTERS))

    def forward(self, points: Tensor) -> Tensor:
        """Logits [points, 8] of points [points, 2]."""
        return self.leave(F.relu(self.hidden(F.relu(self.enter(points)))))


def draw_points(seed: int) -> tuple[Tensor, Tensor]:
    """Points [800, 2] around the centres, and their classes [800]."""
    generator = torch.Generator().manual_seed(seed)
    noise = NOISE * torch.randn(len(CENTERS), POINTS, 2, generator=generator)
    points = torch.tensor(CENTERS, dtype=torch.float32)[:, None] + noise
    return points.flatten(0, 1), torch.arange(len(CENTERS)).repeat_interleave(POINTS)


def build(method: str, seed: int) -> nn.Module:
    """A classifier of which 128 numbers in the hidden layer are trained, as PEFT makes it."""
    import peft

    import fourierft

    fourierft.enable()
    torch.manual_seed(seed)
    model: Any = Classifier()
    config: Any = (
        peft.LoraConfig(r=1, lora_alpha=2, target_modules=["hidden"])
        if method == "lora"
        else fourierft.FourierFTConfig(n_frequency=2 * WIDTH, random_loc_seed=seed, target_modules=["hidden"])
    )
    return peft.get_peft_model(model, config)


def fit(method: str, rate: float, seed: int, epochs: int = EPOCHS) -> dict[str, Any]:
    """Train with Adam on all points at once, until all are right or the epochs are over.

    Returns: `parameters` trained; `best` accuracy; `epochs_to_all`, None if there was always a wrong one; `curve` of
        (epoch, accuracy).
    """
    points, classes = draw_points(seed)
    model = build(method, seed)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.Adam(trained, lr=rate)
    curve, best, reached = [], 0.0, None
    for epoch in range(epochs):
        logits = model(points)
        accuracy = float((logits.argmax(dim=1) == classes).float().mean())
        best = max(best, accuracy)
        reached = epoch if accuracy == 1.0 else None
        if epoch % EVERY == 0 or reached is not None:
            curve.append((epoch, round(accuracy, 4)))
        if reached is not None:
            break
        optimizer.zero_grad()
        F.cross_entropy(logits, classes).backward()
        optimizer.step()
    count = sum(parameter.numel() for parameter in trained)
    return {"parameters": count, "best": round(best, 4), "epochs_to_all": reached, "curve": curve}


def cells(choice: Choice) -> list[tuple[str, float, int]]:
    """(method, learning rate, seed) of every fit."""
    return [(title, rate, seed) for seed in choice.seeds for rate in RATES for title in METHODS]


def run(choice: Choice, ledger: Ledger) -> None:
    """Fit every method at every rate and seed that is not fitted yet."""
    named = [dict(zip(("method", "learning_rate", "seed"), cell, strict=True)) for cell in cells(choice)]
    for cell in ledger.missing(named, choice.max_runs):
        ledger.add(cell, fit(METHODS[cell["method"]], cell["learning_rate"], cell["seed"]))


def page(rows: Sequence[Row], folder: Path) -> list[str]:
    """The points, the curves, and a table of who gets all points right."""
    plot = draw(rows, folder / "fig7.png")
    lines = [
        ("method", "learning rate", "trained", "seeds", "all right", "epochs until then, median", "best accuracy, mean")
    ]
    for title in METHODS:
        for rate in RATES:
            group = [row for row in rows if (row["method"], row["learning_rate"]) == (title, rate)]
            done = [row["epochs_to_all"] for row in group if row["epochs_to_all"] is not None]
            if group:
                lines.append(
                    (
                        title,
                        f"{rate:g}",
                        str(group[0]["parameters"]),
                        str(len(group)),
                        f"{len(done)} of {len(group)}",
                        f"{median(done):.0f}" if done else "never",
                        f"{mean(row['best'] for row in group):.4f}",
                    )
                )
    return [
        "The paper: LoRA never reaches 100% within 2000 epochs, FourierFT does in about 500.",
        markdown_table(lines),
        f"![points and accuracy]({plot.name})",
        f"Eight classes of {POINTS} points, Gaussian noise of {NOISE} around the centres drawn; one hidden "
        f"{WIDTH} x {WIDTH} layer adapted, the random layers around it frozen; Adam on all points at once, at most "
        f'{EPOCHS} epochs. `lora_alpha` is 2, as usual for r=1; FourierFT has `scaling="auto"`. The paper names the '
        "sizes alone, the rest is chosen here. Left: the points of the first seed. Right: mean accuracy over seeds at "
        "each method's better rate, with the range.",
    ]


def draw(rows: Sequence[Row], file: Path) -> Path:
    """Points to the left, accuracy by epoch to the right."""
    figure = new_figure(10, 4)
    left, right = figure.subplots(1, 2)
    points, classes = draw_points(SEEDS[0])
    for number, colour in enumerate(list(COLOURS.values())[: len(CENTERS)]):
        left.scatter(*points[classes == number].T.numpy(), color=colour, s=6)
    left.set(xlabel="x", ylabel="y", aspect="equal")
    epochs = range(0, EPOCHS, EVERY)
    for title, colour in zip(METHODS, (COLOURS[family] for family in METHODS.values()), strict=True):
        groups = [[row for row in rows if (row["method"], row["learning_rate"]) == (title, rate)] for rate in RATES]
        best = max(groups, key=lambda group: sum(row["best"] for row in group))
        curves = [[_accuracy(row["curve"], epoch) for epoch in epochs] for row in best]
        if curves:
            by_epoch = list(zip(*curves, strict=True))
            label = f"{title}, learning rate {best[0]['learning_rate']:g}"
            right.plot(epochs, [mean(values) for values in by_epoch], color=colour, label=label)
            right.fill_between(
                epochs, *([pick(values) for values in by_epoch] for pick in (min, max)), color=colour, alpha=0.2
            )
    right.set(xlabel="epoch", ylabel="accuracy", ylim=(0, 1.03))
    right.legend(frameon=False, loc="lower right")
    save_figure(figure, file)
    return file


def _accuracy(curve: Sequence[Sequence[float]], epoch: int) -> float:
    """Accuracy at an epoch: the last that was noted until then, and the final one after the end."""
    return [accuracy for at, accuracy in curve if at <= epoch][-1]


def names(choice: Choice) -> list[str]:
    return [f"{title}, learning rate {rate:g}, seed {seed}" for title, rate, seed in cells(choice)]


EXPERIMENTS = (Experiment("fig7", "Figure 7: what 128 numbers can express", run, page, names, seeds=SEEDS),)
