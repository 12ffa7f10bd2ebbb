"""What a training says of itself: a summary before it starts; numbers, a curve and a model card after."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fourierft.adapters.figure import save_figure
from fourierft.extras import needs
from fourierft.files import write_text
from fourierft.tables import align_columns, format_bytes
from fourierft.training.families.family import Family
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
    settings = ", ".join(f"{name}={_plain(value)}" for name, value in trainable.settings.items())
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


def _plain(value: Any) -> str:
    return "+".join(map(str, value)) if isinstance(value, list) else str(value)


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


def write_model_card(metrics: dict[str, Any], record: dict[str, Any], family: Family, path: Path) -> None:
    """Write README.md: base, data, method, metrics, and how to load what was trained."""
    base, method = record["base_model"], record["method"]
    header = ["---", "library_name: peft" if record["is_adapter"] else "library_name: transformers"]
    if not Path(base).exists():
        header.append(f"base_model: {base}")
    header += [
        f"pipeline_tag: {family.pipeline_tag}",
        "tags:",
        "- fourierft",
        f"- {method}",
        "---",
    ]
    rows = "\n".join(f"| {' | '.join(cells)} |" for cells in score_rows(metrics))
    parameters, settings = metrics["parameters"], _settings_text(record)
    texts = " and ".join(f"`{name}`" for name in record["text_columns"])
    text = f"""
# {method} on {Path(base).name}

{family.name.replace("_", " ").capitalize()} of {texts} by `{record["label_column"]}`, trained with `fourierft train`.

- Base model: `{base}`{f", revision `{record['revision']}`" * (record["revision"] != "main")}
- Data: {record["data"]}, {", ".join(f"{count} {name} rows" for name, count in metrics["rows"].items())}
- Method: {method}{settings}
- Trained parameters: {parameters["adapter"]:,} in the model, {parameters["head"]:,} in its head
- Weights: {format_bytes(metrics["bytes"]["file"])}
- Steps: {metrics["train"]["steps"]} at {metrics["train"]["seconds_per_step"]:.3f} s, seed {record["seed"]}
- Versions: {", ".join(f"{name} {number}" for name, number in metrics["versions"].items())}

| metric | value | of |
|---|---|---|
{rows or "| none | | no validation data |"}

![loss and {family.main_metric}](curve.png)

## Load

```python
{_loading_code(record, family)}
```

`fourierft evaluate DIRECTORY --test_file FILE` scores it on other data.
"""
    write_text(path, "\n".join(header) + "\n" + text)


def _settings_text(record: dict[str, Any]) -> str:
    return "".join(f", {name}={_plain(value)}" for name, value in record["settings"].items())


def _loading_code(record: dict[str, Any], family: Family) -> str:
    base, loader, processor = record["base_model"], family.model_class.__name__, family.processor_class
    if record["method"] == "full":
        return (
            f"from transformers import {loader}, {processor}\n"
            f'model = {loader}.from_pretrained("DIRECTORY")\n'
            f'processor = {processor}.from_pretrained("DIRECTORY")'
        )
    if not record["is_adapter"] or record.get("quantization"):
        return (
            "from fourierft.training.evaluation import load_trained\n"
            'trained = load_trained("DIRECTORY")\n'
            "model, processor = trained.model, trained.processor"
        )
    enable = "import fourierft; fourierft.enable()\n" if record["method"] == "fourierft" else ""
    options = [f'revision="{record["revision"]}"'] if record["revision"] != "main" and not Path(base).exists() else []
    if record["heads"]:
        settings = family.model_settings()
        named = {name: settings[name] for name in ("num_labels", "problem_type") if name in settings}
        options += [*(f"{name}={json.dumps(value)}" for name, value in named.items()), "ignore_mismatched_sizes=True"]
    options += [f'dtype="{record["dtype"]}"'] if record["dtype"] != "float32" else []
    options += ["trust_remote_code=True"] if record["trust_remote_code"] else []
    return enable + (
        "from peft import PeftModel\n"
        f"from transformers import {loader}, {processor}\n"
        f"base = {loader}.from_pretrained({', '.join([repr(base), *options])})\n"
        'model = PeftModel.from_pretrained(base, "DIRECTORY")\n'
        f'processor = {processor}.from_pretrained("DIRECTORY")'
    )
