"""`fourierft generate` and `fourierft answers` from the outside: what they print, write and refuse."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest

from fourierft.cli.main import main

SHORT = ["--use_cpu", "--max_new_tokens", "4"]


def test_prompt_is_answered_on_the_screen(tiny_llama: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["generate", str(tiny_llama), "--prompt", "film", *SHORT]) == 0
    assert capsys.readouterr().out.strip()


def test_file_of_prompts_becomes_a_file_of_answers(
    tiny_llama: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "prompts.txt").write_text("film\nbook\n")
    command = ["generate", str(tiny_llama), "--prompts", str(tmp_path / "prompts.txt"), *SHORT]
    assert main([*command, "--output", str(tmp_path / "answers.jsonl")]) == 0
    assert "wrote 2 answers to" in capsys.readouterr().out
    assert len((tmp_path / "answers.jsonl").read_text().splitlines()) == 2
    assert main(command) == 2
    assert "--prompts FILE and --output FILE belong together" in capsys.readouterr().err


def test_conversation_remembers_until_it_is_told_to_begin_anew(
    tiny_llama: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    seen = []

    def speak(self: object, messages: list[dict[str, str]], sampling: object) -> str:
        seen.append([message["content"] for message in messages])
        return f"answer {len(seen)}"

    monkeypatch.setattr("fourierft.training.chat.speaker.Speaker.speak", speak)
    monkeypatch.setattr("sys.stdin", io.StringIO("one\n\ntwo\n/new\nthree\n/end\nfour\n"))
    assert main(["generate", str(tiny_llama), "--chat", "--system", "be short", *SHORT]) == 0
    assert seen == [["be short", "one"], ["be short", "one", "answer 1", "two"], ["be short", "three"]]
    assert "> " not in capsys.readouterr().out  # a prompt is for terminals


def test_questions_become_a_file_for_the_judge(
    tiny_llama: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    question = {"question_id": 1, "category": "math", "turns": ["film"]}
    (tmp_path / "question.jsonl").write_text(json.dumps(question) + "\n")
    command = ["answers", str(tiny_llama), "--bench", "vicuna", "--questions", str(tmp_path / "question.jsonl"), *SHORT]
    assert main([*command, "--output", str(tmp_path / "tiny.jsonl")]) == 0
    assert "wrote the answers to 1 questions" in capsys.readouterr().out
    assert json.loads((tmp_path / "tiny.jsonl").read_text())["model_id"] == "tiny"


def test_wrong_input_is_one_line_and_status_two(tiny_llama: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["generate", str(tiny_llama), "--prompt", "film " * 50, *SHORT]) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("fourierft: error: the prompt has")
    assert captured.err.count("\n") == 1


@pytest.mark.parametrize("command", ["generate", "answers"])
def test_help_has_examples(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        main([command, "--help"])
    assert exit_.value.code == 0
    assert f"fourierft {command} runs/chat --" in capsys.readouterr().out
