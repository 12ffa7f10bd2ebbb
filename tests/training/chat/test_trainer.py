"""Chat trainings: TRL's trainer learns what transformers' does, packed or not, over 4 bits too, alone or as two."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer

from fourierft.adapters.merge import merge_adapter
from fourierft.errors import ConfigError, DataError, MissingExtraError
from fourierft.training.arguments import Arguments, DataArguments
from fourierft.training.chat.conversation import Conversation
from fourierft.training.chat.template import encode_conversation
from fourierft.training.dry_run import dry_run
from fourierft.training.evaluation import evaluate, load_trained
from fourierft.training.labels import IGNORED
from fourierft.training.plan import plan_training
from fourierft.training.run import build_trainer, train

Build = Callable[..., Arguments]
PAIRS = [("the film", "good"), ("a book", "so bad"), ("film", "fine"), ("the book", "dull")]
ONE_STEP = {"max_steps": 1, "optim": "sgd", "learning_rate": 1e2, "max_grad_norm": 0.0, "lr_scheduler_type": "constant"}


def adapter(directory: Path) -> dict[str, Tensor]:
    return load_file(directory / "adapter_model.safetensors")


def assert_close(one: dict[str, Tensor], other: dict[str, Tensor], share: float = 1e-3) -> None:
    """Two adapters differ by less than a share of what they are, which is something."""
    size = max(tensor.abs().max() for tensor in one.values())
    assert size > 1e-3
    assert one.keys() == other.keys()
    assert all((one[key] - other[key]).abs().max() < share * size for key in one)


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")  # PEFT's use of it
def test_reported_loss_is_that_of_the_saved_adapter_a_token(
    build: Build, chat_llama: Path, tmp_path: Path, run_card: Any
) -> None:
    metrics = train(build(learning_rate=1e-2, max_steps=20, per_device_eval_batch_size=5))
    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(chat_llama), tmp_path / "out").eval()
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out")
    total, count = 0.0, 0
    for line in (tmp_path / "chats.jsonl").read_text().splitlines():
        tokens, labels = encode_conversation(Conversation(json.loads(line)["messages"]), tokenizer)
        with torch.no_grad():
            chances = model(input_ids=torch.tensor([tokens])).logits[0].log_softmax(-1)
        learned = [place for place, label in enumerate(labels) if label != IGNORED]
        total -= sum(float(chances[place - 1, tokens[place]]) for place in learned)
        count += len(learned)
    assert metrics["eval"]["answer_loss"] == pytest.approx(total / count, rel=1e-4)
    again = evaluate(tmp_path / "out", DataArguments(test_file=str(tmp_path / "chats.jsonl")), use_cpu=True)
    assert again.metrics["answer_loss"] == pytest.approx(metrics["eval"]["answer_loss"], rel=1e-5)
    assert again.metrics["token_accuracy"] == pytest.approx(metrics["eval"]["token_accuracy"])
    card = (tmp_path / "out" / "README.md").read_text()
    assert "Chat of `messages`" in card
    assert "TRL" not in card
    for names in run_card(tmp_path / "out").values():
        ids = names["processor"]("good morning", return_tensors="pt").input_ids
        with torch.no_grad():
            torch.testing.assert_close(names["model"].eval()(ids).logits, model(ids).logits, rtol=1e-4, atol=1e-5)


def test_rows_of_other_trainers_are_learned_as_they_ask_for(build: Build, tmp_path: Path) -> None:
    def write(*changes: dict[str, Any]) -> str:
        asked, answered = {"role": "user", "content": "the film"}, {"role": "assistant", "content": "is good"}
        rows = [{"messages": [asked, answered]}] * 3 + [{"messages": [asked, answered], **change} for change in changes]
        (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
        return str(tmp_path / "rows.jsonl")

    asked = {"from": "human", "value": [{"type": "text", "text": "a book"}]}
    poor, fine = {"from": "gpt", "value": "bad", "weight": 0}, {"from": "gpt", "value": "good", "weight": 1}
    file = write({"messages": [asked, poor, asked, fine]}, {"system": "quite"})
    train_rows = plan_training(build(train_file=file, validation_file=file)).splits["train"]
    tokenizer = AutoTokenizer.from_pretrained(build().model.model_name_or_path)
    learned = [tokenizer.decode([t for t in labels if t != IGNORED]) for labels in train_rows["labels"]]
    assert learned[3:] == ["good [EOS]", "is good [EOS]"]
    assert tokenizer.decode(train_rows["input_ids"][3]).count("bad") == 1
    assert tokenizer.decode(train_rows["input_ids"][4]).startswith("[BOS] quite [EOS] [BOS] the film")
    tools = write({"tools": [{"name": "look", "parameters": {}}]})
    with pytest.raises(DataError, match=r"row 4 of .*rows\.jsonl: the tokenizer's chat template leaves out tools"):
        train(build(train_file=tools, validation_file=tools))
    assert not (tmp_path / "out").exists()


def test_training_lowers_the_loss_of_answers(build: Build, tmp_path: Path) -> None:
    losses = [
        train(build(learning_rate=1e-2, max_steps=n, output_dir=str(tmp_path / str(n))))["eval"]["answer_loss"]
        for n in (1, 40)
    ]
    assert losses[1] < 0.7 * losses[0]


def test_trl_trains_what_transformers_does(build: Build, tmp_path: Path) -> None:
    rows = [{"instruction": f"{noun} is", "input": "but", "output": word} for noun, word in PAIRS * 4]
    (tmp_path / "rows.json").write_text(json.dumps(rows))
    for task in ("chat", "answers"):
        file = str(tmp_path / "rows.json")
        out = str(tmp_path / task)
        train(build(task=task, train_file=file, validation_file=file, output_dir=out, gradient_accumulation_steps=2))
    assert_close(adapter(tmp_path / "answers"), adapter(tmp_path / "chat"))


def test_packed_rows_do_not_see_each_other(build: Build, tmp_path: Path) -> None:
    rows = [{"prompt": f"{'very ' * (k % 4)}{noun}", "completion": word} for k, (noun, word) in enumerate(PAIRS * 5)]
    (tmp_path / "rows.json").write_text(json.dumps(rows))
    files = {"train_file": str(tmp_path / "rows.json"), "validation_file": str(tmp_path / "rows.json")}
    for packing in (True, False):
        settings = {**ONE_STEP, **files, "packing": packing, "max_length": 32, "per_device_train_batch_size": 20}
        train(build(**settings, output_dir=str(tmp_path / str(packing))))
    arguments = build(**files, packing=True, max_length=32)
    packed: Any = build_trainer(plan_training(arguments))
    assert len(packed.train_dataset) <= len(packed.eval_dataset) / 2
    epoch = {"max_steps": -1, "num_train_epochs": 1, "per_device_train_batch_size": 1, "packing": True}
    assert dry_run(build(**files, **epoch, max_length=32))["steps"] == len(packed.train_dataset)
    assert_close(adapter(tmp_path / "False"), adapter(tmp_path / "True"))
    scores = [json.loads((tmp_path / n / "metrics.json").read_text())["eval"] for n in ("True", "False")]
    assert scores[0]["answer_loss"] == pytest.approx(scores[1]["answer_loss"], rel=1e-3)


@pytest.mark.parametrize(
    "settings",
    [
        {"activation_checkpointing": True},
        {"per_device_train_batch_size": 4, "gradient_accumulation_steps": 2},
        {"bf16": True},
        {"dtype": "bfloat16"},
    ],
)
def test_what_saves_memory_trains_the_same(build: Build, tmp_path: Path, settings: dict[str, Any]) -> None:
    train(build(**ONE_STEP, output_dir=str(tmp_path / "plain")))
    train(build(**{**ONE_STEP, **settings}))
    is_half = "bf16" in settings or "dtype" in settings
    assert_close(adapter(tmp_path / "plain"), adapter(tmp_path / "out"), 0.1 if is_half else 1e-3)
    assert all(tensor.dtype == torch.float32 for tensor in adapter(tmp_path / "out").values())


def test_resumed_training_reaches_the_same_adapter_and_logs_the_same(build: Build, tmp_path: Path) -> None:
    train(build(save_steps=2, logging_steps=3))
    whole, logged = adapter(tmp_path / "out"), read_history(tmp_path / "out")
    train(build(save_steps=2, logging_steps=3, resume_from_checkpoint=str(tmp_path / "out" / "checkpoint-2")))
    assert_close(whole, adapter(tmp_path / "out"), 1e-5)
    again = read_history(tmp_path / "out")
    assert any("num_tokens" in line and line["step"] == 3 for line in logged)
    assert [line.keys() for line in again] == [line.keys() for line in logged]
    assert all(line == pytest.approx(before, rel=1e-4) for line, before in zip(again, logged, strict=True))


def read_history(folder: Path) -> list[dict[str, float]]:
    """What was logged, but for times."""
    lines = json.loads((folder / "history.json").read_text())
    timed = ("runtime", "per_second", "_flos")
    return [{name: value for name, value in line.items() if not name.endswith(timed)} for line in lines]


@pytest.mark.parametrize("kind", ["nf4", "int8", "torchao-int8"])
def test_quantised_base_trains_a_float32_adapter_that_evaluates_and_merges(
    build: Build, chats: Path, tmp_path: Path, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    plain = plan_training(build()).trainable.base_parameters
    metrics = train(build(quantization=kind, learning_rate=1e-2, max_steps=8, eval_steps=4, eval_on_start=True))
    assert all(tensor.dtype == torch.float32 for tensor in adapter(tmp_path / "out").values())
    assert metrics["parameters"]["base"] == plain
    assert metrics["eval"]["answer_loss"] < metrics["before"]["answer_loss"]
    trained = load_trained(tmp_path / "out")
    assert trained.model.get_base_model().quantization_method is not None
    scores = evaluate(tmp_path / "out", DataArguments(test_file=str(chats)), use_cpu=True).metrics
    assert scores["answer_loss"] == pytest.approx(metrics["eval"]["answer_loss"], rel=1e-4 if kind != "int8" else 1e-2)
    assert merge_adapter(tmp_path / "out", tmp_path / "merged", quantization=kind).quantization == kind
    assert not [record for record in caplog.records if "MatMul8bitLt" in record.message]


@pytest.mark.parametrize("method", ["fourierft", "lora"])
def test_other_adapters_keep_their_dtype_over_four_bits(build: Build, tmp_path: Path, method: str) -> None:
    train(build(quantization="nf4", method=method, max_steps=1))
    assert all(tensor.dtype == torch.float32 for tensor in adapter(tmp_path / "out").values())


def test_two_processes_train_the_adapter_of_one(build: Build, chat_llama: Path, chats: Path, tmp_path: Path) -> None:
    train(build(per_device_train_batch_size=8, logging_steps=1, output_dir=str(tmp_path / "one")))
    flags = {"model_name_or_path": chat_llama, "train_file": chats, "validation_file": chats, "task": "chat"}
    flags |= {"n_frequency": 50, "max_steps": 4, "use_cpu": True, "per_device_train_batch_size": 4, "logging_steps": 1}
    words = [word for name, value in flags.items() for word in (f"--{name}", str(value))]
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    command += ["-m", "fourierft.cli.main", "train", *words, "--output_dir", str(tmp_path / "two")]
    result = subprocess.run(command, capture_output=True, text=True, timeout=1800, check=False)
    assert result.returncode == 0, result.stderr
    assert result.stdout.count("written to") == 1  # one process speaks
    assert_close(adapter(tmp_path / "one"), adapter(tmp_path / "two"))
    one, two = (json.loads((tmp_path / name / "history.json").read_text()) for name in ("one", "two"))
    curves = [[log["loss"] for log in history if "loss" in log] for history in (one, two)]
    assert curves[0] == pytest.approx(curves[1], rel=1e-4)
    scores = [json.loads((tmp_path / name / "metrics.json").read_text())["eval"] for name in ("one", "two")]
    assert scores[0]["answer_loss"] == pytest.approx(scores[1]["answer_loss"], rel=1e-4)


@pytest.mark.parametrize(
    ("settings", "kind", "text"),
    [
        ({"max_length": 4}, DataError, r"the prompt in row 1 of .*chats\.jsonl has \d+ tokens, .* max_length=4"),
        ({"task": "answers", "text_column": ["messages"]}, DataError, "no column looks like the label among messages"),
        ({"quantization": "nf4", "method": "full"}, ConfigError, "method=full trains weights of the model, which is"),
        ({"quantization": "int3"}, ConfigError, "quantization=int3 is unknown; use one of nf4"),
        ({"label_column": "answer"}, DataError, "no column answer; the data has the columns messages"),
    ],
)
def test_wrong_input_is_refused_before_anything_is_written(
    build: Build, tmp_path: Path, settings: dict[str, Any], kind: type[Exception], text: str
) -> None:
    with pytest.raises(kind, match=text):
        train(build(**settings))
    assert not (tmp_path / "out").exists()


def test_data_without_an_answer_name_what_they_have(build: Build, tmp_path: Path) -> None:
    (tmp_path / "rows.json").write_text(json.dumps([{"instruction": "the film", "mood": "good"}]))
    with pytest.raises(DataError, match=r"has the columns instruction, mood, among them no answer; chat data are"):
        train(build(train_file=str(tmp_path / "rows.json")))


@pytest.mark.parametrize(
    ("module", "settings", "text"),
    [
        ("trl", {}, r"task=chat needs trl; pip install 'fourierft\[chat\]'"),
        ("bitsandbytes", {"quantization": "nf4"}, r"needs bitsandbytes; pip install 'fourierft\[quantized\]'"),
    ],
)
def test_missing_library_names_its_extra(
    build: Build, monkeypatch: pytest.MonkeyPatch, module: str, settings: dict[str, Any], text: str
) -> None:
    monkeypatch.delitem(sys.modules, "fourierft.training.chat.trainer", raising=False)
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtraError, match=text):
        train(build(**settings))


def test_conversations_are_recognised_without_a_word(build: Build) -> None:
    prepared = plan_training(build(task="auto"))
    assert (prepared.record["task"], prepared.record["inputs"]) == ("chat", "chat")


def test_adalora_knows_the_steps_of_packed_rows(build: Build, tmp_path: Path) -> None:
    rows = [{"prompt": prompt, "completion": answer} for prompt, answer in PAIRS * 4]
    (tmp_path / "short.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    settings = {"method": "adalora:1,init_r=2,tinit=0,tfinal=1", "num_train_epochs": 2, "max_steps": -1}
    files = dict.fromkeys(("train_file", "validation_file"), str(tmp_path / "short.jsonl"))
    metrics = train(build(**settings, **files, packing=True, per_device_train_batch_size=1))
    config = json.loads((tmp_path / "out" / "adapter_config.json").read_text())
    assert config["total_step"] == metrics["train"]["steps"] < 2 * len(rows)
