"""The kernel of this machine: built once where there is a C compiler, else the one that the wheel carries.

A library that is built lies in the cache under a name that holds all it depends on: the source, the compiler, the
processor.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import logging
import os
import platform
import shutil
import subprocess
import tempfile
import warnings
from pathlib import Path
from typing import NamedTuple

import torch

from fourierft.spectral.compiled.compiler import (
    FLAGS,
    NATIVE,
    PORTABLE_FEATURES,
    SOURCES,
    VARIANTS,
    compile_kernel,
    shipped_file,
)

SWITCH = "FOURIERFT_KERNEL"
_LOG = logging.getLogger("fourierft.kernel")


_POINTER, _LONG, _INT = ctypes.c_void_p, ctypes.c_int64, ctypes.c_int
_PRODUCT = (*[_POINTER] * 5, ctypes.c_float, _POINTER, *[_LONG] * 3, _INT, _INT)
ARGUMENTS = {  # of the functions of kernel.c
    "token_product": _PRODUCT,
    "row_product": _PRODUCT,
    "token_gradients": (*[_POINTER] * 7, ctypes.c_float, *[_POINTER] * 3, _LONG, _LONG, _INT, _INT),
    "fingerprint": (_POINTER, _LONG, _POINTER),
    "hold": (*[_POINTER] * 4, _LONG, _INT),
    "release": (*[_POINTER] * 5, _LONG, _INT),
    "held_product": (*[_POINTER] * 5, ctypes.c_float, _POINTER, _LONG, _INT, _INT),
    "held_gradients": (*[_POINTER] * 7, ctypes.c_float, *[_POINTER] * 3, _LONG, _INT),
}


class Kernel(NamedTuple):
    """The two builds of kernel.c."""

    wide: ctypes.CDLL
    narrow: ctypes.CDLL


@functools.cache
def load_kernel() -> Kernel | None:
    """The kernel's libraries, built if this machine has none yet; None where they cannot be had.

    None: the environment says FOURIERFT_KERNEL=torch, the system is not Linux, torch runs without OpenMP, or there is
    neither a C compiler ($CC, else cc) nor a kernel in the wheel that this processor runs, which is told of in a line
    of the log. A compiler that fails is told of in a warning.
    """
    if os.environ.get(SWITCH) == "torch" or not shares_threads():
        return None
    compiler, shipped = find_compiler(), find_shipped()
    instead = "the kernel that came with the package" if shipped else "the slower torch path"
    if compiler is None:
        if shipped is None:
            _LOG.warning(
                "no C compiler was found, so %s is used: install one, such as gcc, or set %s=torch to choose it "
                "without this line",
                instead,
                SWITCH,
            )
        return shipped
    try:
        return Kernel(*(open_library(_built(compiler, *flags)) for flags in VARIANTS.values()))
    except (OSError, subprocess.SubprocessError) as error:
        reason = (getattr(error, "stderr", None) or str(error)).strip().splitlines()
        warnings.warn(
            f"the compiled kernel can't be built with {compiler} ({reason[0] if reason else error}); {instead} "
            f"is used: set {SWITCH}=torch to choose torch's without this warning",
            stacklevel=2,
        )
        return shipped


def shares_threads() -> bool:
    """Whether compiled code can share torch's threads: on Linux, with a torch that has OpenMP."""
    if platform.system() != "Linux" or not torch.backends.openmp.is_available():
        return False
    return hasattr(ctypes.CDLL(None), "GOMP_parallel")


def find_compiler() -> str | None:
    """The C compiler, where its code can share torch's threads."""
    return shutil.which(os.environ.get("CC", "cc")) if shares_threads() else None


def find_shipped() -> Kernel | None:
    """The kernel of the wheel, if it carries one and this processor has all that its code uses."""
    files = [shipped_file(variant) for variant in VARIANTS]
    if not all(file.is_file() for file in files) or not processor_features() >= PORTABLE_FEATURES:
        return None
    try:
        return Kernel(*(open_library(file) for file in files))
    except OSError:  # of another system
        return None


def _built(compiler: str, *options: str) -> Path:
    """Path of the library that these options of the compiler make."""
    flags = (NATIVE, *options)
    version = subprocess.run([compiler, "--version"], capture_output=True, text=True, check=True).stdout
    sources = [source.read_text(encoding="utf-8") for source in SOURCES]
    identity = "\0".join([*sources, version, _processor(), *FLAGS, *flags])
    library = _folder() / f"kernel-{hashlib.sha256(identity.encode()).hexdigest()[:24]}.so"
    if not library.is_file():
        compile_kernel(compiler, library, *flags)
    return library


def processor_features() -> set[str]:
    """Instruction sets of the first processor, as Linux names them."""
    lines = [line.partition(":") for line in _processor().splitlines()]
    return {word for name, _, words in lines if name.strip() == "flags" for word in words.split()}


def open_library(path: Path) -> ctypes.CDLL:
    """A build of kernel.c, with the types of its arguments."""
    library = ctypes.CDLL(str(path))
    for name, types in ARGUMENTS.items():
        function = getattr(library, name)
        function.argtypes, function.restype = types, None
    return library


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
