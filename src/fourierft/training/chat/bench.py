"""Answers to the questions of MT-Bench and Vicuna, in the format of FastChat's judge.

A line a question: question_id, answer_id, model_id, choices [{index, turns}], tstamp, and made_by, which tells model
and sampling. Temperatures are FastChat's.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import Any

from fourierft.errors import ConfigError, DataError
from fourierft.training.arguments import DataArguments
from fourierft.training.cells import column_names, read_cell
from fourierft.training.chat.answering import read_lines, write_lines
from fourierft.training.chat.conversation import Conversation
from fourierft.training.chat.speaker import Sampling, Speaker
from fourierft.training.data import load_splits
from fourierft.training.files import FORMATS, read_file
from fourierft.training.lock import alone_with

TURNS = {"mt-bench": 2, "vicuna": 1}
TEMPERATURES = {"writing": 0.7, "roleplay": 0.7, "stem": 0.1, "humanities": 0.1} | dict.fromkeys(
    ("extraction", "math", "coding", "reasoning"), 0.0
)
OTHER_TEMPERATURE = 0.7


@dataclass(frozen=True)
class Question:
    """What is asked, turn by turn."""

    number: Any
    turns: tuple[str, ...]
    temperature: float


def read_questions(source: str, bench: str) -> list[Question]:
    """The questions of a file of FastChat's, or of a data set of the hub.

    Args:
        source: question.jsonl, or a hub id; the columns question_id or prompt_id, turns or prompt, and category.
        bench: mt-bench (two turns) or vicuna (one).

    Raises: DataError, if there are none, or they are of another form. ConfigError, if the bench is unknown.
    """
    if bench not in TURNS:
        raise ConfigError(f"bench={bench} is unknown; use one of {', '.join(TURNS)}")
    if Path(source).is_file() or Path(source).suffix in FORMATS:
        rows = read_file(source)
    else:
        rows = load_splits(DataArguments(dataset_name=source))["train"]
    found = ({name: read_cell(row[name]) for name in column_names(rows)} for row in rows)
    return [_read_question(row, bench, f"question {place} of {source}") for place, row in enumerate(found, start=1)]


def _read_question(row: Mapping[str, Any], bench: str, where: str) -> Question:
    number = next((row[name] for name in ("question_id", "prompt_id") if row.get(name) is not None), None)
    turns = next((row[name] for name in ("turns", "prompt", "text") if row.get(name)), None)
    turns = [turns] if isinstance(turns, str) else turns
    if number is None or not isinstance(turns, list) or not all(isinstance(turn, str) for turn in turns):
        raise DataError(
            f"{where} has the keys {', '.join(row)}; a question needs question_id, category and turns, a list of texts"
        )
    if len(turns) != TURNS[bench]:
        raise DataError(
            f"{where} has {len(turns)} turns, but one of {bench} has {TURNS[bench]}; give the right --bench"
        )
    named = row.get("required_temperature")
    temperature = TEMPERATURES.get(str(row.get("category")), OTHER_TEMPERATURE) if named is None else float(named)
    is_whole = isinstance(number, str) and number.isdecimal()  # which the judge's questions have, as numbers
    return Question(int(number) if is_whole else number, tuple(turns), temperature)


def answer_questions(
    speaker: Speaker,
    questions: Sequence[Question],
    target: str | Path,
    model_id: str,
    sampling: Sampling,
    batch_size: int = 8,
    overwrite: bool = False,
    quiet: bool = False,
) -> int:
    """Answer every question, turn after turn, into a file for the judge; the same call again goes on.

    Args:
        model_id: the name that the judge knows the model by.
        sampling: its temperature gives way to the question's.

    Returns: the number of questions whose answers were missing.

    Raises: OutputExistsError, if `target` holds something else. DataError, if a question does not fit the context.
    """
    target = Path(target)
    numbers, made_by = {question.number for question in questions}, speaker.sign(sampling)

    def fit(rows: list[dict[str, Any]]) -> bool:
        told = (model_id, made_by)
        return all(
            (row.get("model_id"), row.get("made_by")) == told and row.get("question_id") in numbers for row in rows
        )

    def answer(batch: Sequence[Question]) -> list[dict[str, Any]]:
        turns = [turn for _, group in groupby(batch, key=_kind) for turn in _converse(speaker, list(group), sampling)]
        return [
            {
                "question_id": question.number,
                "answer_id": uuid.uuid4().hex,
                "model_id": model_id,
                "choices": [{"index": 0, "turns": said}],
                "tstamp": time.time(),
                "made_by": made_by,
            }
            for question, said in zip(batch, turns, strict=True)
        ]

    with alone_with(target):
        known = read_lines(target, overwrite, fit)
        answered = {row["question_id"] for row in known}
        missing = [question for question in questions if question.number not in answered]
        write_lines(target, known, missing, answer, batch_size, quiet)
    return len(missing)


def _kind(question: Question) -> tuple[float, int]:
    return question.temperature, len(question.turns)


def _converse(speaker: Speaker, questions: list[Question], sampling: Sampling) -> list[list[str]]:
    """The answers, turn by turn, to questions of one temperature and number of turns."""
    chosen = replace(sampling, temperature=questions[0].temperature)
    talks: list[list[dict[str, str]]] = [[] for _ in questions]
    for turn in range(len(questions[0].turns)):
        for talk, question in zip(talks, questions, strict=True):
            talk.append({"role": "user", "content": question.turns[turn]})
        tokens = [
            speaker.encode(Conversation(talk), f"turn {turn + 1} of question {question.number}")
            for talk, question in zip(talks, questions, strict=True)
        ]
        for talk, text in zip(talks, speaker.answer(tokens, chosen), strict=True):
            talk.append({"role": "assistant", "content": text})
    return [[message["content"] for message in talk if message["role"] == "assistant"] for talk in talks]
