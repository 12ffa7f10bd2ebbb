"""Files are replaced whole or not at all, and an output folder keeps what no training wrote."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fourierft.errors import CheckpointError, DataError, OutputExistsError
from fourierft.training import output


def test_directory_is_free_if_absent_or_empty(tmp_path: Path) -> None:
    output.check_output(tmp_path / "new", overwrite=False, resume=False)
    output.check_output(tmp_path, overwrite=False, resume=False)
    (tmp_path / "file").write_text("")
    output.check_output(tmp_path, overwrite=True, resume=False)
    output.check_output(tmp_path, overwrite=False, resume=True)
    with pytest.raises(OutputExistsError, match="is not empty"):
        output.check_output(tmp_path, overwrite=False, resume=False)
    with pytest.raises(OutputExistsError, match="is a file"):
        output.check_output(tmp_path / "file", overwrite=True, resume=False)


def test_clearing_removes_results_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "checkpoint-3").mkdir()
    for name in (*output.RESULTS, "notes.txt"):
        (tmp_path / name).write_text("")
    output.clear_output(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_json_that_cannot_be_written_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    output.write_json(path, {"a": 1})
    with pytest.raises(TypeError):
        output.write_json(path, {"a": object()})
    assert json.loads(path.read_text()) == {"a": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]


@pytest.mark.parametrize("content", ["", "[]", '{"format": 2}'])
def test_record_of_another_make_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "fourierft.json").write_text(content)
    with pytest.raises(CheckpointError, match=r"fourierft\.json"):
        output.read_record(tmp_path)


def test_lines_come_back_whatever_their_texts_break_lines_with(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    rows = [{"text": "one\u2028two\x85three\x0bfour\x1cfive"}, {"text": ""}, {"text": "six\r\nseven"}]
    for row in rows:
        output.append_json_line(file, row)
    assert output.read_json_lines(file) == rows
    output.write_json_lines(file, rows)
    assert output.read_json_lines(file) == rows


def test_a_line_left_half_is_passed_over_and_anything_else_is_told(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    assert output.read_json_lines(file) == []
    file.write_text('{"a": 1}\n{"a": 2, "b\n{"a": 3}\n')
    assert output.read_json_lines(file) == [{"a": 1}, {"a": 3}]
    file.write_text('{"a": 1}\nnotes\n')
    with pytest.raises(DataError, match=r"line 2 of .*rows\.jsonl is not JSON"):
        output.read_json_lines(file)
