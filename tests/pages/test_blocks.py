"""Every block of README and the tutorials runs in an empty folder, on small models under the names they use."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from .blocks import ROOT
from .play import play

PLAYED = sorted(ROOT.glob("docs/tutorials/*.md"))


def run_pages(folder: Path, hub: Path, *pages: Path) -> subprocess.CompletedProcess[str]:
    folder.mkdir()
    environment = os.environ | {"HF_HUB_CACHE": str(hub), "HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, str(Path(__file__).with_name("play.py")), str(folder), *map(str, pages)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, cwd=folder)


def test_every_block_of_readme_and_tutorials_runs(tmp_path: Path, hub_folder: Path) -> None:
    ended = run_pages(tmp_path / "work", hub_folder, *PLAYED)
    assert ended.returncode == 0, ended.stdout[-3000:] + ended.stderr[-6000:]


@pytest.mark.parametrize("block", ["```python\n1 / 0\n```\n", "```sh\nfourierft merge gone merged\n```\n"])
def test_a_block_that_fails_is_found(
    block: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    page = tmp_path / "page.md"
    page.write_text(f"# A page\n\n{block}")
    assert not play(page)
    assert "page.md, line 4: this block failed" in capsys.readouterr().err
