"""README.md, the model card of what was trained: for people, and, in its first lines, for the hub.

PEFT writes a card with every adapter, TRL one with every checkpoint, transformers' Trainer one when it sends to the
hub; they know neither scores nor scale. This one takes their place.
"""

from __future__ import annotations

import json
import math
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from fourierft.errors import CheckpointError
from fourierft.files import write_text
from fourierft.format.hub import is_path
from fourierft.format.record import Record
from fourierft.tables import Table, markdown_table

CARD_FILE = "README.md"
_MOST_LABELS = 50  # that a card names
HERE = "."  # the folder that the card stands in
HUB_METRICS = {"matthews": "matthews_correlation", "pearson": "pearsonr", "spearman": "spearmanr"}  # ours -> the hub's
PEFT, OURS, TRANSFORMERS = "With PEFT", "With fourierft", "With transformers"
STOCK = "With PEFT alone, which warns that it ignores a field `fourierft`, and can do without"


class Score(NamedTuple):
    """What a model reached, and on which split."""

    metric: str
    value: float
    split: str

    @property
    def label(self) -> str:
        """The metric, with the split where it is not the validation data."""
        return self.metric if self.split == "validation" else f"{self.metric} ({self.split})"


@dataclass(frozen=True)
class Card:
    """What a card says.

    Attributes:
        title, about: the heading, and the sentence below it.
        record: what the training wrote of itself; here for its base_model, method, is_adapter, data and license.
        pipeline_tag: the hub's word for the task.
        facts: (what, text), a line each.
        code: how -> Python that loads it from the folder that the card stands in.
        scores: for the hub's table.
        table: headings and rows of scores, for people.
        notes: Markdown behind the table and behind the code.
    """

    title: str
    about: str
    record: Mapping[str, Any]
    pipeline_tag: str
    facts: Sequence[tuple[str, str]]
    code: Mapping[str, str]
    scores: Sequence[Score] = ()
    table: Table = ()
    notes: tuple[str, str] = ("", "")
    tags: Sequence[str] = field(default=("fourierft",))

    def write(self, path: str | Path) -> None:
        """Write it; a file that is there is replaced whole or not at all."""
        blocks = [
            f"# {self.title}",
            self.about,
            "\n".join(f"- {what}: {text}" for what, text in self.facts),
            markdown_table(self.table) if self.table else "",
            self.notes[0],
            "## Load",
            *(f"{how}:\n\n```python\n{code}\n```" for how, code in self.code.items()),
            self.notes[1],
        ]
        text = "\n\n".join(block for block in blocks if block)
        card = ModelCard(f"---\n{self._metadata().to_yaml()}\n---\n\n{text}\n")
        write_text(Path(path), str(card))

    def _metadata(self) -> ModelCardData:
        record, data = self.record, str(self.record.get("data") or "")
        is_adapter, base = record.get("is_adapter", True), str(record["base_model"])
        known = {"base_model": base, "base_model_relation": "adapter" if is_adapter else "finetune"}
        told: dict[str, Any] = {**(known if is_hub_id(base) else {}), **(record.get("license") or {})}
        results = [
            EvalResult(
                task_type=self.pipeline_tag,
                dataset_type=data,
                dataset_name=data,
                dataset_split=score.split,
                metric_type=HUB_METRICS.get(score.metric, score.metric),
                metric_name=score.metric,
                metric_value=round(score.value, 6),
            )
            for score in self.scores
        ]
        return ModelCardData(
            **told,
            library_name="peft" if is_adapter else "transformers",
            pipeline_tag=self.pipeline_tag,
            tags=list(dict.fromkeys([*self.tags, str(record["method"])])),
            datasets=[data] if "/" in data and is_hub_id(data) else None,
            model_name=self.title if results else None,
            eval_results=results or None,
        )


def is_hub_id(name: str) -> bool:
    """Whether a name is that of something on the hub, no folder's."""
    return not is_path(name) and not Path(name).exists()


def read_scores(metrics: Mapping[str, Any]) -> list[Score]:
    """The finite scores of a metrics.json, of a training or of an adapter of a fleet, scored on rows held out.

    The main metric comes first, where one is named.
    """
    given = [("validation", metrics.get("eval")), ("test", metrics.get("test"))]
    parts = [(split, found) for split, found in given if isinstance(found, Mapping)] or [("validation", metrics)]
    found = [
        Score(name, value, split)
        for split, scores in parts
        for name, value in scores.items()
        if isinstance(value, float) and math.isfinite(value) and is_score(name) and not name.startswith("train_")
    ]
    return sorted(found, key=lambda score: score.metric != metrics.get("main_metric"))


def is_score(name: str) -> bool:
    """Whether a metric of transformers' Trainer tells how good a model is, and not how long that took."""
    return "second" not in name and name not in ("runtime", "model_preparation_time")


def evaluation_note(record: Mapping[str, Any]) -> str:
    """How what was trained is scored on other data, wherever its folder goes."""
    base = Path(record["base_model"])
    moved = base.is_dir() and not base.is_absolute()
    words = ["fourierft", "evaluate", ".", "--test_file", "FILE"]
    words += ["--model_name_or_path", str(base.resolve())] if moved else []
    return f"`{shlex.join(words)}`, in this folder, scores it on other data."


def describe_method(record: Mapping[str, Any], config: Mapping[str, Any] | None = None) -> str:
    """The method with its settings, such as n and scale; what an automatic scale came to is in the config."""
    settings = [f"{name}={plain(value)}" for name, value in record["settings"].items()]
    if record["settings"].get("scaling") == "auto" and config and isinstance(config.get("scaling"), (int, float)):
        settings[settings.index("scaling=auto")] += f" ({config['scaling']:g})"
    return ", ".join([record["method"], *settings])


def plain(value: Any) -> str:
    """A setting as one writes it."""
    return "+".join(map(str, value)) if isinstance(value, list) else str(value)


def describe_base(record: Mapping[str, Any]) -> str:
    """The base as Markdown, with its revision if that says something."""
    name, revision = record["base_model"], record["revision"]
    return f"`{name}`" if revision == "main" else f"`{name}`, revision `{revision}`"


def loading_code(
    record: Mapping[str, Any], config: Mapping[str, Any] | None, folder: str = HERE, processor: str | None = None
) -> dict[str, str]:
    """How to load what was trained, in each way that works.

    Args:
        record: with `loading`, the classes of transformers.
        config: content of adapter_config.json; None of what is no adapter.
        folder: with the weights, or their name on the hub.
        processor: folder or hub id of the tokenizer or image processor; None is that of the weights.

    Returns: how -> Python.
    """
    loading, where, base = record["loading"], json.dumps(folder), record["base_model"]
    if Path(base).is_dir():
        base = str(Path(base).resolve())  # the code is run elsewhere than the training
    model, reader = loading["model_class"], loading["processor_class"]
    trust = {"trust_remote_code": True} if record["trust_remote_code"] else {}
    read = f"processor = {_call(reader, processor or folder, trust)}"
    if config is None and record["method"] == "full":
        loaded = f"model = {model}.from_pretrained({where})\n{read}"
        return {TRANSFORMERS: f"from transformers import {model}, {reader}\n\n{loaded}"}
    if config is None or record.get("quantization"):
        return {
            OURS: "from fourierft.training.evaluation import load_trained\n\n"
            f"trained = load_trained({where})\nmodel, processor = trained.model, trained.processor"
        }
    options = {"revision": record["revision"]} if record["revision"] != "main" and is_hub_id(base) else {}
    if record["heads"]:
        options |= {**loading["options"], **_named(record), "ignore_mismatched_sizes": True}
    options |= {"dtype": record["dtype"]} if record["dtype"] != "float32" else {}
    imports = f"from peft import PeftModel\nfrom transformers import {model}, {reader}"
    lines = [f"base = {_call(model, base, {**options, **trust})}"]
    lines += [f"model = PeftModel.from_pretrained(base, {where})", read]
    return with_switch(imports, "\n".join(lines), config)


def _named(record: Mapping[str, Any]) -> dict[str, Any]:
    """What gives a model's outputs the names of the labels; nothing where they have none, or too many to be read."""
    names = record.get("labels") or []
    if len(names) != record["loading"]["options"].get("num_labels") or len(names) > _MOST_LABELS:
        return {}
    return {"id2label": dict(enumerate(names)), "label2id": {name: place for place, name in enumerate(names)}}


def with_switch(imports: str, code: str, config: Mapping[str, Any]) -> dict[str, str]:
    """Code that loads an adapter in stock PEFT, if that can have it, and in this package, if it is a FourierFT adapter.

    Args:
        imports, code: in stock PEFT.
        config: content of adapter_config.json.
    """
    alone = f"{imports}\n\n{code}"
    if config.get("peft_type") != "FOURIERFT":
        return {PEFT: alone}
    ours = {OURS: f"import fourierft\n{imports}\n\nfourierft.enable()\n{code}"}
    try:
        is_beyond_stock = Record.read(config.get("fourierft"), CARD_FILE).is_beyond_stock
    except CheckpointError:  # it requires what not even this version knows, such as a basis that is tried out
        is_beyond_stock = True
    return ours if is_beyond_stock else {STOCK: alone, **ours}


def _call(kind: str, name: str, options: Mapping[str, Any]) -> str:
    plain = (bool, dict)  # which Python writes otherwise than JSON
    words = {key: value if isinstance(value, plain) else json.dumps(value) for key, value in options.items()}
    given = [json.dumps(name), *(f"{key}={value}" for key, value in words.items())]
    line = ", ".join(given)
    if len(line) > 60:
        line = "\n" + "".join(f"    {one},\n" for one in given)
    return f"{kind}.from_pretrained({line})"
