"""What commands write can be read by whom the umask allows to: a server under another user, say (safetensors#782)."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from fourierft.cli.main import main


@pytest.fixture
def group_reads() -> Iterator[None]:
    before = os.umask(0o027)
    yield
    os.umask(before)


@pytest.mark.usefixtures("group_reads")
def test_weights_that_commands_write_have_the_rights_of_other_files(
    tiny_bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("rows.csv").write_text("text,label\n" + "the good film,yes\na bad film,no\n" * 8)
    common = ["--model_name_or_path", str(tiny_bert), "--train_file", "rows.csv", "--max_steps", "1", "--use_cpu"]
    for words in (
        ["train", *common, "--output_dir", "out", "--n_frequency", "20"],
        ["train", *common, "--output_dir", "full", "--method", "full"],
        ["merge", "out", "merged"],
        ["export", "lora", "out", "lora"],
        ["export", "onnx", "out", "graph"],
        ["store", "add", "fleet.db", "a", "out"],
        ["store", "get", "fleet.db", "a", "got"],
        ["store", "export", "fleet.db", "all"],
    ):
        assert main(words) == 0
    weights = list(Path().rglob("*.safetensors"))
    assert {file.parts[0] for file in weights} == {"out", "full", "merged", "lora", "graph", "got", "all"}
    others = [Path("out/metrics.json"), Path("fleet.db")]
    assert {
        file.name: oct(file.stat().st_mode) for file in weights + others if file.stat().st_mode & 0o777 != 0o640
    } == {}
