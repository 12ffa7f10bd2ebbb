"""The record: what is written comes back, what is optional is passed over, what is required stops an old reader."""

from __future__ import annotations

import json
from typing import Any

import pytest

from fourierft.errors import CheckpointError
from fourierft.format.record import NOTHING, Record, made_for, with_record

FULL = Record(
    is_auto=True,
    rule=2,
    band=(3.0, 2.0),
    task_type="SEQ_CLS",
    shapes={"q": (4, 5), "v": (6, 5)},
    layers=4,
    digest="sha256:ab",
    signs="1:2",
)


def test_a_record_comes_back_from_json() -> None:
    assert Record.read(json.loads(json.dumps(FULL.content)), "f") == FULL
    assert Record.read(FULL.content, "f").shape_of("layers.3.q") == (4, 5)


def test_a_config_without_record_says_nothing() -> None:
    assert Record.read(None, "f") == Record()
    assert Record().content == {}


def test_a_record_without_format_is_the_first() -> None:
    first = {"scaling": "auto", "entries": "bandpass", "center": 3.0, "width": 2, "task_type": None}
    assert Record.read(first, "f") == Record(is_auto=True, band=(3.0, 2.0))
    with pytest.raises(CheckpointError, match=r"fourierft=\['wavelet'\], which this version does not know"):
        Record.read({**first, "wavelet": "db4"}, "f")


def test_optional_keys_of_later_versions_are_passed_over_and_required_ones_are_not() -> None:
    later = {**FULL.content, "mood": "good", "base": {"digest": "sha256:ab", "signs": "1:2", "colour": 3}}
    assert Record.read(later, "f") == FULL
    with pytest.raises(CheckpointError, match=r"fourierft=\['mood'\], which this version does not know; upgrade"):
        Record.read({**later, "required": ["center", "mood"]}, "f")
    with pytest.raises(CheckpointError, match="has a record of format 3, and this version of fourierft reads up to 2"):
        Record.read({"format": 3}, "f")


def test_what_must_be_known_of_band_pass_entries_is_required() -> None:
    assert set(FULL.content["required"]) == {"entries", "center", "width"}
    assert "required" not in Record(is_auto=True).content


def test_what_stock_peft_would_pass_over_moves_the_task() -> None:
    required = {"has_parameters": "parameters", "has_reshaped": "reshaped"}
    for names in (["has_parameters"], ["reads_weights"], ["has_reshaped"], ["has_parameters", "reads_weights"]):
        facts: dict[str, Any] = dict.fromkeys(names, True)
        record = Record(**facts, task_type="SEQ_CLS")
        assert record.is_beyond_stock
        assert record.content["task_type"] == "SEQ_CLS"
        assert record.content.get("required", []) == [required[name] for name in names if name in required]
        assert Record.read(record.content, "f") == record
    with pytest.raises(CheckpointError, match=r"fourierft.parameters=3; it must be true or false"):
        Record.read({"format": 2, "parameters": 3}, "f")


@pytest.mark.parametrize(
    ("record", "word"),
    [
        (3, "fourierft=3 instead of an object"),
        ({"format": 0}, "fourierft.format=0"),
        ({"format": True}, "fourierft.format=True"),
        ({"format": 2, "required": "entries"}, "fourierft.required='entries'"),
        ({"scaling": 3.0}, "fourierft.scaling=3.0"),
        ({"rule": "2"}, "fourierft.rule='2'"),
        ({"entries": ["bandpass"]}, r"fourierft.entries=['bandpass']"),
        ({"entries": "bandpass", "center": 1}, "width=None; it must be a number from 0.001 to 1e+06"),
        ({"entries": "bandpass", "center": 1e308, "width": 1}, "center=1e+308"),
        ({"entries": "bandpass", "center": -1, "width": 1}, "center=-1"),
        ({"entries": "bandpass", "center": 1, "width": 0}, "width=0"),
        ({"entries": "bandpass", "center": True, "width": 1}, "center=True"),
        ({"task_type": 3}, "fourierft.task_type=3"),
        ({"format": 2, "shapes": [1]}, "fourierft.shapes=[1]"),
        ({"format": 2, "shapes": {"q": [4]}}, "the shape [4] for layers that end in 'q'"),
        ({"format": 2, "shapes": {"q": [4, 0]}}, "the shape [4, 0]"),
        ({"format": 2, "shapes": {"q": [4, 1 << 40]}}, "the shape [4, 1099511627776]"),
        ({"format": 2, "shapes": {"q": [4, 2.0]}}, "the shape [4, 2.0]"),
        ({"format": 2, "layers": -1}, "fourierft.layers=-1"),
        ({"format": 2, "base": "sha256:ab"}, "fourierft.base='sha256:ab'"),
        ({"format": 2, "base": {"digest": 3}}, "fourierft.base="),
        ({"format": 2, "base": {"signs": "x" * 300}}, "fourierft.base="),
    ],
)
def test_what_makes_no_sense_is_named(record: Any, word: str) -> None:
    with pytest.raises(CheckpointError) as caught:
        Record.read(record, "config.json")
    assert word in str(caught.value)


def test_a_config_gets_another_record_and_keeps_the_rest() -> None:
    content = {"peft_type": "FOURIERFT", "fourierft": FULL.content}
    moved = with_record(content, "f", **NOTHING)
    assert moved["peft_type"] == "FOURIERFT"
    assert Record.read(moved["fourierft"], "f") == Record(is_auto=True, rule=2, band=(3.0, 2.0), task_type="SEQ_CLS")
    assert "fourierft" not in with_record({"scaling": 3.0}, "f", **NOTHING)
    assert with_record({}, "f", **made_for({"a.q": (2, 3)}))["fourierft"]["shapes"] == {"q": [2, 3]}
