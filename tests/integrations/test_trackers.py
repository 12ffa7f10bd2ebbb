"""What transformers' Trainer reports reaches tensorboard, wandb (offline) and mlflow; `fourierft train` hands it on."""

from __future__ import annotations

import json
from pathlib import Path

from .conftest import Run


def test_losses_of_a_training_reach_every_tracker(run: Run, base: Path, tmp_path: Path) -> None:
    rows = [{"text": "the film is", "label": "good"}, {"text": "the book is", "label": "dull"}] * 4
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    words = ["--model_name_or_path", base, "--train_file", "rows.jsonl", "--task", "answers", "--text_column", "text"]
    words += ["--label_column", "label", "--n_frequency", "20", "--max_steps", "3", "--logging_steps", "1", "--use_cpu"]
    words += ["--output_dir", "out", "--report_to", "all"]
    places = {"WANDB_MODE": "offline", "MLFLOW_TRACKING_URI": (tmp_path / "mlruns").as_uri()}
    places["MLFLOW_ALLOW_FILE_STORE"] = "true"
    run("fourierft", "train", *words, **places, TENSORBOARD_LOGGING_DIR=str(tmp_path / "tensorboard"))
    assert list((tmp_path / "wandb").glob("offline-run-*/*.wandb"))
    assert list((tmp_path / "tensorboard").glob("events.out.tfevents.*"))
    (losses,) = (tmp_path / "mlruns").rglob("metrics/loss")
    assert len(losses.read_text().splitlines()) == 3  # one a step
