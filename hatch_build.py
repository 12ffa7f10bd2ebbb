"""Puts a compiled kernel into wheels for x86-64 Linux; other wheels, and those made without a C compiler, have none.

The kernel is for processors of x86-64-v3; on older ones, as everywhere, the package looks before it loads it.
"""

from __future__ import annotations

import os
import platform
import runpy
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

TAG = "py3-none-manylinux_2_17_x86_64"  # of the C library, the kernel uses nothing newer: tests/spectral/compiled


class KernelHook(BuildHookInterface):
    """Compiles kernel.c, and tags the wheel for the machines that run it."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile it, where it can be."""
        compiler = shutil.which(os.environ.get("CC", "cc"))
        here = platform.system() == "Linux" and platform.machine() == "x86_64" and platform.libc_ver()[0] == "glibc"
        if version == "editable" or not here or compiler is None:
            return
        source = Path(self.root) / "src" / "fourierft" / "spectral" / "compiled" / "compiler.py"
        tools = runpy.run_path(str(source))
        self.work = tempfile.TemporaryDirectory()
        included = {}
        try:
            for variant, flags in tools["VARIANTS"].items():
                place = tools["shipped_file"](variant).relative_to(Path(self.root) / "src")
                library = Path(self.work.name) / place.name
                tools["compile_kernel"](compiler, library, tools["PORTABLE"], *flags)
                included[str(library)] = str(place)
        except (OSError, subprocess.SubprocessError) as error:
            self.app.display_warning(f"this wheel has no compiled kernel: {getattr(error, 'stderr', None) or error}")
            return
        build_data["force_include"].update(included)
        build_data.update(tag=TAG, pure_python=False)

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """Remove what the wheel has a copy of."""
        if hasattr(self, "work"):
            self.work.cleanup()
