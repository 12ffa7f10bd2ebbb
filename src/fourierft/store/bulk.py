"""Many adapters at once: a folder of PEFT directories into a store, and a store out into such a folder."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from urllib.parse import quote

from fourierft.bars import bar
from fourierft.errors import CheckpointError, FourierFTError, StoreError
from fourierft.files import as_path, check_output, written_beside
from fourierft.format.config import CONFIG_FILE
from fourierft.format.json_file import read_json
from fourierft.store.additions import check_name
from fourierft.store.store import AdapterStore

NAMES_FILE = "names.json"
_LONGEST = 200  # characters of a folder's name; file systems take 255 bytes


def import_folder(
    store: AdapterStore,
    folder: str | Path,
    dtype: str = "float32",
    update: bool = False,
    base: str | None = None,
    tell: Callable[[str], None] = lambda line: None,
    allow_other_base: bool = False,
) -> tuple[int, int, int]:
    """Add every FourierFT adapter below a folder, named by its path in it, or as the names.json of an export says.

    One that cannot be added costs none of the others. What is added is on disk at once, so a call that was interrupted
    can be made again.

    Args:
        store: to add to.
        folder: whose sub-folders are PEFT directories; what begins with a dot, or lies within an adapter, is passed by.
        dtype: to keep the coefficients in.
        update: add the next version of a name that is there, instead of leaving it as it is.
        base: as of `AdapterStore.add`.
        tell: gets a sentence for each adapter that cannot be added.
        allow_other_base: as of `AdapterStore.add`.

    Returns: how many were added, were there already, could not be added.

    Raises: CheckpointError, if the folder has no adapters, is one, or its names.json is damaged.
    """
    folder = as_path(folder, "folder")
    if (folder / CONFIG_FILE).is_file():
        raise CheckpointError(
            f"{folder} is an adapter itself; add it with `fourierft store add`, or name the folder above it"
        )
    found = list(_find_adapters(folder))
    if not found:
        raise CheckpointError(f"no folder below {folder} is an adapter with {CONFIG_FILE}; name another folder")
    names, added, there, failed = _read_names(folder), 0, 0, 0
    for path in bar(found, "adding", "adapters", delay=1):
        place = path.relative_to(folder).as_posix()
        name = names.get(place, place)
        try:
            check_name(name)
            if name in store and not update:
                there += 1
                continue
            try:
                store.add(name, path, dtype, exist_ok=update, base=base, allow_other_base=allow_other_base)
                added += 1
            except StoreError:
                if update or name not in store:
                    raise
                there += 1  # another process added it meanwhile
        except FourierFTError as error:
            failed += 1
            tell(f"{name!r} was not added: {error}")
    return added, there, failed


def export_all(
    store: AdapterStore, out_dir: str | Path, tell: Callable[[str], None] = lambda line: None
) -> tuple[int, int]:
    """Write the latest version of every adapter as a PEFT directory.

    A folder is called like its adapter, with % and hexadecimal digits for what file systems may not take; names.json
    says which is which, and `import_folder` reads it. An adapter that is damaged costs none of the others.

    Args:
        store: to write.
        out_dir: folder to make; may be there if it is empty.
        tell: gets a sentence for each adapter that cannot be read.

    Returns: how many were written, and how many could not be.

    Raises: OutputExistsError, if `out_dir` holds something. StoreError, if there is no adapter. PlaceError, if the
        folder cannot be written.
    """
    out_dir = as_path(out_dir, "out_dir")
    check_output(out_dir)
    wanted = list(store.names())
    if not wanted:
        raise StoreError(f"{store} has no adapters; add some first")
    names: dict[str, str] = {}
    taken = {NAMES_FILE}
    with written_beside(out_dir) as folder:
        for name in bar(wanted, "writing", "adapters", delay=1):
            place = folder_name(name, taken)
            try:
                adapter = store.get(name)
            except (StoreError, CheckpointError) as error:
                tell(f"{name!r} was not written: {error}")
                continue
            adapter.write(folder / place)
            names[place] = name
            taken.add(place.lower())
        (folder / NAMES_FILE).write_text(json.dumps(names, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return len(names), len(wanted) - len(names)


def folder_name(name: str, taken: Collection[str] = ()) -> str:
    """A folder's name for an adapter's: letters and digits of ASCII, and `-._%~` and blanks.

    Args:
        name: of the adapter.
        taken: names in lower case that it must differ from, in more than case.
    """
    safe = quote(name, safe=" ")
    if safe.strip(". ") == safe and len(safe) <= _LONGEST and safe.lower() not in taken:
        return safe
    return f"{safe[:_LONGEST].strip('. ')}~{hashlib.sha256(name.encode()).hexdigest()[:12]}"


def _find_adapters(folder: Path) -> Iterator[Path]:
    """Folders with an adapter below a folder, not those within another's."""
    for place, below, files in os.walk(folder):
        if CONFIG_FILE in files:
            below.clear()
            yield Path(place)
        below[:] = sorted(name for name in below if not name.startswith("."))


def _read_names(folder: Path) -> dict[str, str]:
    file = folder / NAMES_FILE
    if not file.is_file():
        return {}
    names = read_json(file)
    if not isinstance(names, dict) or not all(isinstance(name, str) for name in names.values()):
        raise CheckpointError(f"{file} is not a JSON object of names; correct or remove it")
    return names
