"""Reinforcement on sums: the reward by hand, tiny runs of trl's own trainer that go on where they stopped, the page."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from fourierft.training.comparison import sources
from lab.__main__ import main
from lab.trials import reinforcement
from lab.trials.reinforcement_page import best_runs, rate_rows, table_rows
from lab.trials.sums import grade, make_prompts, reward

CHAT = (
    "{% for m in messages %}{% for w in m['content'].split() %}{{ w }} {% endfor %}{% endfor %}"
    "{% if add_generation_prompt %}= {% endif %}"
)


@pytest.fixture
def tiny_speaker(tmp_path: Path, save_tokenizer: Callable[..., int], monkeypatch: pytest.MonkeyPatch) -> Path:
    """A random model of digits with a chat template, in the place of the real one; training has two steps."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    folder = tmp_path / "speaker"
    special = {"unk_token": "[UNK]", "eos_token": "[EOS]", "pad_token": "[PAD]"}
    size = save_tokenizer(folder, [*special.values(), *map(str, range(10)), "+", "=", "?"], **special)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.chat_template = CHAT
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    sizes: dict[str, Any] = {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
    }
    LlamaForCausalLM(LlamaConfig(vocab_size=size, eos_token_id=1, pad_token_id=2, **sizes)).save_pretrained(folder)
    monkeypatch.setitem(sources.MODELS, "smollm2", lambda: folder)
    monkeypatch.setitem(reinforcement.SETTINGS, "max_steps", 2)
    return folder


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("12", 1.0),
        ("12.", 0.7),
        ("12 is it", 0.7),
        ("13", 0.5),
        ("13 or 12", 0.2),
        ("122", 0.5),
        ("012", 0.5),
        (" 12", 0.0),
        ("It is 12", 0.0),
        ("-12", 0.0),
        ("١٢", 0.0),
        ("", 0.0),
    ],
)
def test_reward_by_hand(text: str, expected: float) -> None:
    assert reward(text, "12") == pytest.approx(expected)
    assert grade([[{"role": "assistant", "content": text}]], answer=["12"], prompts=[None]) == [reward(text, "12")]


def test_sums_held_out_are_no_sums_of_training() -> None:
    trained, held_out = make_prompts(3)
    asked = [row["prompt"][1]["content"] for row in trained + held_out]
    assert (len(trained), len(held_out), len(set(asked))) == (70, 30, 100)
    for row in trained + held_out:
        question = row["prompt"][1]["content"]
        assert row["answer"] == str(sum(int(word) for word in question.split() if word.isdigit()))
    assert make_prompts(3) == (trained, held_out)
    assert make_prompts(4)[1] != held_out


def test_runs_go_on_where_they_stopped(
    tiny_speaker: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "out"
    command = ["--methods", "untrained", "fourierft:5", "lora:1", "--learning_rates", "1e-2"]
    command += ["--output_dir", str(target)]
    assert main(["trials", "reinforcement", *command, "--max_runs", "2"]) == 0
    begun = [json.loads(line) for line in (target / "runs.jsonl").read_text().splitlines()]
    assert [row["method"] for row in begun] == ["untrained", "fourierft:5"]
    assert begun[0]["curve"] == []
    assert begun[0]["learning_rate"] == begun[0]["parameters"] == 0
    assert [step for step, _ in begun[1]["curve"]] == [1, 2]
    assert begun[1]["parameters"] == 5 * 7
    assert main(["trials", "reinforcement", *command]) == 0
    rows = [json.loads(line) for line in (target / "runs.jsonl").read_text().splitlines()]
    assert rows[:2] == begun
    assert rows[2]["parameters"] == 2 * (32 + 32) + 2 * (32 + 32) + 3 * (32 + 64)  # q, o; k, v; gate, up, down
    assert all(0 <= row["reward"] <= 1 and row["answers"] == 30 * 8 for row in rows)
    monkeypatch.setattr(reinforcement, "perform", lambda *_, **__: pytest.fail("nothing is to be run"))
    (target / "reward.png").unlink()
    assert main(["trials", "reinforcement", "--page", "--output_dir", str(target)]) == 0
    assert (target / "reward.png").exists()
    assert f"written to {target / 'summary.md'}" in capsys.readouterr().out
    assert str(tmp_path) not in (target / "summary.md").read_text() + (target / "runs.jsonl").read_text()


def make_row(method: str, rate: float, last: float, held_out: float, **changes: Any) -> dict[str, Any]:
    curve = [[step, 0.0 if step <= 2 else last] for step in range(1, 11)]
    numbers = {"fourierft:5": 1050, "lora:1": 305280}.get(method, 0)
    row = {"method": method, "learning_rate": rate, "seed": 0, "curve": curve, "reward": held_out, "right": 0.25}
    return {**row, "parameters": numbers, **changes}


def test_page_takes_each_method_at_the_rate_where_training_ended_best() -> None:
    rows = [
        make_row("untrained", 0.0, 0.0, 0.1, curve=[]),
        make_row("lora:1", 1e-3, 0.6, 0.7),
        make_row("fourierft:5", 1e-3, 0.5, 0.9),
        make_row("fourierft:5", 3e-3, 0.8, 0.75),
    ]
    assert [(method, runs[0]["learning_rate"]) for method, runs in best_runs(rows).items()] == [
        ("fourierft:5", 3e-3),
        ("lora:1", 1e-3),
    ]
    assert table_rows(rows)[1:] == [
        ("untrained", "0", "-", "-", "0.100", "25%"),
        ("FourierFT n=5", "1,050", "0.003", "0.800", "0.750", "25%"),
        ("LoRA r=1", "305,280", "0.001", "0.600", "0.700", "25%"),
    ]
    assert rate_rows(rows)[1:] == [("FourierFT n=5", "0.900", "0.750"), ("LoRA r=1", "0.700", "-")]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--methods", "vera:8"], "method vera:8 is not tried here; use fourierft:N, lora:R or untrained"),
        (["--methods", "lora"], "method lora is not tried here"),
        (["--methods", "fourierft:0"], "method fourierft:0 is not tried here"),
        (["--learning_rates", "0"], "learning_rates=[0.0] is not a list of positive numbers"),
        (["--seeds", "-1"], "seeds=[-1] is not a list of whole numbers"),
        (["--max_runs", "-1"], "--max_runs -1 is negative"),
    ],
)
def test_wrong_arguments_are_one_line(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["trials", "reinforcement", *arguments, "--output_dir", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()
