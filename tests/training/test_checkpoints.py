"""A checkpoint is gone on from if every file is as it was written, and the oldest go first."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from fourierft.errors import CheckpointError
from fourierft.training import checkpoints, output


def make_checkpoint(directory: Path, step: int, is_sealed: bool = True) -> Path:
    path = directory / f"checkpoint-{step}"
    (path / "shards").mkdir(parents=True)
    (path / "optimizer.pt").write_bytes(bytes(range(256)))
    (path / "shards" / "0.bin").write_bytes(b"a shard")
    if is_sealed:
        checkpoints.seal(path, {"seed": step})
    return path


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:50])


def test_a_whole_checkpoint_has_no_fault_and_knows_its_run(tmp_path: Path) -> None:
    path = make_checkpoint(tmp_path, 3)
    assert checkpoints.find_fault(path) is None
    assert checkpoints.read_run(path) == {"seed": 3}


@pytest.mark.parametrize(
    ("damage", "name", "fault"),
    [
        (cut, "optimizer.pt", "optimizer.pt has changed since it was written"),
        (flip, "optimizer.pt", "optimizer.pt has changed since it was written"),
        (flip, "shards/0.bin", "shards/0.bin has changed since it was written"),
        (Path.unlink, "shards/0.bin", "shards/0.bin is gone"),
        (Path.unlink, "checkpoint.json", "it was not written to its end"),
        (cut, "checkpoint.json", "it was not written to its end"),
    ],
)
def test_a_damaged_checkpoint_is_passed_over_for_the_one_before(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], damage: Callable[[Path], None], name: str, fault: str
) -> None:
    for step in (5, 90, 100):
        make_checkpoint(tmp_path, step)
    damage(tmp_path / "checkpoint-100" / name)
    assert checkpoints.find_checkpoint("true", tmp_path) == tmp_path / "checkpoint-90"
    said = capsys.readouterr().err
    assert said.startswith(f"fourierft: {tmp_path / 'checkpoint-100'} is damaged: {fault}")
    assert said.endswith("; resuming from checkpoint-90\n")
    with pytest.raises(CheckpointError, match=f"checkpoint-100 is not a complete checkpoint: {fault}"):
        checkpoints.find_checkpoint(str(tmp_path / "checkpoint-100"), tmp_path)


def test_without_a_whole_checkpoint_each_fault_is_told(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"has no complete checkpoint to resume from \(there is none\)"):
        checkpoints.find_checkpoint("true", tmp_path)
    assert not checkpoints.has_checkpoint(tmp_path)
    make_checkpoint(tmp_path, 4, is_sealed=False)
    (tmp_path / "checkpoint-best").mkdir()
    with pytest.raises(CheckpointError, match="checkpoint-4 is damaged: it was not written to its end"):
        checkpoints.find_checkpoint("true", tmp_path)
    assert not checkpoints.has_checkpoint(tmp_path)
    make_checkpoint(tmp_path, 2)
    assert checkpoints.has_checkpoint(tmp_path)


def test_the_oldest_go_and_the_best_and_the_one_just_written_stay(tmp_path: Path) -> None:
    for step in (2, 4, 6, 8, 10):
        make_checkpoint(tmp_path, step)
    checkpoints.keep_last(tmp_path / "checkpoint-6", None)
    assert len(output.list_checkpoints(tmp_path)) == 5
    checkpoints.keep_last(tmp_path / "checkpoint-6", 1, str(tmp_path / "checkpoint-4"))
    assert [output.step_of(path) for path in output.list_checkpoints(tmp_path)] == [4, 6, 10]
