"""The repository that some commands need: what they run stands beside the package, not in it."""

from __future__ import annotations

import sys
from pathlib import Path

from fourierft.errors import DataError


def enter_checkout(folder: str) -> Path:
    """Find the repository and let its folders be imported.

    Args:
        folder: what of the repository is needed, such as benchmarks.

    Returns: the repository: the folder at hand, one above it, or the one this package is installed from.

    Raises: DataError, if none holds the folder.
    """
    here = Path.cwd()
    for root in (here, *here.parents, Path(__file__).resolve().parents[3]):
        if (root / folder / "run.py").is_file():
            if str(root) not in sys.path:
                sys.path.insert(0, str(root))
            return root
    raise DataError(f"no {folder} in {here} or above; run the command in a checkout of the repository")
