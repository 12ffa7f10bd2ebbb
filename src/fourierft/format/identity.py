"""Which base model an adapter was made for, and a store belongs to: told by what it weighs, wherever it lies.

A base is copied: cast to half precision, quantised, saved again by another version of transformers. Its files are
other files then, but what was positive stays positive. So beside the exact digest of a revision there are its signs: of
some numbers of each matrix, hashed. They are the same for all copies, and differ for another checkpoint, a fine-tuned
sibling too.
"""

from __future__ import annotations

import functools
import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

from fourierft.errors import CheckpointError
from fourierft.format.signs import read_signs, same_signs

_ENDS = 1 << 20  # bytes read at either end of a weights file
_COMMIT = re.compile(r"[0-9a-f]{40}")
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
_WEIGHTS = ("*.safetensors", "*.bin", "*.gguf")


@dataclass(frozen=True)
class BaseIdentity:
    """A base model.

    Attributes:
        name: hub id or folder.
        digest: of its revision; None if it is not on this machine. `commit:` and the hub's commit, or for a folder
            `sha256:` of its config.json and of each weights file's size, first and last MiB.
        signs: of its weights (`read_signs`); None if they are not on this machine as safetensors.
    """

    name: str
    digest: str | None = None
    signs: str | None = None

    def is_same(self, other: BaseIdentity) -> bool:
        """Whether both are one model, or copies of one.

        The same revision is the same model. Otherwise signs decide where both have some to compare; where neither has,
        digests of one kind do; otherwise, as for a copy in another file format, names.
        """
        if self.digest and self.digest == other.digest:
            return True
        if self.signs and other.signs:
            same = same_signs(self.signs, other.signs)
            return self.name == other.name if same is None else same
        neither = not self.signs and not other.signs
        if neither and self.digest and other.digest and self.digest.split(":")[0] == other.digest.split(":")[0]:
            return False
        return self.name == other.name

    def describe(self) -> str:
        """Name, and the start of the digest."""
        return f"{self.name} ({self.digest[:14]})" if self.digest else self.name

    @property
    def is_known(self) -> bool:
        """Whether there is more to it than a name."""
        return bool(self.digest or self.signs)


def identify_base(name: str, revision: str | None = None) -> BaseIdentity:
    """Name a base model, and find its digest and its signs; nothing is downloaded.

    Args:
        name: hub id or folder.
        revision: of a hub id; the hub's main one if None.
    """
    folder = Path(name)
    try:
        if (folder / "config.json").is_file():
            return BaseIdentity(name, f"sha256:{_folder_digest(*_state(folder))}", _folder_signs(*_state(folder)))
    except (OSError, ValueError):  # what no file can be called
        return BaseIdentity(name)
    if not _HUB_ID.fullmatch(name) or folder.is_absolute():
        return BaseIdentity(name)
    from huggingface_hub import try_to_load_from_cache

    cached = try_to_load_from_cache(name, "config.json", revision=revision)
    if isinstance(cached, str) and _COMMIT.fullmatch(Path(cached).parent.name):
        snapshot = Path(cached).parent
        return BaseIdentity(name, f"commit:{snapshot.name}", _folder_signs(*_state(snapshot)))
    if revision and _COMMIT.fullmatch(revision):
        return BaseIdentity(name, f"commit:{revision}")
    return BaseIdentity(name)


def check_same_base(made_for: BaseIdentity, base: BaseIdentity, who: str | Path) -> None:
    """Raise CheckpointError if an adapter was made for another base than the one it is to be used with.

    Args:
        made_for: what the adapter says; nothing is known if it has no more than a name.
        base: the model at hand.
        who: the adapter, for the message.
    """
    if made_for.is_known and base.is_known and not made_for.is_same(base):
        raise CheckpointError(
            f"{who} was made for the base {made_for.describe()}, but {base.describe()} "
            "is another model; give the right base, or, to use this one anyway, allow_other_base"
        )


_State = tuple[tuple[str, int, int], ...]  # of each file: name, bytes, time of its last change


def _state(folder: Path) -> tuple[str, _State]:
    """A folder, and what changes when its files do."""
    files = sorted({folder / "config.json", *(path for pattern in _WEIGHTS for path in folder.glob(pattern))})
    found = [(path.name, path.stat()) for path in files if path.is_file()]
    return str(folder), tuple((name, state.st_size, state.st_mtime_ns) for name, state in found)


@functools.lru_cache(maxsize=64)
def _folder_digest(folder: str, state: _State) -> str:
    digest = hashlib.sha256((Path(folder) / "config.json").read_bytes())
    for name, size, _ in state:
        if name == "config.json":
            continue
        digest.update(f"{name} {size}\n".encode())
        with (Path(folder) / name).open("rb") as file:
            digest.update(file.read(_ENDS))
            file.seek(max(0, size - _ENDS))
            digest.update(file.read(_ENDS))
    return digest.hexdigest()


@functools.lru_cache(maxsize=64)
def _folder_signs(folder: str, state: _State) -> str | None:
    return read_signs(Path(folder))
