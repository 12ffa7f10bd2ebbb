"""The runs of a task, one after the other: each leaves a row, and none that has one is run again."""

from __future__ import annotations

import contextlib
import io
import json
import math
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch

from fourierft.adapters.card import is_score
from fourierft.errors import BusyError, ConfigError
from fourierft.training import output, report
from fourierft.training.arguments import DataArguments
from fourierft.training.checkpoints import has_checkpoint
from fourierft.training.comparison.results import FILE, Row, name_rule
from fourierft.training.comparison.tasks import Run, Task, digest
from fourierft.training.comparison.texts import score_pretrained, score_written
from fourierft.training.data import has_validation
from fourierft.training.families.registry import lower_is_better
from fourierft.training.generation.decoding import Decoding
from fourierft.training.labels import shorten
from fourierft.training.lock import held
from fourierft.training.plan import plan_training
from fourierft.training.provenance import find_commit, versions
from fourierft.training.run import build_trainer, train
from fourierft.training.settings import build_arguments
from fourierft.tuner.scaling import RULE

QUIET: dict[str, Any] = {"disable_tqdm": True, "save_strategy": "no", "report_to": "none"}


def run_grid(
    task: Task,
    directory: Path,
    max_runs: int | None = None,
    keep: bool = False,
    tell: Callable[[str], None] = print,
) -> list[Row]:
    """Do the runs that are missing.

    Args:
        task: with its grid.
        directory: of runs.jsonl, and of a folder a run while it lasts.
        max_runs: stop after so many.
        keep: leave the folders of finished runs, with their adapters, in place.
        tell: is given a line a run.

    Returns: all rows of this task under these settings, those of other grids included.

    Raises: FourierFTError, if a setting is wrong. TrainingInterrupted, on Ctrl-C; the next call goes on from there.
    """
    return run_tasks([task], directory / FILE, max_runs=max_runs, keep=keep, tell=tell)


def run_tasks(
    tasks: Sequence[Task],
    file: Path,
    *,
    known: Sequence[Row] = (),
    stamp: Mapping[str, Any] | None = None,
    max_runs: int | None = None,
    keep: bool = False,
    tell: Callable[[str], None] = print,
) -> list[Row]:
    """Do the runs of several tasks that are missing, as `run_grid` does those of one.

    Args:
        tasks: each with its grid.
        file: of JSON lines; the folders of runs stand beside it.
        known: rows of other files; a run that has one there is not done again, its row is copied.
        stamp: what every new row says beside its own.

    Returns: all rows of these tasks under these settings.
    """
    prepared = [(task, settings, task.protocol(settings)) for task in tasks for settings in [task.prepare()]]
    for task, settings, _ in prepared:
        check_scored(task, settings)
    runs = [(*each, run) for each in prepared for run in each[0].runs()]
    finished, elsewhere = (
        {row["key"] for row in output.read_json_lines(file) if "key" in row},
        {row["key"]: row for row in known},
    )
    missing = []
    for task, settings, protocol, run in runs:
        key = run_key(run, protocol)
        if key not in finished and key in elsewhere:
            output.append_json_line(file, {**elsewhere[key], **(stamp or {})})
        elif key not in finished:
            missing.append((task, settings, protocol, run))
        finished.add(key)
    missing = missing[:max_runs]
    names = list(dict.fromkeys(task.name for task in tasks))
    tell(f"{shorten(names)}: {len(runs)} runs, {len(missing)} to do now")
    begin = time.perf_counter()
    for number, (task, settings, protocol, run) in enumerate(missing, start=1):
        key, where = run_key(run, protocol), f"{task.name}, " if len(names) > 1 else ""
        title = f"{where}{run.method.title}, learning rate {run.learning_rate:g}, seed {run.seed}"
        try:
            with held(file.parent / "runs", f"{key}.pid"):
                if any(row.get("key") == key for row in output.read_json_lines(file)):
                    tell(f"{title}: finished by another process")
                    continue
                row = perform(task, run, settings, protocol, file.parent, keep)
                output.append_json_line(file, {**row, **(stamp or {})})
        except BusyError as error:
            tell(f"{title}: left out, as {error}")
            continue
        left = (time.perf_counter() - begin) / number * (len(missing) - number)
        score = "diverged" if row["score"] is None else f"{row['metric']} {row['score']:.4f}"
        progress = f"run {number} of {len(missing)}, about {format_time(left)} left"
        tell(f"{progress}: {title}: {score} in {row['seconds']:.0f} s")
    chosen = {(task.name, protocol) for task, _, protocol in prepared}
    return [name_rule(row) for row in output.read_json_lines(file) if (row.get("task"), row.get("protocol")) in chosen]


def check_scored(task: Task, settings: Mapping[str, Any]) -> None:
    """Raise ConfigError, if a task has no rows to score its runs on."""
    known = {field.name for field in fields(DataArguments)}
    data = DataArguments(**{name: value for name, value in settings.items() if name in known})
    if not has_validation(data):
        raise ConfigError(
            f"task {task.name} has no validation rows to score its runs on "
            f"(validation_fraction={data.validation_fraction:g}); "
            "give a validation_file or a data set with a validation split, or hold "
            "rows out with validation_fraction: 0.1"
        )


def run_key(run: Run, protocol: str) -> str:
    """Digest of all that makes a run's numbers."""
    method = run.method.config or run.method.family
    rule = [RULE] if run.method.is_scaled_by_rule else []
    return digest([protocol, method, run.learning_rate, run.seed, *rule])


def run_settings(run: Run, settings: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """The settings of `fourierft train` for a run; its adapter's config is written into `folder`."""
    method = run.method.family
    if run.method.config is not None:
        file = folder.with_name(f"{folder.name}-adapter_config.json")
        file.parent.mkdir(parents=True, exist_ok=True)
        output.write_json(file, run.method.config)
        method = str(file)
    chosen = {"method": method, "learning_rate": run.learning_rate, "seed": run.seed, "output_dir": str(folder)}
    return {**QUIET, **settings, **chosen}


def perform(task: Task, run: Run, settings: Mapping[str, Any], protocol: str, directory: Path, keep: bool) -> Row:
    """Train once and return the row; of `head` on a model that has none, score the model as it is."""
    key = run_key(run, protocol)
    folder = directory / "runs" / key
    given = run_settings(run, settings, folder)
    start = {"resume_from_checkpoint": "true"} if has_checkpoint(folder) else {"overwrite_output_dir": True}
    begin = time.perf_counter()
    with contextlib.redirect_stdout(io.StringIO()):
        if task.is_headless and run.method.family == "head":
            metrics, history = score_untrained(given, task.decoding)
        else:
            metrics = train(build_arguments({**given, **start}))
            history = json.loads((folder / output.HISTORY).read_text(encoding="utf-8"))
            if task.decoding:
                metrics["texts"] = score_written(folder, build_arguments(given), task.decoding)
    seconds = time.perf_counter() - begin
    if not keep:
        shutil.rmtree(folder, ignore_errors=True)
        folder.with_name(f"{folder.name}-adapter_config.json").unlink(missing_ok=True)
    return {
        "task": task.name,
        "method": run.method.spec,
        "family": run.method.family,
        "title": run.method.title,
        "config": run.method.config,
        **({"rule": RULE} if run.method.is_scaled_by_rule else {}),
        "learning_rate": run.learning_rate,
        "seed": run.seed,
        **read_scores(metrics, history),
        **({"texts": metrics["texts"]} if task.decoding else {}),
        "parameters": metrics["parameters"],
        "bytes": {
            "adapter": max(0, metrics["bytes"]["file"] - metrics["bytes"]["head"]),
            "file": metrics["bytes"]["file"],
        },
        "seconds_per_step": metrics["train"]["seconds_per_step"],
        "steps": metrics["train"]["steps"],
        "seconds": round(seconds, 2),
        "device": torch.cuda.get_device_name()
        if torch.cuda.is_available()
        else f"cpu, {torch.get_num_threads()} threads",
        "versions": versions(),
        "commit": find_commit(),
        "protocol": protocol,
        "key": key,
    }


def measure_methods(task: Task) -> list[tuple[str, ...]]:
    """Headings, and what each method would train, a row; nothing is trained or kept."""
    settings = task.prepare()
    cells: list[tuple[str, ...]] = [("method", "adapter", "head", "learning rates")]
    for method in task.methods:
        rates = task.rates_of(method)
        parameters = {"adapter": 0, "head": 0}
        if not (task.is_headless and method.family == "head"):
            with tempfile.TemporaryDirectory() as scratch, contextlib.redirect_stdout(io.StringIO()):
                given = run_settings(Run(method, rates[0], task.seeds[0]), settings, Path(scratch) / "run")
                parameters = train(build_arguments({**given, "dry_run": True}))["parameters"]
        shown = ", ".join(f"{rate:g}" for rate in sorted(rates))
        cells.append((method.title, f"{parameters['adapter']:,}", f"{parameters['head']:,}", shown))
    return cells


def read_scores(metrics: Mapping[str, Any], history: list[dict[str, Any]]) -> dict[str, Any]:
    """Score, metrics and curves of a run; a run that ended in NaN has no score, and a note."""
    metric, lower_is_better = metrics["main_metric"], metrics["lower_is_better"]
    scores = metrics["eval"]
    is_finite = all(value is not None and math.isfinite(value) for value in (scores["loss"], scores[metric]))
    return {
        "metric": metric,
        "lower_is_better": lower_is_better,
        "score": scores[metric] if is_finite else None,
        "note": None if is_finite else "diverged: the loss is no finite number",
        "test_score": metrics.get("test", {}).get(metric),
        "metrics": {name: value for name, value in scores.items() if is_score(name)},
        "eval_curve": [(log["step"], log[f"eval_{metric}"]) for log in history if f"eval_{metric}" in log],
        "loss_curve": [(log["step"], log["loss"]) for log in history if "loss" in log],
        "eval_curves": {
            name: [(log["step"], log[f"eval_{name}"]) for log in history if f"eval_{name}" in log]
            for name in scores
            if is_score(name)
        },
    }


def score_untrained(
    settings: Mapping[str, Any], decoding: Decoding | None = None
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Metrics and history of the model as it was pretrained, under an adapter of zeros."""
    arguments = build_arguments({**settings, "method": "fourierft", "n_frequency": 1})
    plan = plan_training(arguments)
    trainer = build_trainer(plan)
    scores = trainer.evaluate(plan.splits["validation"])
    metrics = {
        "eval": {name.removeprefix("eval_"): value for name, value in report.without_nan(scores).items()},
        "train": {"steps": 0, "seconds_per_step": 0.0},
        "parameters": {"adapter": 0, "head": 0, "base": plan.trainable.base_parameters},
        "bytes": {"adapter": 0, "head": 0, "file": 0},
        "main_metric": plan.setup.family.main_metric,
        "lower_is_better": lower_is_better(plan.setup.family.main_metric),
    }
    if decoding:
        metrics["texts"] = score_pretrained(plan, decoding)
    return metrics, [report.without_nan(log) for log in trainer.state.log_history]


def format_time(seconds: float) -> str:
    """Seconds as a person says them."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
