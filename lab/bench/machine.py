"""What stands in each row about the code and the machine that made it."""

from __future__ import annotations

import functools
import importlib.metadata
import platform
import subprocess
import sys
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

import fourierft
from fourierft.spectral.compiled.build import load_kernel
from fourierft.spectral.triton.choice import is_there
from lab.folders import ROOT

if TYPE_CHECKING:
    from lab.bench.harness import Settings

PACKAGES = ("torch", "peft", "transformers")
MEASURED = (  # what a result depends on
    "src/fourierft/spectral",
    "src/fourierft/tuner",
    "src/fourierft/fleet",
    "src/fourierft/rows",
    "src/fourierft/training/fleet",
    "lab/bench/suites",
)


def describe_run(settings: Settings) -> dict[str, Any]:
    """dtype, threads, device, CPU, kernel, versions, commits and time of a row."""
    return {
        "dtype": settings.dtype,
        "threads": settings.threads,
        "device": settings.device,
        "device_name": device_name(settings.device),
        "cpu": cpu_model(),
        "kernel": kernel(settings.device),
        "versions": versions(),
        "commit": commit(),
        "code": code(),
        "time": datetime.now(timezone.utc).isoformat(timespec="seconds"),
    }


@functools.cache
def versions() -> dict[str, str]:
    """Versions of Python and of the packages that the numbers depend on."""
    found = {name: importlib.metadata.version(name) for name in PACKAGES}
    return {"python": platform.python_version(), **found, "fourierft": fourierft.__version__}


@functools.cache
def commit() -> str:
    """The commit at hand, marked "+dirty" if measured code is not committed."""
    return _git("rev-parse", "--short=12", "HEAD") + (
        "+dirty" if _git("status", "--porcelain", "--", *MEASURED) else ""
    )


@functools.cache
def code(measured: tuple[str, ...] = MEASURED) -> str:
    """The last commit that touched measured code: a result is good while it stays. Marked "+dirty" like `commit`."""
    dirty = "+dirty" if _git("status", "--porcelain", "--", *measured) else ""
    return _git("log", "-1", "--format=%h", "--abbrev=12", "--", *measured) + dirty


@functools.cache
def cpu_model() -> str:
    """Model name of the processor, as the operating system gives it."""
    if sys.platform == "linux":
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


@functools.cache
def device_name(device: str) -> str:
    """Name of the accelerator, or of the processor."""
    return torch.cuda.get_device_name() if device == "cuda" else cpu_model()


def kernel(device: str) -> str:
    """What computes the token view: the compiled kernel, that in Triton unless it is slower, or torch's transforms."""
    if device == "cuda":
        return "triton" if is_there() else "torch"
    return "compiled" if load_kernel() else "torch"


def _git(*arguments: str) -> str:
    finished = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    return finished.stdout.strip() if finished.returncode == 0 else "unknown"
