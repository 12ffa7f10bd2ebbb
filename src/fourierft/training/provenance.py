"""What made a result: the commit of this package, and the versions of it and of the libraries that make the numbers."""

from __future__ import annotations

import json
import platform
import subprocess
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, distribution, version
from pathlib import Path

import fourierft

LIBRARIES = ("torch", "transformers", "peft", "accelerate", "datasets")


def versions() -> dict[str, str]:
    """Versions of Python, of this package, and of the libraries that make the numbers, of those that are installed."""
    found = {"python": platform.python_version(), "fourierft": fourierft.__version__}
    for name in LIBRARIES:
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def find_commit(package: Path | None = None) -> str | None:
    """The commit that this package runs from: of its own checkout, or what pip installed it from; None of a release.

    A repository that it merely lies in, as an environment inside a project does, is not its own.

    Args:
        package: folder of the package; this one's if None.
    """
    folder = package or Path(__file__).parents[1]
    return _checked_out(folder) or _installed(folder)


def _checked_out(folder: Path) -> str | None:
    if _git(folder, "ls-files", "--error-unmatch", "__init__.py") is None:
        return None
    return _git(folder, "rev-parse", "HEAD")


def _installed(folder: Path) -> str | None:
    """What pip wrote of where it took the package from, if that is the one that runs."""
    with suppress(PackageNotFoundError, ValueError, KeyError, TypeError):
        found = distribution("fourierft")
        if Path(str(found.locate_file("fourierft"))).resolve() == folder.resolve():
            return str(json.loads(found.read_text("direct_url.json") or "")["vcs_info"]["commit_id"])
    return None


def _git(folder: Path, *words: str) -> str | None:
    try:
        outcome = subprocess.run(["git", "-C", str(folder), *words], capture_output=True, text=True, check=False)
    except OSError:
        return None
    return outcome.stdout.strip() if outcome.returncode == 0 else None
