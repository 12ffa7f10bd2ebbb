"""Columns of text: found, checked, tokenized."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset
from transformers import AutoTokenizer

from fourierft.errors import DataError
from fourierft.training.columns import Columns
from fourierft.training.families.classes import Classification

TEXTS = Classification()


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
            "column text is empty in 1 of 3 rows, first in row 2; fill or remove them",
        ),
        ({"text": ["a", "b"], "label": [float("nan"), 1.0]}, "column label is empty in 1 of 2 rows, first in row 1"),
        (
            {"text": [["a", "b"]], "label": [1]},
            r"column text holds \['a', 'b'\] in row 1, a list of words; train labels of words",
        ),
        ({"text": [b"a"], "label": [1]}, "column text holds b'a' in row 1, not text; name another --text_column"),
        (
            {"text": ["a"], "label": [["x", "y"]]},
            r"column label holds \['x', 'y'\] in row 1, a list of labels; for several labels",
        ),
        ({"text": ["a"]}, "the data has no column label, only text"),
    ],
)
def test_rows_that_lack_something_are_refused(rows: dict[str, list[Any]], message: str) -> None:
    with pytest.raises(DataError, match=message):
        TEXTS.check_rows(Dataset.from_dict(rows), Columns(("text",), "label"))


def test_tokens_are_those_of_the_tokenizer_cut_to_length(tiny_bert: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny_bert)
    rows = Dataset.from_dict({"a": ["the film is good", "bad"], "b": ["a book", "dull"], "y": ["p", "n"]})
    tokens = TEXTS.encode_rows(rows, Columns(("a", "b"), "y"), [1, 0], tokenizer, 6)
    expected = tokenizer(["the film is good", "bad"], ["a book", "dull"], truncation=True, max_length=6)
    assert tokens["input_ids"][:] == expected["input_ids"]
    assert len(tokens["input_ids"][0]) == 6
    assert tokens["labels"][:] == [1, 0]
    assert not {"a", "b", "y"} & set(tokens.column_names)


def test_words_with_labels_of_their_own_are_refused_by_name() -> None:
    rows = Dataset.from_dict({"id": [0], "tokens": [["Ann", "sings"]], "ner_tags": [[1, 0]]})
    with pytest.raises(
        DataError, match=r"has a column tokens, but no text; train labels of words with --task token_class"
    ):
        TEXTS.find_columns(rows, None, None)


def test_numbers_and_dates_of_typed_columns_are_read_as_text(tiny_bert: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny_bert)
    rows = Dataset.from_dict({"text": [7, 12], "day": [date(2020, 1, 31), date(2020, 2, 1)], "label": [0, 1]})
    columns = Columns(("text", "day"), "label")
    TEXTS.check_rows(rows, columns)
    assert TEXTS.describe(rows, columns) == [{"text": "7", "day": "2020-01-31"}, {"text": "12", "day": "2020-02-01"}]
    expected = tokenizer(["7", "12"], ["2020-01-31", "2020-02-01"])
    assert TEXTS.encode_rows(rows, columns, [0, 1], tokenizer, 32)["input_ids"][:] == expected["input_ids"]


def test_labels_keep_their_type_whatever_a_column_of_that_name_has(tiny_bert: Path) -> None:
    rows = Dataset.from_dict({"text": ["a film", "a book"], "labels": [1, 2]})  # integers
    encoded = TEXTS.encode_rows(
        rows, Columns(("text",), "labels"), [1.0, 2.0], AutoTokenizer.from_pretrained(tiny_bert), 8
    )
    assert [type(label) for label in encoded["labels"][:]] == [float, float]
