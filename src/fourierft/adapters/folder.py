"""A folder that is written whole or not at all."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fourierft.errors import ConfigError, OutputExistsError


def check_output(output: Path) -> None:
    """Raise OutputExistsError if something stands where the result would be written."""
    if output.exists() and not (output.is_dir() and not any(output.iterdir())):
        raise OutputExistsError(f"{output} is there already and is not an empty folder; name another or remove it")


@contextmanager
def written_beside(output: Path) -> Iterator[Path]:
    """A folder beside `output` that takes its name when the block ends well, and goes when it does not."""
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        work = Path(tempfile.mkdtemp(prefix=f".{output.name}-", dir=output.parent))
    except OSError as error:
        raise ConfigError(f"cannot write beside {output} ({error.strerror}); name another output folder") from error
    try:
        work.chmod(0o755)
        yield work
        check_output(output)
        if output.exists():
            output.rmdir()
        os.replace(work, output)
    finally:
        shutil.rmtree(work, ignore_errors=True)
