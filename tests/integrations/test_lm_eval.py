"""lm-eval's own command scores an adapter by stock PEFT, and with `FOURIERFT_ENABLE=1` by this package's tuner."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from .conftest import Logits, Run

MAKE = Path(__file__).with_name("make_adapter.py")
CHOICES = ["good", "bad", "dull"]


@pytest.fixture
def task(tmp_path: Path) -> Path:
    """A folder with one task: which word ends a sentence."""
    rows = [{"text": f"the {thing} is", "end": end} for thing in ("film", "book") for end in (0, 1)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    settings: dict[str, Any] = {
        "task": "ends",
        "dataset_path": "json",
        "output_type": "multiple_choice",
        "test_split": "test",
    }
    settings["dataset_kwargs"] = {"data_files": {"test": str(tmp_path / "rows.jsonl")}}
    settings |= {"doc_to_text": "{{text}}", "doc_to_choice": CHOICES, "doc_to_target": "end"}
    settings["metric_list"] = [{"metric": "acc", "aggregation": "mean", "higher_is_better": True}]
    (tmp_path / "tasks").mkdir()
    (tmp_path / "tasks" / "ends.yaml").write_text(yaml.safe_dump(settings))
    return tmp_path / "tasks"


def scores(run: Run, base: Path, adapter: Path, task: Path, output: Path, **variables: str) -> list[float]:
    """The log-likelihood of every choice of every row."""
    model = f"pretrained={base},peft={adapter},dtype=float32"
    words = ["--model", "hf", "--model_args", model, "--tasks", "ends", "--include_path", task, "--device", "cpu"]
    run("lm_eval", *words, "--batch_size", "1", "--log_samples", "--output_path", output, **variables)
    (file,) = output.rglob("samples_ends_*.jsonl")
    samples = [json.loads(line) for line in file.read_text().splitlines()]
    return [float(answer[0]) for sample in samples for answer in sample["filtered_resps"]]


def test_both_score_an_adapter_alike(run: Run, logits: Logits, base: Path, task: Path, tmp_path: Path) -> None:
    run("python", MAKE, base, tmp_path / "adapter")
    stock = scores(run, base, tmp_path / "adapter", task, tmp_path / "stock")
    ours = scores(run, base, tmp_path / "adapter", task, tmp_path / "ours", FOURIERFT_ENABLE="1")
    assert len(stock) == 4 * len(CHOICES)
    assert ours == pytest.approx(stock, abs=5e-6)
    row = logits(tmp_path / "adapter", enabled=True, text="the film is")[0, -1].log_softmax(-1)
    assert ours[0] == pytest.approx(row[12].item(), abs=1e-5)  # make_base.py: "good"


def test_what_stock_peft_cannot_read_is_scored_with_the_switch(
    run: Run, logits: Logits, base: Path, task: Path, tmp_path: Path
) -> None:
    run("python", MAKE, base, tmp_path / "adapter", "bandpass")
    ours = scores(run, base, tmp_path / "adapter", task, tmp_path / "ours", FOURIERFT_ENABLE="1")
    row = logits(tmp_path / "adapter", enabled=True, text="the film is")[0, -1].log_softmax(-1)
    assert ours[0] == pytest.approx(row[12].item(), abs=1e-5)
    with pytest.raises(AssertionError, match="which only the package fourierft reads"):
        scores(run, base, tmp_path / "adapter", task, tmp_path / "stock")
