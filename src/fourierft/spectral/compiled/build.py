"""Building kernel.c once per machine, and loading it.

The library lies in the cache under a name that holds all it depends on: the source, the compiler, the processor. It
shares torch's OpenMP threads: symbols of OpenMP are left open and found in torch's own runtime.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
import warnings
from pathlib import Path
from typing import NamedTuple

import torch

SOURCE = Path(__file__).with_name("kernel.c")
SWITCH = "FOURIERFT_KERNEL"
FLAGS = ("-O3", "-march=native", "-fno-math-errno", "-ffp-contract=fast", "-fopenmp", "-fPIC", "-std=gnu11")


class Kernel(NamedTuple):
    """The two builds of kernel.c."""

    wide: ctypes.CDLL
    narrow: ctypes.CDLL


@functools.cache
def load_kernel() -> Kernel | None:
    """The kernel's libraries, built if this machine has none yet; None where they cannot be had.

    None: the environment says FOURIERFT_KERNEL=torch, the system is not Linux, torch runs without OpenMP, or there is
    no C compiler ($CC, else cc). A compiler that fails is told of in a warning.
    """
    compiler = find_compiler()
    if compiler is None or os.environ.get(SWITCH) == "torch":
        return None
    try:
        return Kernel(*(ctypes.CDLL(str(path)) for path in (_built(compiler, "-DWIDE"), _built(compiler))))
    except (OSError, subprocess.SubprocessError) as error:
        reason = (getattr(error, "stderr", None) or str(error)).strip().splitlines()
        warnings.warn(
            f"the compiled kernel can't be built with {compiler} ({reason[0] if reason else error}); the slower torch "
            f"path is used: set {SWITCH}=torch to choose it without this warning",
            stacklevel=2,
        )
        return None


def find_compiler() -> str | None:
    """The C compiler, where its code can share torch's threads: on Linux, with a torch that has OpenMP."""
    if platform.system() != "Linux" or not torch.backends.openmp.is_available():
        return None
    return shutil.which(os.environ.get("CC", "cc")) if hasattr(ctypes.CDLL(None), "GOMP_parallel") else None


def _built(compiler: str, *options: str) -> Path:
    """Path of the library that these options of the compiler make."""
    flags = (*FLAGS, *options)
    version = subprocess.run([compiler, "--version"], capture_output=True, text=True, check=True).stdout
    identity = "\0".join([SOURCE.read_text(encoding="utf-8"), version, _processor(), *flags])
    name = f"kernel-{hashlib.sha256(identity.encode()).hexdigest()[:24]}.so"
    folder = _folder()
    if not (folder / name).is_file():
        with tempfile.TemporaryDirectory(dir=folder) as work:  # built beside, then moved: other processes see all of it
            parts = Path(work) / "kernel.o", Path(work) / name
            for command in (
                [compiler, *flags, "-c", str(SOURCE), "-o", str(parts[0])],
                [compiler, "-shared", str(parts[0]), "-o", str(parts[1])],
            ):
                subprocess.run(command, capture_output=True, text=True, check=True)
            os.replace(parts[1], folder / name)
    return folder / name


def _processor() -> str:
    """What -march=native depends on: the first processor's model and instruction sets."""
    try:
        first = Path("/proc/cpuinfo").read_text(encoding="utf-8").split("\n\n")[0]
    except OSError:
        first = platform.processor()
    kept = ("vendor_id", "cpu family", "model", "flags", "Features", "CPU ")
    return "\n".join([platform.machine(), *(line for line in first.splitlines() if line.startswith(kept))])


@functools.cache
def _folder() -> Path:
    """A folder that this user alone may write to: in the cache, else one that ends with the process."""
    own = os.environ.get("FOURIERFT_CACHE")
    root = Path(own).expanduser() if own else Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
    folder = (root if own else root / "fourierft") / "kernels"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = folder.stat()
        if status.st_uid == os.getuid() and not status.st_mode & 0o022 and os.access(folder, os.W_OK):
            return folder
    except OSError:
        pass
    temporary = tempfile.TemporaryDirectory(prefix="fourierft-")
    _TEMPORARY.append(temporary)
    return Path(temporary.name)


_TEMPORARY: list[tempfile.TemporaryDirectory[str]] = []  # removed when the process ends
