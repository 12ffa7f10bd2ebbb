"""Every block of every page runs, on small models under the names that the pages use.

Each page starts in a folder that holds what a reader brings (brought.py), or in an empty one if it is a tutorial.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import fourierft

from .blocks import PAGES, ROOT, read_blocks
from .brought import write_files
from .conftest import REVISION
from .play import ELSEWHERE, play

PLAYED = [page for page in PAGES if read_blocks(page)]
GROUPS = 3  # which may run side by side


def run_pages(folder: Path, hub: Path, cache: Path, *pages: Path) -> subprocess.CompletedProcess[str]:
    for number, page in enumerate(pages):
        (folder / str(number)).mkdir(parents=True)
        if page.parent.name != "tutorials":
            write_files(folder / str(number))
            for name in ("MODEL", "BASE", "NEW_BASE"):
                (folder / str(number) / name).symlink_to(hub / "models--org--base/snapshots" / REVISION)
    package = Path(os.environ.get("PAGES_PACKAGE", Path(fourierft.__file__).parents[1]))  # or an unpacked wheel
    environment = os.environ | {
        "PYTHONPATH": str(package),
        "FOURIERFT_CACHE": str(cache),
        "HF_HUB_CACHE": str(hub),
        "HF_HUB_OFFLINE": "1",
        "CUDA_VISIBLE_DEVICES": "",
    }
    command = [sys.executable, str(Path(__file__).with_name("play.py")), str(folder), *map(str, pages)]
    return subprocess.run(
        command, env=environment, capture_output=True, text=True, cwd=folder, stdin=subprocess.DEVNULL
    )


@pytest.mark.parametrize("group", range(GROUPS))
def test_every_block_of_every_page_runs(group: int, tmp_path: Path, hub_folder: Path, cache_folder: Path) -> None:
    ended = run_pages(tmp_path / "work", hub_folder, cache_folder, *PLAYED[group::GROUPS])
    assert f"playing with {os.environ.get('PAGES_PACKAGE', '')}" in ended.stdout
    assert ended.returncode == 0, ended.stdout[-3000:] + ended.stderr[-6000:]
    said = re.findall(r"^<<< (.*?)^>>>$", ended.stderr, re.MULTILINE | re.DOTALL)
    assert said
    assert [text for text in said if "Warning:" in text] == []  # of libraries, on the console of a user


def test_what_runs_elsewhere_has_a_place_that_is_there() -> None:
    assert [where for where in ELSEWHERE.values() if not (ROOT / where).exists()] == []


@pytest.mark.parametrize(
    "block",
    [
        "```python\n1 / 0\n```\n",
        "```sh\nfourierft merge gone merged\n```\n",
        "```sh\nmake --flying\n```\n",
        "```sh\nunknown-program x\n```\n",
        "```sh\npython gone.py\n```\n",
    ],
)
def test_a_block_that_fails_is_found(
    block: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    page = tmp_path / "page.md"
    page.write_text(f"# A page\n\n{block}")
    assert not play(page)
    assert "page.md, line 4: this block failed" in capsys.readouterr().err


def test_a_block_with_a_title_is_a_file_for_what_follows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    page = tmp_path / "page.md"
    code = "import sys\nopen(sys.argv[1], 'w').close()\n"
    page.write_text(f'```python title="make.py"\n{code}```\n\n```sh\npython make.py made\n```\n')
    assert play(page)
    assert (tmp_path / "make.py").read_text() == code
    assert (tmp_path / "made").exists()
