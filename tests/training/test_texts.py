"""Columns of text: found, checked, tokenized."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset
from transformers import AutoTokenizer

from fourierft.errors import DataError
from fourierft.training.data import Columns
from fourierft.training.texts import Texts

TEXTS = Texts()


@pytest.mark.parametrize(
    ("names", "columns"),
    [
        (["label", "text"], Columns(("text",), "label")),
        (["idx", "premise", "hypothesis", "labels"], Columns(("premise", "hypothesis"), "labels")),
        (["sentence", "label"], Columns(("sentence",), "label")),
    ],
)
def test_usual_column_names_are_found(names: list[str], columns: Columns) -> None:
    assert TEXTS.find_columns(Dataset.from_dict({name: ["a"] for name in names}), None, None) == columns


@pytest.mark.parametrize(
    ("text", "label", "message"),
    [
        (["body"], None, "no column body; the data has the columns review, stars"),
        (["review"], "mood", "no column mood; the data has the columns review, stars"),
        (None, "stars", "no column looks like the text among review, stars; name it with --text_column"),
        (["review"], None, "no column looks like the label among review, stars; name it with --label_column"),
        (["review", "review", "stars"], "stars", "names 3 columns"),
    ],
)
def test_missing_column_names_the_columns_found(text: list[str] | None, label: str | None, message: str) -> None:
    with pytest.raises(DataError, match=message):
        TEXTS.find_columns(Dataset.from_dict({"review": ["a"], "stars": [1]}), text, label)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (
            {"text": ["a", None, "c"], "label": [1, 0, 1]},
            "column text of the train data is empty in 1 rows, first in row 2",
        ),
        ({"text": ["a", "b"], "label": [float("nan"), 1.0]}, "column label of the train data is empty in 1 rows"),
        ({"text": [1, 2], "label": [0, 1]}, "column text of the train data holds 1, not text"),
        ({"text": ["a"]}, "the train data has no column label, only text"),
        ({"text": [], "label": []}, "the train data has no rows"),
    ],
)
def test_rows_that_lack_something_are_refused(rows: dict[str, list[Any]], message: str) -> None:
    with pytest.raises(DataError, match=message):
        TEXTS.check_rows(Dataset.from_dict(rows), Columns(("text",), "label"), "train")


def test_tokens_are_those_of_the_tokenizer_cut_to_length(tiny_bert: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny_bert)
    rows = Dataset.from_dict({"a": ["the film is good", "bad"], "b": ["a book", "dull"], "y": ["p", "n"]})
    tokens = TEXTS.encode(rows, Columns(("a", "b"), "y"), [1, 0], tokenizer, 6)
    expected = tokenizer(["the film is good", "bad"], ["a book", "dull"], truncation=True, max_length=6)
    assert tokens["input_ids"][:] == expected["input_ids"]
    assert len(tokens["input_ids"][0]) == 6
    assert tokens["labels"][:] == [1, 0]
    assert not {"a", "b", "y"} & set(tokens.column_names)
