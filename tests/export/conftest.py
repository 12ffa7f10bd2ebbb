"""Two adapters and their graph; and what the tests of the page need: Chromium, and onnxruntime-web in the cache, where
`make web-demo` puts it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from fourierft.cli.main import main
from fourierft.export.site import RUNTIME
from fourierft.training.assets import cache_root

from .making import make_adapter

CHROMIUM = shutil.which("chromium")  # as Debian's package calls it
collect_ignore = [
    name
    for name, there in (
        ("test_page.py", CHROMIUM),
        ("test_site.py", CHROMIUM and (cache_root() / RUNTIME.folder).is_dir()),
    )
    if not there
]


@pytest.fixture(scope="session")
def adapters(tiny_bert: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("adapters")
    made = [make_adapter(tiny_bert, folder / name, seed) for seed, name in enumerate(("one", "two"))]
    (made[0] / "fourierft.json").write_text(json.dumps({"format": 1, "labels": ["bad", "so-so", "good"]}))
    return made


@pytest.fixture(scope="session")
def exported(adapters: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("exported") / "graph"
    assert main(["export", "onnx", *map(str, adapters), str(folder)]) == 0
    return folder
