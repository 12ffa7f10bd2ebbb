"""DPO and KTO by TRL: losses worked out by hand, what the reference is, resuming, evaluating."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from datasets import Dataset
from peft import PeftModel, get_peft_model
from safetensors.torch import load_file
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import DPOConfig, DPOTrainer, KTOConfig, KTOTrainer

import fourierft
from fourierft.errors import CheckpointError, ConfigError
from fourierft.training.arguments import Arguments, DataArguments
from fourierft.training.evaluation import evaluate
from fourierft.training.plan import plan_training
from fourierft.training.run import build_trainer, train
from tests.training.preferences.conftest import FEEDBACK, PAIRS

Build = Callable[..., Arguments]
SGD: dict[str, Any] = {
    "optim": "sgd",
    "learning_rate": 1e2,
    "max_grad_norm": 0.0,
    "lr_scheduler_type": "constant",
    "max_steps": 3,
}
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")


def adapter(directory: Path) -> dict[str, Tensor]:
    return load_file(directory / "adapter_model.safetensors")


def log_p(model: Any, tokenizer: Any, prompt: Sequence[Any], answer: Sequence[Any]) -> float:
    """log p of an answer with what ends it, token by token in float64."""
    asked = tokenizer.apply_chat_template(prompt, add_generation_prompt=True, tokenize=False)
    whole = tokenizer.apply_chat_template([*prompt, *answer], tokenize=False)
    begin, tokens = len(tokenizer(asked).input_ids), tokenizer(whole).input_ids
    with torch.no_grad():
        chances = model(input_ids=torch.tensor([tokens])).logits[0].double().log_softmax(-1)
    return sum(float(chances[place - 1, tokens[place]]) for place in range(begin, len(tokens)))


def by_hand(model: Any, tokenizer: Any, rows: list[dict[str, Any]], names: Sequence[str]) -> np.ndarray:
    return np.array([[log_p(model, tokenizer, row["prompt"], row[name]) for name in names] for row in rows])


def load(base: Path, folder: Path | None) -> Any:
    model = AutoModelForCausalLM.from_pretrained(base).double().eval()
    return model if folder is None else PeftModel.from_pretrained(model, str(folder)).double().eval()


@pytest.mark.parametrize("goes_on", [False, True])
def test_loss_of_pairs_is_that_by_hand_and_the_reference_what_it_began_with(
    build: Build, pairs: Path, started: Path, chat_llama: Path, tmp_path: Path, goes_on: bool
) -> None:
    start = {"adapter_name_or_path": str(started)} if goes_on else {"n_frequency": 60}
    settings = {"max_steps": 10, "learning_rate": 1e-2, "beta": 0.3, "per_device_eval_batch_size": 7, **start}
    metrics = train(build(pairs, test_file=str(pairs), **settings))
    fourierft.enable()
    tokenizer = AutoTokenizer.from_pretrained(chat_llama)
    own = by_hand(load(chat_llama, tmp_path / "out"), tokenizer, PAIRS, ("chosen", "rejected"))
    before = by_hand(load(chat_llama, started if goes_on else None), tokenizer, PAIRS, ("chosen", "rejected"))
    rewards = 0.3 * (own - before)
    margins = rewards[:, 0] - rewards[:, 1]
    assert abs(margins).max() > 0.05
    for split in ("eval", "test"):
        found = metrics[split]
        assert found["preference_accuracy"] == (margins > 0).mean()
        assert found["reward_margin"] == pytest.approx(margins.mean(), rel=1e-3)
        assert found["preference_loss"] == pytest.approx(np.log1p(np.exp(-margins)).mean(), rel=1e-4)
    again = evaluate(tmp_path / "out", DataArguments(test_file=str(pairs)), batch_size=6, use_cpu=True)
    assert again.metrics["reward_margin"] == pytest.approx(margins.mean(), rel=1e-3)
    told = [[line["reward_chosen"], line["reward_rejected"]] for line in again.predictions]
    np.testing.assert_allclose(told, rewards, rtol=2e-3, atol=2e-4)
    record = json.loads((tmp_path / "out" / "fourierft.json").read_text())
    assert (record["beta"], record["start"]) == (0.3, str(started) if goes_on else None)


@pytest.mark.filterwarnings("ignore:`gradient_checkpointing:FutureWarning")  # TRL's own default
def test_pairs_are_learned_as_trl_learns_them(build: Build, pairs: Path, chat_llama: Path, tmp_path: Path) -> None:
    arguments = build(pairs, n_frequency=60, **SGD)
    ours = build_trainer(plan_training(arguments))
    fourierft.enable()
    config = fourierft.FourierFTConfig(n_frequency=60, target_modules="all-linear", task_type="CAUSAL_LM")
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(chat_llama), config)
    theirs = DPOTrainer(
        model=model,
        args=DPOConfig(
            str(tmp_path / "trl"), **SGD, per_device_train_batch_size=4, use_cpu=True, bf16=False, disable_tqdm=True,
            report_to="none", save_strategy="no",
        ),
        train_dataset=Dataset.from_list(PAIRS),
        processing_class=AutoTokenizer.from_pretrained(chat_llama),
    )  # fmt: skip
    assert ours.train().training_loss == pytest.approx(theirs.train().training_loss, rel=1e-5)
    same_numbers(ours.model, theirs.model)


@pytest.mark.filterwarnings("ignore:`gradient_checkpointing:FutureWarning")
def test_feedback_is_learned_as_trl_learns_it(build: Build, feedback: Path, chat_llama: Path, tmp_path: Path) -> None:
    arguments = build(feedback, n_frequency=60, **SGD)
    ours = build_trainer(plan_training(arguments))
    fourierft.enable()
    config = fourierft.FourierFTConfig(n_frequency=60, target_modules="all-linear", task_type="CAUSAL_LM")
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(chat_llama), config)
    theirs = KTOTrainer(
        model=model,
        args=KTOConfig(
            str(tmp_path / "trl"), **SGD, per_device_train_batch_size=4, use_cpu=True, bf16=False, disable_tqdm=True,
            report_to="none", save_strategy="no",
        ),
        train_dataset=Dataset.from_list(FEEDBACK).shuffle(seed=42),
        processing_class=AutoTokenizer.from_pretrained(chat_llama),
    )  # fmt: skip
    assert ours.train().training_loss == pytest.approx(theirs.train().training_loss, rel=1e-5)
    same_numbers(ours.model, theirs.model)


def same_numbers(ours: Any, theirs: Any) -> None:
    own = {name: p for name, p in ours.named_parameters() if p.requires_grad}
    others = dict(theirs.named_parameters())
    size = max(float(p.detach().abs().max()) for p in own.values())
    assert size > 1e-3
    for name, parameter in own.items():
        torch.testing.assert_close(parameter, others[name], rtol=0, atol=1e-4 * size)


def test_loss_of_feedback_is_that_by_hand(build: Build, feedback: Path, chat_llama: Path, tmp_path: Path) -> None:
    """KTO's loss of one batch, the answers of the divergence turned on by one within it."""
    settings = {"learning_rate": 1e-2, "beta": 0.3, "max_steps": 12, "n_frequency": 60}
    metrics = train(build(feedback, **settings))
    fourierft.enable()
    tokenizer = AutoTokenizer.from_pretrained(chat_llama)
    models = load(chat_llama, tmp_path / "out"), load(chat_llama, None)
    own, before = (by_hand(model, tokenizer, FEEDBACK, ("completion",))[:, 0] for model in models)
    rewards, labels = 0.3 * (own - before), np.array([row["label"] for row in FEEDBACK])
    good, bad = rewards[labels], rewards[~labels]
    wins = (good[:, None] > bad).mean() + 0.5 * (good[:, None] == bad).mean()
    assert metrics["eval"]["preference_accuracy"] == pytest.approx(wins, abs=5e-3)
    assert metrics["eval"]["reward_margin"] == pytest.approx(good.mean() - bad.mean(), rel=1e-3)
    losses = []
    for begin in range(0, len(FEEDBACK), 4):
        part = FEEDBACK[begin : begin + 4]
        turned = [{**row, "completion": part[k - 1]["completion"]} for k, row in enumerate(part)]
        far = [by_hand(model, tokenizer, turned, ("completion",))[:, 0] for model in models]
        divergence = max(0.0, float((far[0] - far[1]).mean()))
        signs = np.where(labels[begin : begin + 4], 1, -1)
        losses += list(1 - 1 / (1 + np.exp(-signs * (rewards[begin : begin + 4] - 0.3 * divergence))))
    arguments = build(feedback, **settings, per_device_eval_batch_size=4, adapter_name_or_path=None)
    trainer = build_trainer(plan_training(arguments))
    trainer.model.load_adapter(str(tmp_path / "out"), "learned")
    trainer.model.set_adapter("learned")
    assert trainer.evaluate()["eval_loss"] == pytest.approx(np.mean(losses), rel=1e-3)
    again = evaluate(tmp_path / "out", DataArguments(test_file=str(feedback)), batch_size=6, use_cpu=True)
    assert again.metrics == pytest.approx({name: metrics["eval"][name] for name in again.metrics}, rel=1e-3)
    np.testing.assert_allclose([line["reward"] for line in again.predictions], rewards, rtol=2e-3, atol=2e-4)


@pytest.mark.parametrize("kind", ["pairs", "feedback"])
def test_a_training_goes_on_to_the_same_adapter_bit_for_bit(
    build: Build, pairs: Path, feedback: Path, started: Path, tmp_path: Path, kind: str
) -> None:
    file = pairs if kind == "pairs" else feedback
    given = {"adapter_name_or_path": str(started), "max_steps": 6, "save_steps": 3, "learning_rate": 1e-2}
    whole = train(build(file, **given))
    first = adapter(tmp_path / "out")
    given |= {"output_dir": str(tmp_path / "again")}
    train(build(file, **given))
    for name in ("adapter_model.safetensors", "metrics.json"):
        (tmp_path / "again" / name).unlink()
    resumed = train(build(file, **given, resume_from_checkpoint=str(tmp_path / "again" / "checkpoint-3")))
    second = adapter(tmp_path / "again")
    assert all(torch.equal(first[name], second[name]) for name in first)
    names = ("loss", "preference_accuracy", "reward_margin")
    assert [resumed["eval"][name] for name in names] == [whole["eval"][name] for name in names]
    with pytest.raises(ConfigError, match=r"to another run \(beta 0.1 before, 0.2 now\)"):
        train(build(file, **given, beta=0.2, resume_from_checkpoint=str(tmp_path / "again" / "checkpoint-3")))


def test_an_adapter_to_go_on_from_is_trained_further_in_any_task(
    build: Build, started: Path, chat_llama: Path, tmp_path: Path, pairs: Path
) -> None:
    before = adapter(started)
    settings = {"task": "chat", "adapter_name_or_path": str(started)}
    train(build(tmp_path / "chats.jsonl", **settings, learning_rate=1e-9, max_steps=1))
    after = adapter(tmp_path / "out")
    size = max(float(value.abs().max()) for value in before.values())
    assert size > 1e-3
    for name, value in before.items():
        torch.testing.assert_close(after[name], value, rtol=0, atol=1e-5 * size)
    configs = [json.loads((folder / "adapter_config.json").read_text()) for folder in (started, tmp_path / "out")]
    assert configs[0] == configs[1]
    with pytest.raises(ConfigError, match="n_frequency=7 is for a new adapter"):
        train(build(pairs, adapter_name_or_path=str(started), n_frequency=7, output_dir=str(tmp_path / "no")))
    rows = tmp_path / "rows.csv"
    rows.write_text("text,label\n" + "the film is good,a\nthe film is bad,b\n" * 10)
    named = {"task": "classification", "validation_file": None, "output_dir": str(tmp_path / "no")}
    with pytest.raises(ConfigError, match="is for language models, but this is a classification"):
        train(build(rows, adapter_name_or_path=str(started), **named))
    with pytest.raises(
        CheckpointError, match=r"chat_llama is not an adapter, because it has no adapter_config\.json; give an"
    ):
        train(build(pairs, adapter_name_or_path=str(chat_llama), output_dir=str(tmp_path / "no")))
    unfinished = tmp_path / "unfinished"
    unfinished.mkdir()
    (unfinished / "fourierft.json").write_bytes((started / "fourierft.json").read_bytes())
    with pytest.raises(CheckpointError, match="the training did not finish; resume"):
        train(build(pairs, adapter_name_or_path=str(unfinished), output_dir=str(tmp_path / "no")))
    with pytest.raises(CheckpointError, match="there is no folder"):
        train(build(pairs, adapter_name_or_path=str(tmp_path / "away"), output_dir=str(tmp_path / "no")))


def test_lora_too(build: Build, pairs: Path, tmp_path: Path) -> None:
    metrics = train(build(pairs, method="lora:4", learning_rate=1e-2, max_steps=20))
    assert metrics["eval"]["preference_accuracy"] > 0.9
    assert not (tmp_path / "out" / "ref").exists()
    saved = adapter(tmp_path / "out")
    metrics = train(build(pairs, adapter_name_or_path=str(tmp_path / "out"), output_dir=str(tmp_path / "on")))
    assert metrics["method"]["name"] == "lora"
    assert adapter(tmp_path / "on").keys() == saved.keys()


def test_a_reference_that_is_gone_is_told(build: Build, pairs: Path, started: Path, tmp_path: Path) -> None:
    train(build(pairs, adapter_name_or_path=str(started)))
    started.rename(tmp_path / "moved")
    with pytest.raises(
        CheckpointError, match="the training's reference is the adapter that it continued from: there is"
    ):
        evaluate(tmp_path / "out", DataArguments(test_file=str(pairs)), use_cpu=True)


@pytest.mark.parametrize("method", ["fourierft", "lora"])
def test_a_reference_that_was_replaced_is_refused(
    build: Build, pairs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    """Trained from a relative folder, evaluated elsewhere; then as a record without a digest."""
    monkeypatch.chdir(tmp_path)
    settings = {"method": "lora:4"} if method == "lora" else {"n_frequency": 60}
    train(build(pairs, output_dir="first", **settings))
    trained = train(build(pairs, adapter_name_or_path="first", learning_rate=1e-2, max_steps=10))
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    test = DataArguments(test_file=str(pairs))
    found = evaluate(tmp_path / "out", test, use_cpu=True).metrics
    assert found == pytest.approx({name: trained["eval"][name] for name in found}, rel=1e-3)
    train(build(pairs, output_dir=str(tmp_path / "second"), learning_rate=1e-2, seed=7, **settings))
    (tmp_path / "first").rename(tmp_path / "former")
    (tmp_path / "second").rename(tmp_path / "first")
    with pytest.raises(CheckpointError, match=r"first has changed since \(1, digest \w+ before, 1, digest \w+ now\)"):
        evaluate(tmp_path / "out", test, use_cpu=True)
    (tmp_path / "first").rename(tmp_path / "second")
    (tmp_path / "former").rename(tmp_path / "first")
    record = json.loads((tmp_path / "out" / "fourierft.json").read_text())
    del record["start_digest"]
    (tmp_path / "out" / "fourierft.json").write_text(json.dumps(record))
    assert evaluate(tmp_path / "out", test, use_cpu=True).metrics == found
    (tmp_path / "first" / "adapter_model.safetensors").write_bytes(b"")
    with pytest.raises(CheckpointError, match=r"that it continued from: .* is damaged"):
        evaluate(tmp_path / "out", test, use_cpu=True)


def test_a_reference_of_another_base_is_refused(build: Build, pairs: Path, started: Path, tmp_path: Path) -> None:
    train(build(pairs, adapter_name_or_path=str(started)))
    config = json.loads((started / "adapter_config.json").read_text())
    config["fourierft"]["base"] = {"digest": "sha256:" + "0" * 64}
    (started / "adapter_config.json").write_text(json.dumps({**config, "base_model_name_or_path": "other"}))
    with pytest.raises(
        CheckpointError, match=r"started was made for the base other \(sha256:0+\), but the other adapter"
    ):
        evaluate(tmp_path / "out", DataArguments(test_file=str(pairs)), use_cpu=True)


def test_only_adapters_learn_preferences(build: Build, pairs: Path) -> None:
    with pytest.raises(ConfigError, match="only an adapter can learn preferences"):
        train(build(pairs, method="full"))


@pytest.mark.parametrize("is_dry", [False, True])
def test_batches_of_one_answer_are_refused_before_anything_is_told(
    build: Build, pairs: Path, feedback: Path, capsys: pytest.CaptureFixture[str], is_dry: bool
) -> None:
    with pytest.raises(ConfigError, match=r"per_device_train_batch_size=1 is too small: .* use 2 or more"):
        train(build(feedback, per_device_train_batch_size=1, n_frequency=60, dry_run=is_dry))
    assert not capsys.readouterr().out
    train(build(feedback, per_device_train_batch_size=2, n_frequency=60, max_steps=1, dry_run=is_dry))
    train(
        build(
            pairs, per_device_train_batch_size=1, n_frequency=60, max_steps=1, dry_run=is_dry, overwrite_output_dir=True
        )
    )


def test_a_dry_run_counts_two_answers_a_row(build: Build, pairs: Path, started: Path) -> None:
    told = train(build(pairs, dry_run=True, n_frequency=60))
    assert told["rows"] == {"train": 20, "validation": 20}
    assert told["memory"]
    on = train(build(pairs, dry_run=True, adapter_name_or_path=str(started)))
    assert on["parameters"] == told["parameters"]
