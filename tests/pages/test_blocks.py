"""Every block of README and of pages to begin with runs, on small models under the names that the pages use.

Each page starts in a folder that holds what a reader brings, the tables below, or in an empty one if it is a tutorial.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import fourierft

from .blocks import ROOT
from .play import play

PLAYED = [
    ROOT / "README.md",
    *sorted(ROOT.glob("docs/tutorials/*.md")),
    ROOT / "docs/python.md",
    ROOT / "docs/commands.md",
]


ROWS = ["a great film,good\n", "a dull book,bad\n", "so lovely,good\n", "so poor,bad\n"] * 4
BROUGHT = {
    "reviews.csv": "".join(["text,label\n", *ROWS]),
    "test.csv": "".join(["text,label\n", *ROWS[:4]]),
    "customers.csv": "".join(["customer,text,label\n", *(f"{name},{row}" for name in ("ann", "bob") for row in ROWS)]),
}


def run_pages(folder: Path, hub: Path, *pages: Path) -> subprocess.CompletedProcess[str]:
    for number, page in enumerate(pages):
        (folder / str(number)).mkdir(parents=True)
        for name, text in [] if page.parent.name == "tutorials" else BROUGHT.items():
            (folder / str(number) / name).write_text(text)
    package = Path(os.environ.get("PAGES_PACKAGE", Path(fourierft.__file__).parents[1]))  # or an unpacked wheel
    environment = os.environ | {
        "PYTHONPATH": str(package),
        "HF_HUB_CACHE": str(hub),
        "HF_HUB_OFFLINE": "1",
        "CUDA_VISIBLE_DEVICES": "",
    }
    command = [sys.executable, str(Path(__file__).with_name("play.py")), str(folder), *map(str, pages)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, cwd=folder)


def test_every_block_of_pages_to_begin_with_runs(tmp_path: Path, hub_folder: Path) -> None:
    ended = run_pages(tmp_path / "work", hub_folder, *PLAYED)
    assert f"playing with {os.environ.get('PAGES_PACKAGE', '')}" in ended.stdout
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
