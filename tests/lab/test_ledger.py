"""Ledgers of JSON lines."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lab.ledger import (
    Ledger,
    append_rows,
    devices_of,
    key_of,
    measured_keys,
    newest_rows,
    read_folder,
    versions_of,
)


def row(suite: str, contender: str, value: float, code: str = "abc") -> dict:
    common = {"case": "case", "dtype": "float32", "device": "cpu", "threads": 2}
    return {**common, "suite": suite, "contender": contender, "median": value, "code": code}


def test_rows_are_appended_one_json_object_a_line_and_a_file_a_suite(tmp_path: Path):
    append_rows(tmp_path, [row("layer", "base", 1.0), row("memory", "base", 2.0)])
    append_rows(tmp_path, [row("layer", "ours", 3.0)])
    lines = (tmp_path / "layer.jsonl").read_text().splitlines()
    assert [json.loads(line)["median"] for line in lines] == [1.0, 3.0]
    assert len((tmp_path / "memory.jsonl").read_text().splitlines()) == 1


def test_rows_come_back_as_they_were_written(tmp_path: Path):
    rows = [row("layer", "base", 0.1), row("layer", "ours", 0.2)]
    append_rows(tmp_path, rows)
    assert read_folder(tmp_path) == rows


def test_numbers_that_json_does_not_know_are_refused(tmp_path: Path):
    with pytest.raises(ValueError, match="JSON"):
        append_rows(tmp_path, [row("layer", "base", float("nan"))])


def test_newest_row_of_a_key_replaces_older_ones():
    rows = [row("layer", "base", 1.0), row("layer", "ours", 2.0), row("layer", "base", 3.0)]
    assert [(r["contender"], r["median"]) for r in newest_rows(rows)] == [("base", 3.0), ("ours", 2.0)]


def test_rows_of_the_same_committed_code_are_known():
    rows = [row("layer", "base", 1.0, "old"), row("layer", "ours", 2.0, "new")]
    assert measured_keys(rows, "new") == {key_of(rows[1])}


def test_rows_of_code_that_is_not_committed_are_never_known():
    rows = [row("layer", "base", 1.0, "new+dirty")]
    assert measured_keys(rows, "new+dirty") == set()


def test_a_line_that_a_killed_process_left_half_is_passed_over_and_closed_off(tmp_path: Path) -> None:
    append_rows(tmp_path, [row("layer", "base", 1.0)])
    with (tmp_path / "layer.jsonl").open("a") as file:
        file.write('{"suite": "lay')
    append_rows(tmp_path, [row("layer", "ours", 2.0)])
    assert [found["median"] for found in read_folder(tmp_path)] == [1.0, 2.0]


def test_a_ledger_knows_its_cells_and_what_made_its_rows(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "one.jsonl", {"command": "first"})
    cells = [{"n": 1}, {"n": 2}, {"n": 3}]
    for cell in ledger.missing(cells, 2):
        ledger.add(cell, {"found": cell["n"] ** 2})
    again = Ledger(tmp_path / "one.jsonl", {"command": "second"})
    assert list(again.missing(cells, None)) == [{"n": 3}]
    assert [(found["command"], found["n"], found["found"]) for found in again.rows()] == [
        ("first", 1, 1),
        ("first", 2, 4),
    ]
    assert all({"versions", "commit"} <= set(found) for found in again.rows())


def test_versions_and_devices_are_named_once() -> None:
    rows = [{"versions": {"torch": "2", "peft": "1"}, "device": "b"}, {"versions": {"torch": "3"}, "device": "a"}]
    rows.append({"versions": {"torch": "2"}})
    assert versions_of(rows) == "peft 1, torch 2, torch 3"
    assert devices_of(rows) == "a, b"
