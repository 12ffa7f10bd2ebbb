"""A training from arguments to files: results, determinism, methods, and what it refuses before it writes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from fourierft.errors import CheckpointError, ConfigError, DataError, FourierFTError, OutputExistsError
from fourierft.training.arguments import Arguments
from fourierft.training.evaluation import evaluate
from fourierft.training.run import train

Build = Callable[..., Arguments]


def weights(directory: Path) -> dict[str, torch.Tensor]:
    return load_file(directory / "adapter_model.safetensors")


def test_training_writes_adapter_tokenizer_metrics_curve_and_card(build: Build, tmp_path: Path) -> None:
    metrics = train(build())
    out = tmp_path / "out"
    assert {p.name for p in out.iterdir() if p.suffix != ""} >= {
        "adapter_config.json", "adapter_model.safetensors", "tokenizer.json", "metrics.json", "curve.png", "README.md",
        "fourierft.json",
    }  # fmt: skip
    assert json.loads((out / "metrics.json").read_text()) == metrics
    assert (out / "curve.png").read_bytes().startswith(b"\x89PNG")
    assert "PeftModel.from_pretrained" in (out / "README.md").read_text()
    assert not list(out.glob("*.bin"))
    assert not list(out.glob(".*"))


def test_metrics_count_what_was_trained(build: Build, tmp_path: Path) -> None:
    metrics = train(build())
    assert metrics["parameters"]["adapter"] == 13 * 50  # six in each of two blocks, and the pooler
    assert metrics["parameters"]["head"] == 32 * 2 + 2
    assert metrics["bytes"]["adapter"] == 4 * 13 * 50
    assert metrics["bytes"]["file"] == (tmp_path / "out" / "adapter_model.safetensors").stat().st_size
    assert metrics["rows"] == {"train": 48, "validation": 16}
    assert metrics["train"]["steps"] == 6
    assert metrics["train"]["seconds_per_step"] > 0
    assert set(metrics["eval"]) >= {"loss", "accuracy", "f1", "matthews"}


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")  # PEFT's use of it
def test_saved_adapter_gives_the_reported_accuracy_in_plain_peft(build: Build, tiny_bert: Path, tmp_path: Path) -> None:
    arguments = build(max_steps=80, learning_rate=1e-2, validation_file=build().data.train_file)
    metrics = train(arguments)
    base = AutoModelForSequenceClassification.from_pretrained(tiny_bert, num_labels=2)
    model = PeftModel.from_pretrained(base, tmp_path / "out").eval()
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out")
    lines = Path(str(arguments.data.train_file)).read_text().splitlines()[1:]
    texts, labels, _ = zip(*(line.split(",") for line in lines), strict=True)
    with torch.no_grad():
        logits = model(**tokenizer(list(texts), return_tensors="pt", padding=True)).logits
    right = sum(["no", "yes"][index] == label for index, label in zip(logits.argmax(-1).tolist(), labels, strict=True))
    assert right / len(labels) == metrics["eval"]["accuracy"]
    assert right > max(labels.count("no"), labels.count("yes"))  # it learned more than which label is the commoner


def test_same_seed_gives_the_same_adapter_bit_for_bit(build: Build, tmp_path: Path) -> None:
    for name in ("a", "b"):
        train(build(output_dir=str(tmp_path / name), seed=5))
        torch.rand(7)  # what happened before must not matter
    first, second = weights(tmp_path / "a"), weights(tmp_path / "b")
    assert first.keys() == second.keys()
    assert all(torch.equal(first[key], second[key]) for key in first)


def test_another_seed_gives_another_adapter(build: Build, tmp_path: Path) -> None:
    for name, seed in (("a", 5), ("b", 6)):
        train(build(output_dir=str(tmp_path / name), seed=seed))
    assert any(not torch.equal(first, second) for first, second in zip(
        weights(tmp_path / "a").values(), weights(tmp_path / "b").values(), strict=True
    ))  # fmt: skip


def test_best_epoch_is_told_beside_the_last_and_saved_if_asked_for(build: Build, tmp_path: Path) -> None:
    """A learning rate at which epochs go up and down, so that the best is not the last."""
    settings = {"max_steps": 30, "learning_rate": 0.5, "eval_on_start": True, "metric_for_best_model": "matthews"}
    metrics = train(build(**settings, load_best_model_at_end=True))
    history = json.loads((tmp_path / "out" / "history.json").read_text())
    scores = {log["step"]: log["eval_matthews"] for log in history if "eval_matthews" in log}
    assert list(scores) == [0, 6, 12, 18, 24, 30]
    best = max(list(scores)[1:], key=scores.__getitem__)
    assert best < 30
    assert (metrics["best"]["step"], metrics["best"]["matthews"]) == (best, scores[best])
    assert (metrics["last"]["step"], metrics["last"]["matthews"]) == (30, scores[30])
    assert metrics["before"]["matthews"] == scores[0]
    assert (metrics["saved"], metrics["eval"]["matthews"]) == ("best", scores[best])
    saved, kept = weights(tmp_path / "out"), weights(tmp_path / "out" / f"checkpoint-{best}")
    assert all(torch.equal(saved[key], kept[key]) for key in saved)
    card = (tmp_path / "out" / "README.md").read_text()
    assert f"| matthews | {scores[best]:.4f} | the best epoch, {best // 6}, chosen on this validation data |" in card
    assert f"| matthews | {scores[30]:.4f} | the last epoch, 5 |" in card


def test_the_best_needs_data_to_be_chosen_on(build: Build) -> None:
    with pytest.raises(ConfigError, match="choosing the best model needs validation data; give --validation_file"):
        train(build(validation_fraction=0, load_best_model_at_end=True))


def test_fractions_as_labels_make_a_regression(build: Build) -> None:
    file = build().data.train_file
    metrics = train(build(label_column="rating", method="full", max_steps=80, learning_rate=1e-2, validation_file=file))
    assert metrics["eval"]["pearson"] > 0.4
    assert set(metrics["eval"]) >= {"spearman", "rmse"}


@pytest.mark.parametrize("method", ["lora", "head", "bitfit", "full"])
def test_other_methods_train_only_what_they_name(build: Build, tmp_path: Path, method: str) -> None:
    metrics = train(build(method=method))
    expected = {
        "lora": 8 * (2 * (4 * (32 + 32) + 2 * (32 + 64)) + 32 + 32),
        "head": 0,
        "bitfit": 32 + 2 * (4 * 32 + 64 + 32 + 2 * 32) + 32,  # embeddings' norm, two layers, pooler
        "full": metrics["parameters"]["base"] - 66,
    }
    assert metrics["parameters"]["adapter"] == expected[method]
    assert metrics["parameters"]["head"] == 66
    name = {"lora": "adapter_model", "full": "model"}.get(method, "trained") + ".safetensors"
    saved = load_file(tmp_path / "out" / name)
    assert sum(tensor.numel() for tensor in saved.values()) == expected[method] + 66


def test_any_peft_config_is_a_method(build: Build, tmp_path: Path) -> None:
    config = tmp_path / "vera.json"
    config.write_text(json.dumps({"peft_type": "VERA", "r": 4, "target_modules": ["query"]}))
    metrics = train(build(method=str(config)))
    assert metrics["method"]["name"] == "vera"
    assert metrics["parameters"]["adapter"] == 2 * (4 + 32)  # a vector of r and one of out_features a layer


def test_a_method_is_named_with_its_size_and_settings(build: Build) -> None:
    metrics = train(build(method="lora:3,lora_alpha=6", lora_r=5, target_modules=["query"], max_steps=1))
    assert (metrics["method"]["r"], metrics["method"]["lora_alpha"], metrics["method"]["layers"]) == (3, 6, 2)


def test_adalora_prunes_its_ranks_on_the_way_and_is_not_resumed(build: Build, tmp_path: Path) -> None:
    """Of 4 layers with 4 ranks each, a mean of 1 is left: 4 numbers on the diagonals that are not 0."""
    settings = {"method": "adalora:1,init_r=4,tfinal=2", "max_steps": 10, "learning_rate": 1e-2, "save_steps": 5}
    metrics = train(build(**settings))
    config = json.loads((tmp_path / "out" / "adapter_config.json").read_text())
    assert config["total_step"] == metrics["train"]["steps"] == 10
    assert sum(map(sum, config["rank_pattern"].values())) == 4
    diagonals = [tensor for key, tensor in weights(tmp_path / "out").items() if "lora_E" in key]
    assert sum(int((diagonal != 0).sum()) for diagonal in diagonals) == 4
    data = build().data
    data.test_file = data.train_file
    again = evaluate(tmp_path / "out", data, use_cpu=True)
    assert again.metrics["accuracy"] >= 0.4  # it loads
    with pytest.raises(ConfigError, match="adalora can't be resumed"):
        train(build(**settings, resume_from_checkpoint="true"))


def test_head_learning_rate_is_that_of_the_head_alone(build: Build, tmp_path: Path) -> None:
    for name, rate in (("frozen", 0.0), ("trained", 1e-2)):
        train(build(output_dir=str(tmp_path / name), head_learning_rate=rate))
    frozen, trained = weights(tmp_path / "frozen"), weights(tmp_path / "trained")
    head = next(key for key in frozen if "classifier.bias" in key)
    spectrum = next(key for key in frozen if "spectrum" in key)
    assert torch.equal(frozen[head], torch.zeros(2))
    assert trained[head].abs().max() > 1e-3
    assert frozen[spectrum].abs().max() > 1e-3


def test_dry_run_prints_the_sizes_and_writes_nothing(
    build: Build, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sizes = train(build(dry_run=True))
    printed = capsys.readouterr().out
    assert sizes["parameters"]["adapter"] == 650
    assert "fourierft in 13 layers: n_frequency=50" in printed
    assert "2.6 kB" in printed
    assert not (tmp_path / "out").exists()


def test_output_directory_that_exists_is_left_alone(build: Build, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("years of work")
    with pytest.raises(OutputExistsError, match="--overwrite_output_dir"):
        train(build())
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["thesis.txt"]


def test_overwriting_removes_the_old_run_and_keeps_other_files(build: Build, tmp_path: Path) -> None:
    train(build(method="head", save_steps=2))
    (tmp_path / "out" / "thesis.txt").write_text("years of work")
    train(build(overwrite_output_dir=True, max_steps=3))
    names = {p.name for p in (tmp_path / "out").iterdir()}
    assert "trained.safetensors" not in names
    assert {"thesis.txt", "adapter_model.safetensors", "checkpoint-3"} <= names
    assert not names & {"checkpoint-4", "checkpoint-6"}


@pytest.mark.parametrize(
    ("settings", "kind", "text"),
    [
        ({"method": "fourrierft"}, ConfigError, "did you mean fourierft"),
        ({"n_frequency": 5000}, FourierFTError, "5000.*1024"),
        ({"target_modules": ["query", "valeu"]}, ConfigError, "valeu is not in the model; did you mean value"),
        ({"scaling": "big"}, ConfigError, "neither a number nor auto"),
        ({"label_column": "mood"}, DataError, "no column mood; the data has the columns text, label, rating"),
        ({"label_column": "text"}, DataError, "column text is both text and label, so there is nothing to learn"),
        (
            {"model_name_or_path": "./models/bert"},
            ConfigError,
            "./models/bert can't be loaded .there is no such folder",
        ),
        ({"train_file": "reviews.xlsx"}, DataError, r"unknown format .xlsx; save it as CSV UTF-8"),
        ({"task": "ranking"}, ConfigError, "task=ranking is unknown"),
        ({"max_length": 1000}, ConfigError, "max_length=1000"),
        ({"model_name_or_path": "nobody/no-such-model"}, ConfigError, "nobody/no-such-model can't be loaded"),
        ({"resume_from_checkpoint": "true"}, CheckpointError, "has no complete checkpoint to resume from"),
        ({"dtype": "int3"}, ConfigError, "dtype=int3 is unknown"),
        (
            {"metric_for_best_model": "rouge"},
            ConfigError,
            "metric_for_best_model=rouge is not a metric of classification",
        ),
    ],
)
def test_wrong_input_is_refused_before_anything_is_written(
    build: Build, tmp_path: Path, settings: dict, kind: type[Exception], text: str
) -> None:
    with pytest.raises(kind, match=text) as caught:
        train(build(**settings))
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()
