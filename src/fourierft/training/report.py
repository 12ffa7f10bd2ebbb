"""What a training says of itself: a summary before it starts; numbers, a curve and a model card after."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fourierft.adapters.card import (
    CARD_FILE,
    HERE,
    Card,
    describe_base,
    describe_method,
    evaluation_note,
    loading_code,
    plain,
    read_scores,
)
from fourierft.adapters.figure import save_figure
from fourierft.extras import needs
from fourierft.format.config import CONFIG_FILE
from fourierft.format.json_file import read_json
from fourierft.tables import align_columns, format_bytes
from fourierft.training.labels import shorten
from fourierft.training.methods import Trainable
from fourierft.training.scores import score_rows


def describe_training(
    trainable: Trainable, record: dict[str, Any], rows: dict[str, int], left_out: Sequence[str] = ()
) -> str:
    """Tables of what will be trained, on what, and of its size.

    Args:
        record: what the training writes of itself.
        rows: number of rows of each split.
        left_out: splits that are not used, as their labels are hidden.
    """
    settings = ", ".join(f"{name}={plain(value)}" for name, value in trainable.settings.items())
    method = trainable.method + (f" in {trainable.layers} layers: {settings}" if trainable.layers else "")
    return f"{describe_task(record, method, rows, left_out)}\n\n{describe_sizes(trainable, record['heads'])}"


def describe_task(record: dict[str, Any], method: str, rows: dict[str, int], left_out: Sequence[str] = ()) -> str:
    """A table of what will be trained, on what."""
    data = [f"{count:,} {name} rows" for name, count in rows.items()]
    data += [f"no {name} rows, as their labels are hidden (-1)" for name in left_out]
    columns = (
        f" of {' and '.join(record['text_columns'])} by {record['label_column']}" if record["text_columns"] else ""
    )
    lines: list[tuple[str, ...]] = [
        ("model", record["base_model"]),
        ("task", f"{record['task']}{columns}"),
        ("data", ", ".join(data) or record["data"]),
        ("method", method),
    ]
    if record.get("chat_template"):
        lines.insert(2, ("template", record["chat_template"]))
    if record["labels"]:
        lines.insert(2, ("labels", shorten(record["labels"])))
    return align_columns(lines)


def describe_sizes(trainable: Trainable, heads: Sequence[str]) -> str:
    """A table of the numbers trained, and of their bytes on disk."""
    share = (trainable.adapter_parameters + trainable.head_parameters) / trainable.base_parameters
    part = "adapter" if trainable.is_adapter else "body"
    counts: list[tuple[str, ...]] = [
        ("trained", "parameters", "on disk"),
        (part, f"{trainable.adapter_parameters:,}", format_bytes(trainable.adapter_bytes)),
        ("head", f"{trainable.head_parameters:,}", format_bytes(trainable.head_bytes), ", ".join(heads)),
        (
            "together",
            f"{trainable.adapter_parameters + trainable.head_parameters:,}",
            format_bytes(trainable.adapter_bytes + trainable.head_bytes),
            f"{share:.3%} of the model's {trainable.base_parameters:,}",
        ),
    ]
    return align_columns(counts)


def without_nan(value: Any) -> Any:
    """The value with numbers that JSON has no word for replaced by null."""
    if isinstance(value, dict):
        return {key: without_nan(item) for key, item in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value


def require_plotting() -> None:
    """Raise MissingExtraError, before time is spent on training, if its curve could not be drawn."""
    with needs("train", "drawing the curve"):
        import matplotlib  # noqa: F401


def draw_curve(history: list[dict[str, Any]], metric: str, title: str, path: Path) -> None:
    """Draw loss and evaluation metric by step as PNG.

    Args:
        history: the log of the Trainer.
        metric: name of the metric, such as accuracy.
    """
    with needs("train", "drawing the curve"):
        from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    for axes, name, label in (
        (left, "loss", "training"),
        (left, "eval_loss", "validation"),
        (right, f"eval_{metric}", "validation"),
    ):
        points = [(entry["step"], entry[name]) for entry in history if name in entry]
        if points:
            marker = "" if name == "loss" else "o"
            axes.plot(*zip(*points, strict=True), marker=marker, markersize=4, label=label)
    for axes, label in ((left, "loss"), (right, metric)):
        axes.set_xlabel("step")
        axes.set_ylabel(label)
        axes.grid(alpha=0.3)
        if axes.lines:
            axes.legend(frameon=False)
    figure.suptitle(title, fontsize=10)
    save_figure(figure, path, dpi=120)


def write_model_card(metrics: dict[str, Any], record: dict[str, Any], directory: Path, name: str | None = None) -> None:
    """Write the card of what was trained into its directory.

    Args:
        metrics: content of metrics.json.
        record: what the training wrote of itself.
        directory: where the weights are.
        name: of the repository on the hub that it is sent to.
    """
    base, method, parameters = record["base_model"], record["method"], metrics["parameters"]
    texts = " and ".join(f"`{column}`" for column in record["text_columns"])
    config = read_json(directory / CONFIG_FILE) if record["is_adapter"] else None
    rows = [f"{count} {split} rows" for split, count in metrics["rows"].items()]
    facts = [
        ("Base model", describe_base(record)),
        ("Data", ", ".join([record["data"], *rows])),
        *([("Outputs", shorten(record["labels"]))] if record["labels"] else []),
        ("Method", describe_method(record, config)),
        ("Trained parameters", f"{parameters['adapter']:,} in the model, {parameters['head']:,} in its head"),
        ("Weights", format_bytes(metrics["bytes"]["file"])),
        (
            "Steps",
            f"{metrics['train']['steps']} at {metrics['train']['seconds_per_step']:.3f} s, seed {record['seed']}",
        ),
        ("Versions", ", ".join(f"{library} {number}" for library, number in metrics["versions"].items())),
    ]
    Card(
        title=f"{method} on {Path(base).name}",
        about=f"{record['task'].replace('_', ' ').capitalize()} of {texts} by `{record['label_column']}`, trained with "
        "`fourierft train`.",
        record=record,
        pipeline_tag=record["loading"]["pipeline_tag"],
        facts=facts,
        code=loading_code(record, config, name or HERE),
        scores=[score for score in read_scores(metrics) if score.metric != "loss"],
        table=[("metric", "value", "of"), *(score_rows(metrics) or [("none", "", "no validation data")])],
        notes=(
            f"![loss and {metrics['main_metric']}](curve.png)",
            evaluation_note(record),
        ),
    ).write(directory / CARD_FILE)
