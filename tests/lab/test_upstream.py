"""The patches for other libraries apply to the installed releases, and mend the faults that are shown without them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

from lab.folders import ROOT

UPSTREAM = ROOT / "lab" / "upstream"
PATCHES = sorted(UPSTREAM.glob("*/*.patch"))


def faults(*first: Path) -> dict[str, bool]:
    """Which faults a process shows that imports from these folders first."""
    path = os.pathsep.join(map(str, (*first, ROOT, ROOT / "src")))
    command = [sys.executable, "-m", "lab.upstream.faults"]
    environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    result = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout.splitlines()[-1])


def test_every_patch_mends_the_fault_that_is_there_without_it(tmp_path: Path) -> None:
    for package in ("peft", "trl"):
        spec = find_spec(package)
        assert spec is not None
        assert spec.origin is not None
        shutil.copytree(Path(spec.origin).parent, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    for patch in PATCHES:
        subprocess.run(["git", "apply", "-p1", str(patch)], cwd=tmp_path, check=True)
    names = {patch.stem for patch in PATCHES}
    assert faults() == dict.fromkeys(names, True)
    assert faults(tmp_path) == dict.fromkeys(names, False)


def test_every_patch_says_what_it_is_for() -> None:
    assert len(PATCHES) == 3
    for patch in PATCHES:
        text = (patch.parent / "README.md").read_text(encoding="utf-8")
        assert patch.stem == patch.parent.name
        assert f"{patch.parent.name}/{patch.name}" in (UPSTREAM / "README.md").read_text(encoding="utf-8")
        assert all(heading in text for heading in ("## What", "## Why", "## How to see it"))
