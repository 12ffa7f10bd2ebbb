"""Files are replaced whole or not at all, and checkpoints are found if they are complete."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fourierft.errors import CheckpointError, ConfigError, OutputExistsError
from fourierft.training import output


def make_checkpoint(directory: Path, step: int, state: str = "{}") -> Path:
    path = directory / f"checkpoint-{step}"
    path.mkdir(parents=True)
    (path / "trainer_state.json").write_text(state)
    return path


def test_last_complete_checkpoint_is_found_by_number(tmp_path: Path) -> None:
    for step in (5, 90, 100):
        make_checkpoint(tmp_path, step)
    make_checkpoint(tmp_path, 200, state='{"global_st')
    (tmp_path / "checkpoint-best").mkdir()
    assert output.find_checkpoint("true", tmp_path) == tmp_path / "checkpoint-100"
    assert output.find_checkpoint(str(tmp_path / "checkpoint-5"), tmp_path) == tmp_path / "checkpoint-5"
    with pytest.raises(CheckpointError, match="checkpoint-200 is no complete checkpoint"):
        output.find_checkpoint(str(tmp_path / "checkpoint-200"), tmp_path)


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
    make_checkpoint(tmp_path, 3)
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


def test_resuming_names_what_changed(tmp_path: Path) -> None:
    record = {"format": 1, "seed": 1, "labels": ["a", "b"], "versions": {"torch": "1"}}
    output.write_json(tmp_path / "fourierft.json", record)
    output.check_same_run({**record, "versions": {"torch": "2"}}, tmp_path)
    with pytest.raises(ConfigError, match=r"trained with another seed \(seed: 1 before, 2 now\); resume with"):
        output.check_same_run({**record, "seed": 2}, tmp_path)
