"""The quickstart's page: one HTML file that needs nothing beside it, and its plots as PNG."""

from __future__ import annotations

import base64
import html
import shlex
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING, Any

from fourierft.adapters.figure import INK, new_figure, place_labels, save_figure
from fourierft.adapters.picture import save_picture
from fourierft.adapters.report import inspect_adapter
from fourierft.files import write_text
from fourierft.training.output import read_record
from fourierft.training.quickstart import Outcome, outcome_rows

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLOURS = ("#6f7782", "#E69F00", "#CC79A7", "#0072B2")  # the colour-blind tell them apart; so do the markers
MARKERS = "osD^"
TEMPLATE = Path(__file__).with_name("page.html")


def write_page(outcomes: list[Outcome], examples: list[dict[str, Any]], directory: Path) -> Path:
    """Draw accuracy.png, size.png and spectrum.png, and write index.html with them inlined.

    Args:
        outcomes: of all contenders, FourierFT's last.
        examples: text, prediction and probability of a few sentences.
        directory: to write to.

    Returns: the page.
    """
    save_plot(draw_accuracy, outcomes, directory / "accuracy.png")
    save_plot(draw_size, outcomes, directory / "size.png")
    save_picture(inspect_adapter(outcomes[-1].folder), directory / "spectrum.png")
    head, lora, ours = outcomes[0], outcomes[1], outcomes[-1]
    whole = ours.metrics["parameters"]["base"]
    page = Template(TEMPLATE.read_text(encoding="utf-8")).substitute(
        headline=f"{(ours.accuracy - head.accuracy) * 100:+.1f} points from {ours.n_bytes / 1000:.0f} kB",
        accuracy=f"{ours.accuracy:.1%}",
        lora_accuracy=f"{lora.accuracy:.1%}",
        gain=f"{(ours.accuracy - head.accuracy) * 100:.1f}",
        smaller=f"{lora.n_bytes / ours.n_bytes:.1f}",
        coefficients=f"{ours.metrics['parameters']['adapter']:,}",
        share=f"{ours.metrics['parameters']['adapter'] / whole:.3%}",
        train_rows=f"{ours.metrics['rows']['train']:,}",
        validation_rows=f"{ours.metrics['rows']['validation']:,}",
        table=html_table(outcome_rows(outcomes)),
        examples="\n".join(html_example(example) for example in examples),
        commands="\n".join(html_command(text, command) for text, command in next_commands(ours, directory)),
        versions=html.escape(", ".join(f"{name} {number}" for name, number in ours.metrics["versions"].items())),
        **{f"{name}_png": inline_picture(directory / f"{name}.png") for name in ("accuracy", "size", "spectrum")},
    )
    write_text(directory / "index.html", page)
    return directory / "index.html"


def next_commands(ours: Outcome, directory: Path) -> list[tuple[str, str]]:
    """(what for, command) of what to do next."""
    adapter, validation = shlex.quote(str(ours.folder)), shlex.quote(str(directory / "data" / "validation.csv"))
    model = shlex.quote(read_record(ours.folder)["base_model"])
    return [
        (
            "Score the adapter on any file with the columns text and label",
            f"fourierft evaluate {adapter} --test_file {validation}",
        ),
        (
            "Look into it: layers, norms, a picture of spectrum and dW",
            f"fourierft inspect {adapter} --picture spectrum.png",
        ),
        ("Make it a plain model that needs neither PEFT nor this package", f"fourierft merge {adapter} merged"),
        (
            "Train on your own sentences",
            f"fourierft train --model_name_or_path {model} --train_file yours.csv --output_dir yours",
        ),
    ]


def html_table(rows: list[list[str]]) -> str:
    """A table; the last row is the one to look at."""
    head = "".join(f"<th>{html.escape(cell)}</th>" for cell in rows[0])
    lines = [f"<thead><tr>{head}</tr></thead>", "<tbody>"]
    for row in rows[1:]:
        mark = ' class="ours"' if row is rows[-1] else ""
        lines.append(f"<tr{mark}>{''.join(f'<td>{html.escape(cell)}</td>' for cell in row)}</tr>")
    return "\n".join([*lines, "</tbody>"])


def html_example(example: dict[str, Any]) -> str:
    """A sentence, what was said of it, and how sure."""
    said, sure = html.escape(str(example["prediction"])), example["probability"]
    return (
        f'<li><span class="text">{html.escape(example["text"])}</span>'
        f'<span class="verdict {said}"><i style="width:{sure:.0%}"></i><b>{said} {sure:.0%}</b></span></li>'
    )


def html_command(text: str, command: str) -> str:
    """A command with what it is for."""
    return f"<dt>{html.escape(text)}</dt><dd><code>{html.escape(command)}</code></dd>"


def inline_picture(file: Path) -> str:
    """A PNG as a data URL."""
    return "data:image/png;base64," + base64.b64encode(file.read_bytes()).decode("ascii")


def save_plot(draw: Any, outcomes: list[Outcome], file: Path) -> None:
    """Draw into a figure of its own and write it as PNG; a file that is there is replaced."""
    figure = new_figure(5.2, 3.8)
    axes = figure.add_subplot()
    draw(axes, outcomes)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color="#e6e6e6")
    axes.set_axisbelow(True)
    save_figure(figure, file, dpi=150)


def draw_accuracy(axes: Axes, outcomes: list[Outcome]) -> None:
    """Validation accuracy by step, a line a contender."""
    for outcome, colour, marker in zip(outcomes, COLOURS, MARKERS, strict=True):
        steps, values = zip(*(outcome.curve or [(outcome.metrics["train"]["steps"], outcome.accuracy)]), strict=True)
        axes.plot(steps, values, marker=marker, color=colour, linewidth=2.2, label=outcome.contender.title)
    axes.set_xlim(left=0)
    axes.set(xlabel="training step", ylabel="validation accuracy")
    axes.set_title("Accuracy while training", loc="left")
    axes.legend(frameon=False)


def draw_size(axes: Axes, outcomes: list[Outcome]) -> None:
    """Accuracy against bytes on disk, a point a contender, named beside it."""
    points = [(outcome.n_bytes / 1000, outcome.accuracy) for outcome in outcomes]
    for point, colour, marker in zip(points, COLOURS, MARKERS, strict=True):
        axes.scatter(*point, s=110, color=colour, marker=marker, zorder=3)
    axes.set_xscale("log")
    axes.margins(x=0.25, y=0.25)
    axes.set(xlabel="kB on disk, head included", ylabel="validation accuracy")
    axes.set_title("What a fine-tune weighs", loc="left")
    axes.set_xticks([3, 10, 30, 100, 300], labels=["3", "10", "30", "100", "300"])
    axes.minorticks_off()
    titles = (outcome.contender.title for outcome in outcomes)
    place_labels(axes, [(title, point, INK) for title, point in zip(titles, points, strict=True)], size=10)
