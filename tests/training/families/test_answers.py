"""Prompt and answer: only the answer is learned, and it is scored by its tokens."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from huggingface_hub import ModelCard
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from fourierft.errors import ConfigError, DataError
from fourierft.training.arguments import Arguments, DataArguments
from fourierft.training.columns import Columns
from fourierft.training.evaluation import evaluate
from fourierft.training.families.answers import Answers
from fourierft.training.families.registry import find_families
from fourierft.training.labels import IGNORED
from fourierft.training.prompts import encode_pair
from fourierft.training.run import train
from fourierft.training.settings import build_arguments

CHAT = (
    "{% for m in messages %}[BOS] {{ m['content'] }} [EOS]\n{% endfor %}{% if add_generation_prompt %}[BOS] {% endif %}"
)
ROWS = [
    {"instruction": f"the {noun} is", "input": "very" if k % 2 else "", "output": f"{word} and {word}"}
    for k, (noun, word) in enumerate([("film", "good"), ("book", "bad"), ("film", "fine"), ("book", "dull")] * 8)
]


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    """A file of 32 rows with instruction, input and output."""
    (tmp_path / "rows.json").write_text(json.dumps(ROWS))
    return tmp_path / "rows.json"


@pytest.fixture
def build_answers(tiny_llama: Path, rows: Path, tmp_path: Path) -> Callable[..., Arguments]:
    """Arguments of a training of 4 steps on those rows, with any setting changed."""

    def build(**settings: Any) -> Arguments:
        given: dict[str, Any] = {
            "model_name_or_path": str(tiny_llama),
            "train_file": str(rows),
            "validation_file": str(rows),
        }
        given |= {"output_dir": str(tmp_path / "out"), "n_frequency": 50, "max_steps": 4}
        return build_arguments({**given, "use_cpu": True, "disable_tqdm": True, **settings})

    return build


def test_labels_are_the_answer_and_its_end(tiny_llama: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny_llama)
    encoded = Answers().encode_rows(
        Dataset.from_list(ROWS[1:2]), Columns(("instruction", "input"), "output"), ["bad and bad"], tokenizer, 32
    )[0]
    assert tokenizer.decode(encoded["input_ids"]) == "[BOS] the book is very bad and bad [EOS]"
    learned = [label for label in encoded["labels"] if label != IGNORED]
    assert tokenizer.decode(learned) == "bad and bad [EOS]"
    assert encoded["labels"][-len(learned) :] == learned


def test_chat_template_is_used_if_there_is_one(tiny_llama: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny_llama)
    tokenizer.chat_template = CHAT
    prompt, answer = encode_pair("a film", "was good", tokenizer)
    assert tokenizer.decode(prompt) == "[BOS] a film [EOS] [BOS]"
    assert tokenizer.decode(answer) == "was good [EOS]"
    tokenizer.chat_template = "{% for m in messages|reverse %}{{ m['content'] }}{% endfor %}!"
    with pytest.raises(ConfigError, match="does not write the answer after the prompt"):
        encode_pair("a film", "was good", tokenizer)


def test_prompt_that_leaves_no_room_is_refused(tiny_llama: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny_llama)
    columns = Columns(("instruction", "input"), "output")
    with pytest.raises(DataError, match=r"the prompt in row 1 has 4 tokens, .* max_length=4"):
        Answers().encode_rows(Dataset.from_list(ROWS[:1]), columns, ["good"], tokenizer, 4)


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")  # PEFT's use of it
def test_reported_loss_is_that_of_the_saved_adapter_a_token(
    build_answers: Callable[..., Arguments], tiny_llama: Path, tmp_path: Path
) -> None:
    metrics = train(build_answers(learning_rate=1e-2, max_steps=20, per_device_eval_batch_size=3))
    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(tiny_llama), tmp_path / "out").eval()
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out")
    total, count = 0.0, 0
    for row in ROWS:
        prompt, answer = encode_pair(f"{row['instruction']}\n{row['input']}", row["output"], tokenizer)
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([prompt + answer])).logits[0]
        chances = logits.log_softmax(-1)[len(prompt) - 1 : -1]
        total -= sum(float(chances[k, token]) for k, token in enumerate(answer))
        count += len(answer)
    assert metrics["eval"]["answer_loss"] == pytest.approx(total / count, rel=1e-4)
    assert metrics["parameters"] == {"adapter": 2 * 7 * 50, "head": 0, "base": metrics["parameters"]["base"]}
    assert evaluate(tmp_path / "out", DataArguments(test_file=str(tmp_path / "rows.json")), use_cpu=True).metrics[
        "answer_loss"
    ] == pytest.approx(metrics["eval"]["answer_loss"], rel=1e-5)
    assert ModelCard.load(tmp_path / "out" / "README.md").data.pipeline_tag == "text-generation"


def test_training_lowers_the_loss_of_answers(build_answers: Callable[..., Arguments], tmp_path: Path) -> None:
    losses = [
        train(build_answers(method="lora", learning_rate=1e-2, max_steps=n, output_dir=str(tmp_path / str(n))))["eval"]
        for n in (1, 40)
    ]
    assert losses[1]["answer_loss"] < 0.7 * losses[0]["answer_loss"]
    assert losses[1]["token_accuracy"] > losses[0]["token_accuracy"]


def test_interrupted_training_resumes_to_the_same_adapter(
    build_answers: Callable[..., Arguments], tmp_path: Path
) -> None:
    train(build_answers(max_steps=4, save_steps=2))
    whole = load_file(tmp_path / "out" / "adapter_model.safetensors")
    train(build_answers(max_steps=4, save_steps=2, resume_from_checkpoint=str(tmp_path / "out" / "checkpoint-2")))
    resumed = load_file(tmp_path / "out" / "adapter_model.safetensors")
    for name, coefficients in whole.items():
        torch.testing.assert_close(resumed[name], coefficients, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(("method", "missing"), [("head", "head of its own"), ("bitfit", "bias")])
def test_method_that_would_train_nothing_is_refused(
    build_answers: Callable[..., Arguments], method: str, missing: str
) -> None:
    with pytest.raises(ConfigError, match=f"method={method} trains nothing: this model has no {missing}"):
        train(build_answers(method=method))


def test_usual_columns_of_instructions_call_for_answers() -> None:
    rows = Dataset.from_list(ROWS[:2])
    assert find_families(rows, DataArguments())[0].kind == "prompt"
    assert find_families(rows, DataArguments(label_column="input"))[0].kind == "text"
    assert Answers().find_columns(rows, None, None) == Columns(("instruction", "input"), "output")
    dolly = Dataset.from_dict({"instruction": ["a"], "context": [""], "response": ["b"], "category": ["c"]})
    assert Answers().find_columns(dolly, None, None) == Columns(("instruction", "context"), "response")
    with pytest.raises(DataError, match=r"no column looks like the label among instruction; name it with"):
        Answers().find_columns(Dataset.from_dict({"instruction": ["a"]}), None, None)


@pytest.mark.parametrize("answer", ["", None, ["a"]])
def test_row_without_an_answer_is_refused(answer: Any) -> None:
    with pytest.raises(DataError, match="in row 2 is not a text"):
        Answers().encode_labels(["good", answer])


def test_rows_that_are_cut_are_told(tiny_llama: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny_llama)
    rows = Dataset.from_dict({"prompt": ["a film"] * 3, "answer": ["good", "very good and so lovely", "good"]})
    columns = Columns(("prompt",), "answer")
    encoded = Answers().encode_rows(rows, columns, rows["answer"][:], tokenizer, 6)
    assert [len(tokens) for tokens in encoded["input_ids"]] == [5, 6, 5]
    assert encoded.column_names == ["input_ids", "attention_mask", "labels"]
    assert "longer than max_length=6 tokens, and cut there: 1 of 3 rows, first row 2" in capsys.readouterr().out
    Answers().encode_rows(rows, columns, rows["answer"][:], tokenizer, 16)
    assert "cut" not in capsys.readouterr().out


@pytest.mark.parametrize("beside", [{"system": "Be short."}, {"history": [["a", "b"]]}, {"tools": [{"name": "c"}]}])
def test_what_belongs_to_a_conversation_is_not_left_out_unsaid(beside: dict[str, Any]) -> None:
    rows = Dataset.from_list([{**ROWS[0], **dict.fromkeys(beside)}, {**ROWS[1], **beside}])
    message = f"row 2 has {next(iter(beside))} beside its prompt, which only --task chat uses"
    with pytest.raises(DataError, match=message):
        Answers().check_rows(rows, Columns(("instruction", "input"), "output"))
    Answers().check_rows(rows.select([0]), Columns(("instruction", "input"), "output"))


def test_loss_a_token_weighs_tokens_not_rows() -> None:
    logits = torch.zeros(2, 3, 4)
    logits[0, 0, 1] = 100.0
    labels = torch.tensor([[IGNORED, 1, IGNORED], [IGNORED, 2, 3]])
    reduced = Answers().reduce(logits, labels)
    assert reduced[:, 2].tolist() == [1.0, 2.0]
    assert float(reduced[:, 0].sum() / 3) == pytest.approx(2 * torch.log(torch.tensor(4.0)).item() / 3)
