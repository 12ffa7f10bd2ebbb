"""Which base model a store belongs to: a name, and a digest of the revision where it is on this machine."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

_ENDS = 1 << 20  # bytes read at either end of a weights file
_COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True)
class BaseIdentity:
    """A base model.

    Attributes:
        name: hub id or folder.
        digest: of its revision; None if it is not on this machine. `commit:` and the hub's commit, or for a folder
            `sha256:` of its config.json and of each weights file's size, first and last MiB.
    """

    name: str
    digest: str | None = None

    def is_same(self, other: BaseIdentity) -> bool:
        """Whether both are one model: by digest where both have one of a kind, or else by name."""
        if self.digest and other.digest and self.digest.split(":")[0] == other.digest.split(":")[0]:
            return self.digest == other.digest
        return self.name == other.name

    def describe(self) -> str:
        """Name, and the start of the digest."""
        return f"{self.name} ({self.digest[:14]})" if self.digest else self.name


def identify_base(name: str, revision: str | None = None) -> BaseIdentity:
    """Name a base model and find its digest; nothing is downloaded.

    Args:
        name: hub id or folder.
        revision: of a hub id; the hub's main one if None.
    """
    folder = Path(name)
    if (folder / "config.json").is_file():
        return BaseIdentity(name, f"sha256:{_folder_digest(folder)}")
    if revision and _COMMIT.fullmatch(revision):
        return BaseIdentity(name, f"commit:{revision}")
    if re.fullmatch(r"[\w.-]+/[\w.-]+", name) and not folder.is_absolute():
        from huggingface_hub import try_to_load_from_cache

        cached = try_to_load_from_cache(name, "config.json", revision=revision)
        if isinstance(cached, str) and _COMMIT.fullmatch(Path(cached).parent.name):
            return BaseIdentity(name, f"commit:{Path(cached).parent.name}")
    return BaseIdentity(name)


def _folder_digest(folder: Path) -> str:
    digest = hashlib.sha256((folder / "config.json").read_bytes())
    weights = (path for pattern in ("*.safetensors", "*.bin", "*.gguf") for path in folder.glob(pattern))
    for path in sorted(weights):
        size = path.stat().st_size
        digest.update(f"{path.name} {size}\n".encode())
        with path.open("rb") as file:
            digest.update(file.read(_ENDS))
            file.seek(max(0, size - _ENDS))
            digest.update(file.read(_ENDS))
    return digest.hexdigest()
