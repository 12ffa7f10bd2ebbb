"""What a wheel holds: the package as the checkout has it, its compiled kernel, and nothing else."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from importlib.metadata import distribution, metadata
from pathlib import Path, PurePosixPath

import pytest

SOURCES = Path(__file__).parents[2] / "src"
MADE = ("__pycache__", ".pyc")


def is_made(path: PurePosixPath) -> bool:
    """Whether pip, Python or the kernel's compiler made a file, which no checkout has."""
    return any(part.endswith(MADE) for part in path.parts) or path.suffix == ".so"


def installed() -> set[PurePosixPath]:
    return {PurePosixPath(str(file)) for file in distribution("fourierft").files or ()}


def test_the_files_of_the_package_are_those_of_the_checkout() -> None:
    written = {PurePosixPath(path.relative_to(SOURCES).as_posix()) for path in SOURCES.rglob("*") if path.is_file()}
    ours = {path for path in installed() if path.parts[0] == "fourierft" and not is_made(path)}
    assert ours == {path for path in written if path.parts[0] == "fourierft" and not is_made(path)}
    assert {"kernel.c", "py.typed", "page.html"} <= {path.name for path in ours}  # what is no Python comes along


def test_a_wheel_brings_the_package_its_command_its_switch_and_nothing_beside() -> None:
    tops = {path.parts[0] for path in installed() if ".." not in path.parts}
    assert {top for top in tops if not top.endswith((".dist-info", "__pycache__"))} == {"fourierft", "fourierft.pth"}
    outside = [path for path in installed() if ".." in path.parts]
    assert {path.name for path in outside} == {"fourierft"}  # bin/fourierft


def test_its_page_on_an_index_has_no_link_that_leads_nowhere() -> None:
    page = metadata("fourierft")["Description"]
    assert "One base model, ten thousand fine-tunes." in page
    targets = re.findall(r"\]\(([^)]*)\)", page)
    assert [target for target in targets if not target.startswith(("https://", "#"))] == []
    assert "https://arxiv.org/abs/2405.03003" in targets


def test_it_announces_its_command_and_its_plug_in() -> None:
    found = {(one.group, one.value) for one in distribution("fourierft").entry_points}
    assert found == {
        ("console_scripts", "fourierft.cli.main:main"),
        ("vllm.general_plugins", "fourierft.serving.worker:register"),
    }


@pytest.mark.parametrize(("value", "answer"), [("1", "True"), (None, "False")])
def test_python_reads_the_switch_when_it_starts(value: str | None, answer: str) -> None:
    kept = {name: text for name, text in os.environ.items() if name != "FOURIERFT_ENABLE"}
    environment = kept | ({} if value is None else {"FOURIERFT_ENABLE": value})
    words = [sys.executable, "-c", "import sys; print('fourierft.switch' in sys.modules)"]
    assert subprocess.run(words, capture_output=True, text=True, check=True, env=environment).stdout.strip() == answer
