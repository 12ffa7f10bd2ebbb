"""Pairs of answers, as files have them: texts or messages, with a prompt or as whole conversations."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset

from fourierft.errors import ConfigError, DataError
from fourierft.training.arguments import DataArguments
from fourierft.training.data import load_splits
from fourierft.training.families.pairs import Pairs
from fourierft.training.families.registry import find_families
from fourierft.training.reading import read_rows
from tests.training.families.conftest import ASK, BAD, GOOD, encode, said, user

FORMS: dict[str, dict[str, Any]] = {
    "texts": {"prompt": ASK, "chosen": GOOD, "rejected": BAD},
    "messages": {"prompt": [user(ASK)], "chosen": [said(GOOD)], "rejected": [said(BAD)]},
    "text and messages": {"prompt": ASK, "chosen": [said(GOOD)], "rejected": [said(BAD)]},
    "whole": {"chosen": [user(ASK), said(GOOD)], "rejected": [user(ASK), said(BAD)]},
    "whole beside its prompt": {"prompt": ASK, "chosen": [user(ASK), said(GOOD)], "rejected": [user(ASK), said(BAD)]},
    "of LLaMA-Factory": {
        "conversations": [{"from": "human", "value": ASK}],
        "chosen": {"from": "gpt", "value": GOOD},
        "rejected": {"from": "gpt", "value": BAD},
    },
    "of other names": {"asked": ASK, "chosen": GOOD, "rejected": BAD},
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_is_the_same_tokens(chat_tokenizer: Any, form: str) -> None:
    named: dict[str, Any] = {"text_column": ["asked"]} if form == "of other names" else {}
    expected = {
        "prompt_ids": chat_tokenizer("[BOS] the film is [EOS] [BOS]").input_ids,
        "chosen_ids": chat_tokenizer("good and so [EOS]").input_ids,
        "rejected_ids": chat_tokenizer("very bad [EOS]").input_ids,
    }
    assert encode([FORMS[form]] * 2, chat_tokenizer, **named) == [expected] * 2


def test_a_csv_file_may_hold_json(chat_tokenizer: Any, tmp_path: Path) -> None:
    with (tmp_path / "rows.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(FORMS["messages"])
        writer.writerows([[json.dumps(value) for value in FORMS["messages"].values()]] * 2)
    data = DataArguments(train_file=str(tmp_path / "rows.csv"), task="preferences")
    reading = read_rows(load_splits(data), data)
    labels = reading.labels["train"]
    found = reading.family.encode_rows(reading.rows["train"], reading.columns, labels, chat_tokenizer, None)
    assert found.to_list() == encode([FORMS["texts"]] * 2, chat_tokenizer)


def test_only_the_last_of_several_answers_is_learned(chat_tokenizer: Any) -> None:
    before = [user("a book"), said("fine"), user(ASK)]
    row = {"prompt": before, "chosen": [said(GOOD)], "rejected": [said(BAD)]}
    found = encode([row], chat_tokenizer)[0]
    assert chat_tokenizer.decode(found["prompt_ids"]).count("fine") == 1
    assert found["chosen_ids"] == chat_tokenizer("good and so [EOS]").input_ids


def test_answers_are_cut_and_counted(chat_tokenizer: Any, capsys: pytest.CaptureFixture[str]) -> None:
    found = encode([FORMS["texts"], FORMS["texts"] | {"chosen": "good"}], chat_tokenizer, limit=9)
    assert [len(row["prompt_ids"] + row["chosen_ids"]) for row in found] == [9, 8]
    assert "cut there: 1 of 2 rows, first row 1" in capsys.readouterr().out
    with pytest.raises(DataError, match="has 6 tokens, which leaves no room for an answer within max_length=6"):
        encode([FORMS["texts"]], chat_tokenizer, limit=6)


def test_answers_of_the_same_tokens_are_refused(chat_tokenizer: Any) -> None:
    """Those that differ behind the cut alone, 6 tokens being the prompt's, and those that differ in spaces alone."""
    row = {"prompt": ASK, "chosen": "very good", "rejected": "very bad"}
    found = encode([row], chat_tokenizer, limit=8)[0]
    assert found["chosen_ids"] == chat_tokenizer("very good").input_ids != found["rejected_ids"]
    error = "row 2 has the same tokens as chosen and as rejected answer"
    with pytest.raises(DataError, match=f"{error}, cut to max_length=7; raise it, or remove the row"):
        encode([FORMS["texts"], row], chat_tokenizer, limit=7)
    for limit in (None, 100):
        with pytest.raises(DataError, match=f"{error}; remove the row"):
            encode([FORMS["texts"], row | {"rejected": "very  good"}], chat_tokenizer, limit=limit)


@pytest.mark.parametrize(
    ("row", "error"),
    [
        ({"prompt": ASK, "chosen": GOOD}, "among them no rejected; preferences are chosen and rejected answers"),
        ({"chosen": GOOD, "rejected": BAD}, "among them no prompt; name its column with --text_column, or give"),
        (FORMS["texts"] | {"rejected": GOOD}, "row 1 has the same answer as chosen and as rejected"),
        (FORMS["texts"] | {"rejected": ""}, "row 1 has the answer '', which is not a text"),
        (FORMS["whole"] | {"rejected": [user(BAD), said(GOOD)]}, "row 1 has answers to different prompts"),
        ({"chosen": [user(ASK)], "rejected": [user(BAD)]}, "row 1 has no message of the assistant"),
        (
            {"chosen": [said(GOOD), user(ASK)], "rejected": [said(BAD), user(ASK)]},
            "conversation that ends with no answer",
        ),
    ],
)
def test_rows_that_cannot_be_learned_from_are_told(chat_tokenizer: Any, row: dict[str, Any], error: str) -> None:
    with pytest.raises(DataError, match=error):
        encode([row], chat_tokenizer)


def test_they_are_known_by_their_columns_and_no_other_rows_are() -> None:
    rows = Dataset.from_list([FORMS["texts"]])
    assert [type(family) for family in find_families(rows, DataArguments())] == [Pairs]
    other = find_families(Dataset.from_list([{"prompt": ASK, "completion": GOOD}]), DataArguments())
    assert [family.name for family in other] == ["answers"]
    with pytest.raises(ConfigError, match="beta=0 is not positive"):
        read_rows({"train": rows}, DataArguments(beta=0))
