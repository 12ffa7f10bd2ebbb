"""What `train` wrote is loaded and scored again, whatever the method; damaged or foreign files are refused."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForSequenceClassification, BertConfig, BertModel

from fourierft import AdapterStore
from fourierft.adapters.card import OURS, PEFT, STOCK, TRANSFORMERS
from fourierft.errors import CheckpointError, ConfigError, DataError
from fourierft.training.arguments import Arguments, DataArguments
from fourierft.training.evaluation import Evaluation, evaluate, load_trained
from fourierft.training.run import train

Build = Callable[..., Arguments]
WORDS = (
    "a",
    "the",
    "film",
    "book",
    "is",
    "was",
    "so",
    "very",
    "good",
    "great",
    "fine",
    "lovely",
    "bad",
    "awful",
    "poor",
)


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


def score(directory: Path, file: Path, **data: Any) -> Evaluation:
    return evaluate(directory, DataArguments(test_file=str(file), **data), use_cpu=True)


@pytest.mark.parametrize("method", ["fourierft", "lora", "head", "bitfit", "full"])
def test_evaluation_repeats_the_training_s_metrics(build: Build, reviews: Path, out: Path, method: str) -> None:
    metrics = train(build(method=method, validation_file=str(reviews), learning_rate=1e-2, max_steps=20))
    again = score(out, reviews).metrics
    assert again["loss"] == pytest.approx(metrics["eval"]["loss"], rel=1e-5)
    assert again["accuracy"] == metrics["eval"]["accuracy"]


def test_predictions_carry_text_label_and_prediction(build: Build, reviews: Path, out: Path) -> None:
    train(build(max_steps=20, learning_rate=1e-2))
    evaluation = score(out, reviews)
    with reviews.open() as file:
        rows = list(csv.DictReader(file))
    assert [p["text"] for p in evaluation.predictions] == [row["text"] for row in rows]
    right = [p["prediction"] == row["label"] for p, row in zip(evaluation.predictions, rows, strict=True)]
    assert sum(right) / len(right) == evaluation.metrics["accuracy"]
    assert all(0.5 <= p["probability"] <= 1 for p in evaluation.predictions)


@pytest.mark.parametrize("column", ["label", "rating"])
def test_rows_without_labels_are_predicted_as_those_with_them(
    build: Build, reviews: Path, out: Path, tmp_path: Path, column: str
) -> None:
    train(build(max_steps=8, learning_rate=1e-2, label_column=column))
    with reviews.open() as file:
        rows = list(csv.DictReader(file))
    bare = tmp_path / "bare.csv"
    with bare.open("w", newline="") as file:
        csv.writer(file).writerows([["text"], *([row["text"]] for row in rows)])
    known = score(out, reviews).predictions
    found = evaluate(out, DataArguments(test_file=str(bare)), use_cpu=True, may_lack_labels=True)
    assert found.metrics == {}
    assert [row.keys() & {"label"} for row in found.predictions] == [set()] * len(rows)
    for row, other in zip(found.predictions, known, strict=True):
        assert row["prediction"] == (other["prediction"] if column == "label" else pytest.approx(other["prediction"]))
    with pytest.raises(DataError, match=f"no column {column}"):
        score(out, bare)
    with pytest.raises(DataError, match="no column mood"):
        evaluate(out, DataArguments(test_file=str(bare), label_column="mood"), use_cpu=True, may_lack_labels=True)


def test_regression_is_evaluated_as_such(build: Build, reviews: Path, out: Path) -> None:
    train(build(label_column="rating"))
    evaluation = score(out, reviews)
    errors = [p["prediction"] - p["label"] for p in evaluation.predictions]
    assert evaluation.metrics["rmse"] == pytest.approx((sum(e * e for e in errors) / len(errors)) ** 0.5, rel=1e-5)


def test_other_column_names_can_be_given(build: Build, reviews: Path, out: Path, tmp_path: Path) -> None:
    train(build())
    renamed = tmp_path / "tweets.csv"
    renamed.write_text(reviews.read_text().replace("text,label,rating", "tweet,mood,rating"))
    with pytest.raises(DataError, match="no column text; the data has the columns tweet, mood, rating"):
        score(out, renamed)
    evaluation = score(out, renamed, text_column=["tweet"], label_column="mood")
    assert evaluation.metrics["accuracy"] == score(out, reviews).metrics["accuracy"]


def test_labels_training_did_not_know_are_refused(build: Build, out: Path, tmp_path: Path) -> None:
    train(build())
    (tmp_path / "new.csv").write_text("text,label\ngood film,maybe\n")
    with pytest.raises(
        DataError, match=r"row 1 of .*new\.csv has the label maybe, which training did not see .*; it knows no, yes"
    ):
        score(out, tmp_path / "new.csv")


def test_base_model_that_moved_can_be_named(
    build: Build, reviews: Path, out: Path, tiny_bert: Path, tmp_path: Path
) -> None:
    moved = tmp_path / "moved"
    train(build())
    record = json.loads((out / "fourierft.json").read_text())
    (out / "fourierft.json").write_text(json.dumps({**record, "base_model": str(moved)}))
    with pytest.raises(ConfigError, match="moved can't be loaded"):
        score(out, reviews)
    found = evaluate(out, DataArguments(test_file=str(reviews)), base_model=str(tiny_bert), use_cpu=True)
    shutil.copytree(tiny_bert, moved)
    assert score(out, reviews).metrics["loss"] == found.metrics["loss"]


@pytest.mark.parametrize(("method", "name"), [("fourierft", "adapter_model"), ("head", "trained")])
def test_truncated_weights_are_refused(build: Build, reviews: Path, out: Path, method: str, name: str) -> None:
    train(build(method=method))
    file = out / f"{name}.safetensors"
    file.write_bytes(file.read_bytes()[:-20])
    with pytest.raises(CheckpointError, match="damaged"):
        score(out, reviews)


@pytest.mark.parametrize(("method", "name"), [("fourierft", "adapter_model"), ("head", "trained")])
def test_weights_that_are_nan_are_refused(build: Build, reviews: Path, out: Path, method: str, name: str) -> None:
    train(build(method=method))
    weights = load_file(out / f"{name}.safetensors")
    next(iter(weights.values())).view(-1)[0] = float("nan")
    save_file(weights, out / f"{name}.safetensors", metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match=r"holds NaN or infinity in .*; train again"):
        score(out, reviews)


def test_adapter_of_another_base_is_refused(
    build: Build, reviews: Path, out: Path, tiny_bert: Path, tmp_path: Path
) -> None:
    train(build())
    wider = shutil.copytree(tiny_bert, tmp_path / "wider")
    BertModel(BertConfig.from_pretrained(tiny_bert, hidden_size=16)).save_pretrained(wider)
    with pytest.raises(CheckpointError) as caught:
        evaluate(out, DataArguments(test_file=str(reviews)), base_model=str(wider), use_cpu=True)
    assert "\n" not in str(caught.value)


def test_base_of_a_relative_path_is_told_where_it_was_looked_for(
    build: Build, reviews: Path, out: Path, tiny_bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "there/base").symlink_to(tiny_bert)
    monkeypatch.chdir(tmp_path / "there")
    train(build(model_name_or_path="base", max_steps=1))
    monkeypatch.chdir(tmp_path)
    told = f"there is no folder base in {tmp_path}, and the hub does not answer.* with --model_name_or_path"
    with pytest.raises(ConfigError, match=told):
        score(out, reviews)
    evaluate(out, DataArguments(test_file=str(reviews)), use_cpu=True, base_model="there/base")


def test_unfinished_training_is_refused(build: Build, reviews: Path, out: Path) -> None:
    train(build())
    (out / "adapter_model.safetensors").unlink()
    with pytest.raises(CheckpointError, match="did not finish; resume"):
        score(out, reviews)


def test_directory_that_train_did_not_write_is_refused(tmp_path: Path, reviews: Path) -> None:
    with pytest.raises(CheckpointError, match="name a directory that `fourierft train` wrote"):
        score(tmp_path, reviews)


def test_an_adapter_out_of_a_store_reads_texts_with_the_tokenizer_of_its_training(
    build: Build, reviews: Path, out: Path, tmp_path: Path, tiny_bert: Path, save_tokenizer: Any
) -> None:
    words = ["[PAD]", "[UNK]", *sorted(WORDS, reverse=True)]
    save_tokenizer(tmp_path / "words", words, pad_token="[PAD]", unk_token="[UNK]", model_max_length=32)
    train(build(tokenizer_name=str(tmp_path / "words"), learning_rate=1e-2))
    with AdapterStore(tmp_path / "fleet.db") as store:
        store.add("reviews", out, base=str(tiny_bert))
        store.export("reviews", tmp_path / "got")
    assert not list((tmp_path / "got").glob("tokenizer*"))
    first, second = (score(folder, reviews).predictions for folder in (out, tmp_path / "got"))
    assert first == second


@pytest.mark.parametrize(
    ("method", "ways"),
    [
        ("fourierft", [STOCK, OURS]),
        ("lora", [PEFT]),
        ("head", [OURS]),
        ("full", [TRANSFORMERS]),
    ],
)
def test_the_code_of_the_card_loads_what_was_trained_over_a_base_of_another_class_count(
    build: Build, run_card: Any, out: Path, tmp_path: Path, tiny_bert: Path, method: str, ways: list[str]
) -> None:
    five = AutoModelForSequenceClassification.from_pretrained(tiny_bert, num_labels=5)
    shutil.copytree(tiny_bert, tmp_path / "five")
    five.save_pretrained(tmp_path / "five")
    train(build(model_name_or_path=str(tmp_path / "five"), method=method, learning_rate=1e-2))
    found = run_card(out)
    assert list(found) == ways
    trained = load_trained(out)
    batch = trained.processor(["the film is good", "a book was bad"], return_tensors="pt")
    for how, names in found.items():
        assert names["processor"](["the film is good", "a book was bad"], return_tensors="pt").keys() == batch.keys()
        with torch.no_grad():
            said = names["model"].eval()(**batch).logits
            torch.testing.assert_close(said, trained.model(**batch).logits, rtol=1e-5, atol=1e-6, msg=how)
    if method == "fourierft":
        modules = [type(module).__module__ for name in ways for module in found[name]["model"].modules()]
        assert any(module.startswith("fourierft.") for module in modules)
        stock = [type(module).__module__ for module in found[STOCK]["model"].modules()]
        assert not any(module.startswith("fourierft.") for module in stock)
