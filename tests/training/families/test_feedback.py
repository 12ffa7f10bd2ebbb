"""Answers with a thumb up or down, as files have them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset

from fourierft import AdapterStore
from fourierft.errors import ConfigError, DataError
from fourierft.training.arguments import DataArguments, MethodArguments, ModelArguments
from fourierft.training.fleet.run import train_fleet
from fourierft.training.fleet.settings import FleetArguments, FleetSettings
from fourierft.training.reading import divide, read_rows
from tests.training.families.conftest import ASK, BAD, GOOD, encode, said, user

ROWS = [
    {"prompt": ASK, "completion": GOOD, "label": True},
    {"prompt": ASK, "completion": BAD, "label": False},
]


@pytest.mark.parametrize("labels", [(True, False), (1, 0), ("true", "false"), ("Good", "Bad"), (1.0, 0.0)])
def test_labels_say_yes_or_no(chat_tokenizer: Any, labels: tuple[Any, Any]) -> None:
    found = encode([row | {"label": label} for row, label in zip(ROWS, labels, strict=True)], chat_tokenizer)
    asked = chat_tokenizer("[BOS] the film is [EOS] [BOS]").input_ids
    texts = [("good and so [EOS]", True), ("very bad [EOS]", False)]
    answers = [{"completion_ids": chat_tokenizer(text).input_ids, "label": is_good} for text, is_good in texts]
    assert found == [{"prompt_ids": asked, **answer} for answer in answers]


def test_whole_conversations_are_taken(chat_tokenizer: Any) -> None:
    for column in ("completion", "messages", "conversations"):
        rows = [{column: [user(ASK), said(str(row["completion"]))], "label": row["label"]} for row in ROWS]
        assert encode(rows, chat_tokenizer) == encode(ROWS, chat_tokenizer)


@pytest.mark.parametrize(
    ("labels", "error"),
    [
        (("maybe", "true"), "column label holds 'maybe' in row 1, which does not say whether the completion is good"),
        ((None, True), "holds None"),
        ((True, True), "all completions have one label"),
    ],
)
def test_labels_that_teach_nothing_are_told(labels: tuple[Any, Any], error: str) -> None:
    rows = [row | {"label": label} for row, label in zip(ROWS, labels, strict=True)]
    with pytest.raises(DataError, match=error):
        read_rows({"train": Dataset.from_list(rows)}, DataArguments(task="preferences"))


def test_rows_held_out_have_both() -> None:
    data = DataArguments(task="preferences", validation_fraction=0.1)
    reading = divide(read_rows({"train": Dataset.from_list(ROWS * 20)}, data), data, 0)
    assert sorted(reading.labels["validation"]) == [False, False, True, True]


def test_a_fleet_says_that_it_does_not_learn_them(tiny_llama: Path, tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    Dataset.from_list([row | {"adapter": "a"} for row in ROWS * 4]).to_json(str(file))
    arguments = FleetArguments(
        model=ModelArguments(str(tiny_llama)),
        data=DataArguments(train_file=str(file), task="preferences"),
        store=str(tmp_path / "store.db"),
        method=MethodArguments(n_frequency=50),
        fleet=FleetSettings(),
    )
    with pytest.raises(ConfigError, match="a fleet does not learn preferences"):
        train_fleet(arguments)
    if Path(arguments.store).exists():
        with AdapterStore(arguments.store) as store:
            assert not list(store)
