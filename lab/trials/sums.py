"""A task with a reward that a program checks: sums of two digits, to be answered with the number alone."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from typing import Any

REQUEST = "Answer with a number only."
HELD_OUT = 30
MOST_TOKENS = 4  # of an answer: two digits, the end, and one to go astray
BEGINS, ALONE, RIGHT = 0.2, 0.3, 0.5


def reward(text: str, answer: str) -> float:
    """From 0 to 1: .2 if the text begins with a number, .3 more if nothing follows, .5 more if the number is right."""
    number = re.match(r"[0-9]+", text)
    if number is None:
        return 0.0
    return BEGINS + ALONE * (number[0] == text) + RIGHT * (number[0] == answer)


def grade(completions: Sequence[list[dict[str, str]]], answer: Sequence[str], **_: Any) -> list[float | None]:
    """The reward of each completion, as trl's GRPOTrainer asks for it.

    Args:
        completions: conversations of one message.
        answer: the column of the right answers.
    """
    return [reward(talk[0]["content"], right) for talk, right in zip(completions, answer, strict=True)]


def make_prompts(seed: int) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The 100 sums of two digits in a random order, those to train on and those held out.

    Returns: rows with `prompt`, a conversation, and `answer`.
    """
    pairs = [(a, b) for a in range(10) for b in range(10)]
    random.Random(seed).shuffle(pairs)
    rows = [
        {
            "prompt": [{"role": "system", "content": REQUEST}, {"role": "user", "content": f"{a} + {b} = ?"}],
            "answer": str(a + b),
        }
        for a, b in pairs
    ]
    return rows[HELD_OUT:], rows[:HELD_OUT]
