"""`fourierft merge` from the outside: what it says, what it saves, what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForSequenceClassification, AutoTokenizer, pipeline

from fourierft.cli.main import main
from fourierft.training.arguments import DataArguments
from fourierft.training.evaluation import evaluate, load_trained


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, tiny_bert: Path) -> Path:
    """What `fourierft train` wrote after 12 steps on 16 rows of two named classes."""
    folder = tmp_path_factory.mktemp("trained")
    rows = [f"{'good' if i % 2 else 'bad'} film,{'pos' if i % 2 else 'neg'}" for i in range(16)]
    (folder / "data.csv").write_text("\n".join(["text,label", *rows]) + "\n")
    arguments = [
        "--model_name_or_path",
        str(tiny_bert),
        "--train_file",
        str(folder / "data.csv"),
        "--n_frequency",
        "60",
    ]
    arguments += ["--output_dir", str(folder / "out"), "--max_steps", "12", "--use_cpu", "--learning_rate", "1e-2"]
    assert main(["train", *arguments]) == 0
    return folder / "out"


def test_merged_model_is_the_trained_one(trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["merge", str(trained), str(tmp_path / "merged")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("merged 13 layers into ")
    assert lines[1].endswith("merged: BertForSequenceClassification, float32, with its tokenizer")
    tokens = AutoTokenizer.from_pretrained(tmp_path / "merged")(["the film was great"], return_tensors="pt")
    merged = AutoModelForSequenceClassification.from_pretrained(tmp_path / "merged").eval()
    with torch.inference_mode():
        expected = load_trained(trained).model(**tokens).logits
        torch.testing.assert_close(merged(**tokens).logits, expected, rtol=1e-4, atol=1e-5)
    assert merged.config.id2label == {0: "neg", 1: "pos"}


@pytest.mark.parametrize("task", ["multi_label_classification", "regression"])
def test_a_pipeline_reads_the_outputs_of_the_merged_model_as_the_training_did(
    tiny_bert: Path, tmp_path: Path, task: str
) -> None:
    labels = {"multi_label_classification": (["good"], ["good", "new"], []), "regression": (0.5, 1.5, -2)}[task]
    texts = ("the film is good", "a great film", "a dull book")
    lines = [json.dumps({"text": text, "labels": label}) for text, label in zip(texts, labels, strict=True)] * 4
    (tmp_path / "rows.jsonl").write_text("\n".join(lines))
    arguments = ["--model_name_or_path", str(tiny_bert), "--train_file", str(tmp_path / "rows.jsonl"), "--task", task]
    assert main(["train", *arguments, "--output_dir", str(tmp_path / "out"), "--max_steps", "3", "--use_cpu"]) == 0
    assert main(["merge", str(tmp_path / "out"), str(tmp_path / "merged")]) == 0
    found = evaluate(tmp_path / "out", DataArguments(test_file=str(tmp_path / "rows.jsonl")), use_cpu=True).predictions
    read = pipeline("text-classification", str(tmp_path / "merged"), device="cpu", top_k=None)
    for told, row in zip(read(list(texts)), found, strict=False):
        scores = {one["label"]: one["score"] for one in told}
        expected = row["probabilities"] if "probabilities" in row else {"LABEL_0": row["prediction"]}
        assert scores == pytest.approx(expected, rel=1e-4, abs=1e-5)


def test_low_precision_says_what_is_lost(trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["merge", str(trained), str(tmp_path / "merged"), "--dtype", "bfloat16"]) == 0
    assert "note: rounding to bfloat16 lost" in capsys.readouterr().out
    tensors = load_file(tmp_path / "merged" / "model.safetensors").values()
    assert {tensor.dtype for tensor in tensors} == {torch.bfloat16}


def test_base_may_be_elsewhere(
    trained: Path, tiny_bert: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "moved").symlink_to(tiny_bert)
    assert main(["merge", str(trained), str(tmp_path / "merged"), "--base", str(tmp_path / "moved")]) == 0
    assert f"into {tmp_path / 'moved'}" in capsys.readouterr().out


def test_output_that_exists_is_left_alone(trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    assert main(["merge", str(trained), str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert error.startswith("fourierft: error: ")
    assert error.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_damaged_adapter_is_one_sentence(trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "adapter").mkdir()
    weights = (trained / "adapter_model.safetensors").read_bytes()
    (tmp_path / "adapter" / "adapter_model.safetensors").write_bytes(weights[:-8])
    (tmp_path / "adapter" / "adapter_config.json").write_bytes((trained / "adapter_config.json").read_bytes())
    assert main(["merge", str(tmp_path / "adapter"), str(tmp_path / "merged")]) == 2
    assert "is truncated or damaged" in capsys.readouterr().err
    assert not (tmp_path / "merged").exists()


def test_help_has_examples(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(["merge", "--help"])
    assert exit_.value.code == 0
    assert "fourierft merge user/adapter merged --dtype float32" in capsys.readouterr().out
