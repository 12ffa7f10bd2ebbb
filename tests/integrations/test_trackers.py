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
    words += ["--output_dir", "out", "--config", "trackers.yaml"]
    (tmp_path / "trackers.yaml").write_text("report_to: [tensorboard, wandb, mlflow]\n")
    places = {"WANDB_MODE": "offline", "MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path}/mlflow.db"}
    run("fourierft", "train", *words, **places, TENSORBOARD_LOGGING_DIR=str(tmp_path / "tensorboard"))
    assert list((tmp_path / "wandb").glob("offline-run-*/*.wandb"))
    assert list((tmp_path / "tensorboard").glob("events.out.tfevents.*"))
    look = "import mlflow; print(mlflow.search_runs(search_all_experiments=True)['metrics.train_loss'].notna().sum())"
    assert run("python", "-c", look, MLFLOW_TRACKING_URI=places["MLFLOW_TRACKING_URI"]).strip().endswith("1")
