"""A family is all that a task takes: each trains, evaluates, compares and joins the fleet, also one defined here."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import EntryPoint, EntryPoints
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from transformers import EvalPrediction

from fourierft import AdapterStore
from fourierft.adapters.card import OURS, STOCK
from fourierft.cli.main import main
from fourierft.errors import CheckpointError, ConfigError
from fourierft.training.arguments import DataArguments, MethodArguments, ModelArguments
from fourierft.training.comparison.grid import measure_methods, run_grid
from fourierft.training.comparison.tasks import read_task
from fourierft.training.evaluation import evaluate, load_trained
from fourierft.training.families import Family, register, registry
from fourierft.training.families.texts import TextRows
from fourierft.training.fleet.run import train_fleet
from fourierft.training.fleet.settings import FleetArguments, FleetSettings
from fourierft.training.labels import Where, by_index
from fourierft.training.run import train
from fourierft.training.settings import build_arguments

GOOD, BAD = ("good", "great", "fine", "lovely"), ("bad", "awful", "poor", "dull")
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")


class Thumbs(TextRows):
    """One yes or no a text, from one output."""

    name, kind = "thumbs", "thumbs"
    metrics = ("missed", "hit")
    lower_is_better = ("missed",)

    def claims(self, rows: Any, data: DataArguments) -> bool:
        return data.task == self.name

    def model_settings(self) -> dict[str, Any]:
        return {"num_labels": 1, "problem_type": "multi_label_classification"}

    def encode_labels(self, values: Sequence[Any], where: Where = by_index) -> list[Any]:
        return [[float(value == "yes")] for value in values]

    def empty_labels(self, rows: int, shape: tuple[int, ...]) -> Tensor:
        return torch.empty(rows, 1)

    def row_losses(self, logits: Tensor, labels: Tensor) -> Tensor:
        return nn.functional.binary_cross_entropy_with_logits(logits, labels, reduction="none").mean(1)

    def score(self, prediction: EvalPrediction) -> dict[str, float]:
        hit = float(((np.asarray(prediction.predictions) > 0) == (np.asarray(prediction.label_ids) > 0)).mean())
        return {"missed": 1 - hit, "hit": hit}

    def decode(self, outputs: np.ndarray) -> list[dict[str, Any]]:
        return [{"prediction": "up" if logit > 0 else "down"} for logit in outputs[:, 0]]

    def shown(self, label: Any) -> str:
        return "yes" if label[0] else "no"


def write_rows(task: str, path: Path) -> Path:
    """48 rows of two adapters: words of tiny_bert, and what the last of them means."""
    draw, lines = random.Random(0), []
    for k in range(48):
        is_good, is_book = draw.random() < 0.5, draw.random() < 0.5
        words = ["the", "book" if is_book else "film", "is", draw.choice(GOOD if is_good else BAD)]
        row: dict[str, Any] = {"adapter": f"a{k % 2}", "text": " ".join(words), "label": "yes" if is_good else "no"}
        if task == "multi_label_classification":
            row["label"] = ["book"] * is_book + ["good"] * is_good
        if task == "token_classification":
            row = {"adapter": f"a{k % 2}", "tokens": words, "tags": ["O", "B-X" if is_book else "O", "O", "O"]}
        lines.append(json.dumps(row))
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture(autouse=True)
def thumbs(monkeypatch: pytest.MonkeyPatch) -> None:
    """The family of this file, registered."""
    monkeypatch.setattr(registry, "_REGISTERED", [])
    register(Thumbs())


@pytest.fixture(params=["thumbs", "multi_label_classification", "token_classification"])
def task(request: pytest.FixtureRequest) -> str:
    return str(request.param)


METRICS = {
    "thumbs": {"missed", "hit"},
    "multi_label_classification": {"f1_micro", "f1_macro", "subset_accuracy"},
    "token_classification": {"f1", "precision", "recall", "accuracy"},
}


@pytest.fixture
def settings(task: str, tiny_bert: Path, tmp_path: Path) -> dict[str, Any]:
    """Of a training of some steps."""
    rows = str(write_rows(task, tmp_path / "rows.jsonl"))
    given = {"model_name_or_path": str(tiny_bert), "train_file": rows, "validation_file": rows, "task": task}
    return {**given, "max_steps": 80, "per_device_train_batch_size": 16, "use_cpu": True, "disable_tqdm": True}


def test_it_trains_and_evaluates_to_the_same_scores(settings: dict[str, Any], task: str, tmp_path: Path) -> None:
    out = str(tmp_path / "out")
    given = {**settings, "output_dir": out, "n_frequency": 200, "learning_rate": 1e-2}
    dry = train(build_arguments({**given, "dry_run": True}))
    assert dry["rows"] == {"train": 48, "validation": 48}
    assert dry["memory"]
    metrics = train(build_arguments({**given, "load_best_model_at_end": True, "eval_strategy": "steps",
                                     "eval_steps": 20, "save_steps": 20}))  # fmt: skip
    assert METRICS[task] <= set(metrics["eval"])
    main_metric = metrics["main_metric"]
    assert metrics["lower_is_better"] == (task == "thumbs")
    assert metrics["eval"][main_metric] == metrics["best"][main_metric]
    assert metrics["eval"]["missed"] < 0.2 if task == "thumbs" else metrics["eval"][main_metric] > 0.8
    evaluation = evaluate(out, DataArguments(test_file=settings["train_file"]), batch_size=7, use_cpu=True)
    for name in METRICS[task]:
        assert evaluation.metrics[name] == pytest.approx(metrics["eval"][name])
    given_rows = [json.loads(line) for line in Path(settings["train_file"]).read_text().splitlines()]
    shown = json.loads(json.dumps(evaluation.predictions))
    assert [row["label"] for row in shown] == [row.get("label", row.get("tags")) for row in given_rows]
    agree = sum(row["prediction"] == {"yes": "up", "no": "down"}.get(str(row["label"]), row["label"]) for row in shown)
    assert agree > 40


def test_it_compares(settings: dict[str, Any], task: str, tmp_path: Path) -> None:
    grid = {"methods": ["head", "fourierft:50"], "learning_rates": [1e-2], "seeds": [0]}
    kept = {name: value for name, value in settings.items() if name not in ("use_cpu", "disable_tqdm")}
    (tmp_path / "task.yaml").write_text(json.dumps({**kept, **grid, "max_steps": 2, "use_cpu": True}))
    chosen = read_task(tmp_path / "task.yaml")
    assert [row[0] for row in measure_methods(chosen)] == ["method", "head only", "FourierFT n=50"]
    rows = run_grid(chosen, tmp_path / "out", tell=lambda line: None)
    assert [row["method"] for row in rows] == ["head", "fourierft:50"]
    assert all(METRICS[task] <= set(row["metrics"]) for row in rows)
    assert all(row["lower_is_better"] == (task == "thumbs") for row in rows)


def test_it_trains_in_a_fleet(
    settings: dict[str, Any], task: str, tiny_bert: Path, tmp_path: Path, run_card: Any
) -> None:
    store = str(tmp_path / "fleet.db")
    arguments = FleetArguments(
        model=ModelArguments(str(tiny_bert)),
        data=DataArguments(train_file=settings["train_file"], task=task),
        store=store,
        method=MethodArguments(n_frequency=50),
        fleet=FleetSettings(epochs=6, learning_rate=1e-2, validation_fraction=0.25),
    )
    results = train_fleet(arguments)
    assert set(results["adapters"]) == {"a0", "a1"}
    assert all(METRICS[task] <= set(metrics) for metrics in results["adapters"].values())
    with AdapterStore(store) as kept:
        kept.get("a0").write(tmp_path / "a0")
    evaluation = evaluate(tmp_path / "a0", DataArguments(test_file=settings["train_file"]), use_cpu=True)
    assert METRICS[task] <= set(evaluation.metrics)
    check_card(run_card, tmp_path / "a0")
    card = (tmp_path / "a0" / "README.md").read_text()
    assert all(f"| {name} | " in card for name in METRICS[task])


def check_card(run_card: Any, folder: Path) -> None:
    """The code of a card gives the model that `load_trained` gives, in both ways."""
    found, trained = run_card(folder), load_trained(folder)
    assert list(found) == [STOCK, OURS]
    batch = trained.processor(["the film is good", "a book was bad"], return_tensors="pt")
    for how, names in found.items():
        with torch.no_grad():
            said = names["model"].eval()(**batch).logits
            torch.testing.assert_close(said, trained.model(**batch).logits, rtol=1e-5, atol=1e-6, msg=how)


def test_the_command_knows_it(settings: dict[str, Any], task: str, tmp_path: Path, run_card: Any) -> None:
    flags = [part for name in ("model_name_or_path", "train_file", "task") for part in (f"--{name}", settings[name])]
    out = str(tmp_path / "out")
    assert main(["train", *flags, "--max_steps", "1", "--use_cpu", "--output_dir", out]) == 0
    assert main(["evaluate", out, "--test_file", settings["train_file"], "--use_cpu"]) == 0
    card = (tmp_path / "out" / "README.md").read_text()
    assert f"\n{task.replace('_', ' ').capitalize()} of `" in card
    check_card(run_card, tmp_path / "out")


def test_a_name_is_taken_once_and_a_task_that_is_not_here_is_told(
    settings: dict[str, Any], task: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    register(Thumbs())
    assert registry.names().count("thumbs") == 1
    other = type("Other", (Thumbs,), {})
    with pytest.raises(ConfigError, match="the task thumbs of thumbs rows exists, as a Thumbs; choose"):
        register(other())
    record = {"task": "ranking", "inputs": "lists", "labels": []}
    with pytest.raises(
        CheckpointError, match="this training has the task ranking on lists rows, which is unknown here"
    ):
        registry.family_of(record)


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """Puts an entry point in the place of those that are installed."""

    def install(value: str) -> None:
        entry = EntryPoint("mine", value, registry.GROUP)
        monkeypatch.setattr(registry, "entry_points", lambda group: EntryPoints([entry]).select(group=group))
        registry._load_installed.cache_clear()

    yield install
    registry._load_installed.cache_clear()


def test_an_installed_family_is_found_and_one_that_is_none_is_told(
    install: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "_REGISTERED", [])
    assert "thumbs" not in registry.names()
    monkeypatch.setitem(__import__("sys").modules, "mine", type("mine", (), {"thumbs": Thumbs()}))
    install("mine:thumbs")
    assert "thumbs" in registry.names()
    assert isinstance(registry.families()[-1], Family)
    for value, reason in (
        ("nowhere:family", r"can't be loaded \(No module named 'nowhere'\); correct or uninstall"),
        ("json:dumps", "is a function, not a Family"),
    ):
        install(value)
        with pytest.raises(ConfigError, match=f"the task mine of {value} {reason}"):
            registry.families()
