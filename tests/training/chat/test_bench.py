"""Answer files are what FastChat's judge reads: the turns of each question, at its category's temperature."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fourierft.errors import ConfigError, DataError, OutputExistsError
from fourierft.training.chat.bench import answer_questions, read_questions
from fourierft.training.chat.conversation import Conversation
from fourierft.training.chat.speaker import Sampling, Speaker, load_speaker

QUESTIONS: list[dict[str, Any]] = [
    {"question_id": 81, "category": "math", "turns": ["the film is", "and not"], "reference": ["a", "b"]},
    {"question_id": 82, "category": "coding", "turns": ["a book", "but so"]},
    {"question_id": 83, "category": "writing", "turns": ["very good", "bad"]},
    {"question_id": 84, "category": "stem", "turns": ["dull", "fine"]},
]
SAMPLING = Sampling(max_new_tokens=4)


@pytest.fixture
def speaker(chat_llama: Path) -> Speaker:
    return load_speaker(str(chat_llama), use_cpu=True)


def write(file: Path, rows: list[dict[str, Any]]) -> str:
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(file)


@pytest.fixture
def questions(tmp_path: Path) -> str:
    return write(tmp_path / "question.jsonl", QUESTIONS)


def test_temperatures_are_fastchats(questions: str, tmp_path: Path) -> None:
    assert [question.temperature for question in read_questions(questions, "mt-bench")] == [0.0, 0.0, 0.7, 0.1]
    rows = [{"question_id": 1, "category": "fermi", "turns": ["a"]}]
    rows += [{"question_id": 2, "category": "math", "turns": ["a"], "required_temperature": 0.3}]
    assert [q.temperature for q in read_questions(write(tmp_path / "v.jsonl", rows), "vicuna")] == [0.7, 0.3]


def test_second_turn_sees_the_first_and_its_answer(speaker: Speaker, questions: str, tmp_path: Path) -> None:
    asked = read_questions(questions, "mt-bench")
    assert answer_questions(speaker, asked, tmp_path / "tiny.jsonl", "tiny", SAMPLING, 3, quiet=True) == 4
    rows = [json.loads(line) for line in (tmp_path / "tiny.jsonl").read_text().splitlines()]
    assert [sorted(row) for row in rows] == [
        ["answer_id", "choices", "made_by", "model_id", "question_id", "tstamp"]
    ] * 4
    assert [row["question_id"] for row in rows] == [81, 82, 83, 84]
    assert len({row["answer_id"] for row in rows}) == 4
    assert {row["model_id"] for row in rows} == {"tiny"}
    for row, question in list(zip(rows, QUESTIONS, strict=True))[:2]:  # those without chance
        ((first, second),) = [choice["turns"] for choice in row["choices"] if choice["index"] == 0]
        talk: list[dict[str, str]] = []
        for text, answer in zip(question["turns"], (first, second), strict=True):
            talk.append({"role": "user", "content": text})
            assert speaker.answer([speaker.encode(Conversation(talk), "a turn")], SAMPLING) == [answer]
            talk.append({"role": "assistant", "content": answer})


def test_answers_that_are_there_are_kept(speaker: Speaker, questions: str, tmp_path: Path) -> None:
    asked, target = read_questions(questions, "mt-bench"), tmp_path / "tiny.jsonl"
    answer_questions(speaker, asked[:2], target, "tiny", SAMPLING, quiet=True)
    before = target.read_text()
    assert answer_questions(speaker, asked, target, "tiny", SAMPLING, quiet=True) == 2
    assert target.read_text().startswith(before)
    with pytest.raises(OutputExistsError, match="has other content"):
        answer_questions(speaker, asked, target, "another", SAMPLING, quiet=True)
    with pytest.raises(OutputExistsError, match="answers of another model"):
        answer_questions(replace(speaker, origin="another"), asked, target, "tiny", SAMPLING, quiet=True)


def test_data_set_of_the_hub_is_read_by_its_columns(tmp_path: Path) -> None:
    folder = tmp_path / "mt_bench_prompts"
    folder.mkdir()
    write(folder / "train.jsonl", [{"prompt_id": 81, "category": "math", "prompt": ["a", "b"], "reference": []}])
    (question,) = read_questions(str(folder), "mt-bench")
    assert (question.number, question.turns, question.temperature) == (81, ("a", "b"), 0.0)


@pytest.mark.parametrize(
    ("row", "bench", "kind", "message"),
    [
        (QUESTIONS[0], "vicuna", DataError, "question 1 of .* has 2 turns, but one of vicuna has 1; give the right"),
        ({"question_id": 1, "turns": ["a"]}, "mt-bench", DataError, "has 1 turns, but one of mt-bench has 2"),
        (
            {"turns": ["a", "b"]},
            "mt-bench",
            DataError,
            "has the keys turns; a question needs question_id, category and turns",
        ),
        (QUESTIONS[0], "arena", ConfigError, "bench=arena is unknown; use one of mt-bench, vicuna"),
    ],
)
def test_what_is_no_question_is_named(
    row: dict[str, Any], bench: str, kind: type[Exception], message: str, tmp_path: Path
) -> None:
    with pytest.raises(kind, match=message):
        read_questions(write(tmp_path / "question.jsonl", [row]), bench)
