"""Compiling kernel.c. Stands on the standard library alone: the build of a wheel runs it, too.

A kernel is two libraries, for many tokens and for a few. They share torch's OpenMP threads: symbols of OpenMP are left
open, to be found in torch's own runtime.
"""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path

SOURCE = Path(__file__).with_name("kernel.c")
SOURCES = (SOURCE, *map(SOURCE.with_name, ("spectra.h", "tiles.h", "transforms.h")))
FLAGS = ("-O3", "-fno-math-errno", "-ffp-contract=fast", "-fopenmp", "-fPIC", "-std=gnu11")
VARIANTS = {"wide": ("-DWIDE",), "narrow": ()}
NATIVE = "-march=native"
PORTABLE = "-march=x86-64-v3"  # what a wheel carries: of the processors with AVX2, all that Intel and AMD sell
PORTABLE_FEATURES = {"avx", "avx2", "bmi1", "bmi2", "f16c", "fma", "abm", "movbe", "xsave"}  # as /proc/cpuinfo has them


def compile_kernel(compiler: str, target: Path, *flags: str) -> None:
    """Write a library: whole, or not at all.

    Args:
        compiler: GCC or clang.
        target: the library's file.
        flags: beside `FLAGS`.

    Raises: OSError or subprocess.SubprocessError, if the compiler is not there or fails.
    """
    with tempfile.TemporaryDirectory(dir=target.parent) as work:  # built beside, then moved: others see all of it
        parts = Path(work) / "kernel.o", Path(work) / target.name
        for command in (
            [compiler, *FLAGS, *flags, "-c", str(SOURCE), "-o", str(parts[0])],
            [compiler, "-shared", str(parts[0]), "-o", str(parts[1])],
        ):
            subprocess.run(command, capture_output=True, text=True, check=True)
        parts[1].replace(target)


def shipped_file(variant: str) -> Path:
    """Where a wheel has a library."""
    return Path(__file__).with_name(f"kernel-x86-64-v3-{variant}.so")
