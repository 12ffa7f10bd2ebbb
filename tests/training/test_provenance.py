"""The commit of a result is this package's own, not that of a repository that it merely lies in."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest

import fourierft
from fourierft.training import provenance
from fourierft.training.provenance import find_commit, versions


def git(folder: Path, *words: str) -> str:
    names = ["-c", "user.name=a", "-c", "user.email=a@b.c", "-c", "commit.gpgsign=false"]
    outcome = subprocess.run(["git", *names, "-C", str(folder), *words], capture_output=True, text=True, check=True)
    return outcome.stdout.strip()


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A user's repository, with an environment in it that holds the package, not tracked."""
    package = tmp_path / ".venv" / "site-packages" / "fourierft"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (tmp_path / "notes.txt").touch()
    git(tmp_path, "init", "--quiet")
    git(tmp_path, "add", "notes.txt")
    git(tmp_path, "commit", "--quiet", "-m", "the user's own")
    return tmp_path


def test_a_package_in_the_environment_of_a_project_has_not_its_commit(project: Path) -> None:
    assert find_commit(project / ".venv" / "site-packages" / "fourierft") is None


def test_a_package_in_its_own_checkout_has_its_commit(project: Path) -> None:
    git(project, "add", ".venv")
    git(project, "commit", "--quiet", "-m", "the package")
    assert find_commit(project / ".venv" / "site-packages" / "fourierft") == git(project, "rev-parse", "HEAD")


def test_a_package_that_pip_took_from_a_repository_has_the_commit_it_took(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package, url = project / ".venv" / "site-packages" / "fourierft", {"vcs_info": {"vcs": "git", "commit_id": "1a2b"}}
    installed = SimpleNamespace(
        locate_file=lambda name: package.parent / name, read_text=lambda name: json.dumps(url) if url else None
    )
    monkeypatch.setattr(provenance, "distribution", lambda name: installed)
    assert find_commit(package) == "1a2b"
    assert find_commit(project) is None  # another copy runs
    url.clear()
    assert find_commit(package) is None  # from an index


def test_without_git_there_is_no_commit(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert find_commit(project) is None


def test_versions_name_what_makes_the_numbers() -> None:
    found = versions()
    assert {"python", "torch", "peft", "transformers"} <= found.keys()
    assert found["fourierft"] == fourierft.__version__
