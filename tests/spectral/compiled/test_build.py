"""The library is built where it can be, once, in a folder that nobody else writes to; elsewhere torch serves."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from fourierft.spectral.compiled import build

PROGRAM = """
import torch
from fourierft import spectral_linear, uniform_basis
from fourierft.spectral.compiled.build import load_kernel
torch.manual_seed(0)
y = spectral_linear(torch.randn(3, 20), torch.randn(30), uniform_basis(24, 20, 30, 1), 9.0)
print(load_kernel() is not None, *(f"{number:.4f}" for number in y[0, :4].tolist()))
"""
COMPILERS = [compiler for compiler in [build.find_compiler()] if compiler]  # none on a bare machine


def run(cache: Path, **settings: str) -> tuple[bool, list[str], str]:
    """Whether a fresh process has the kernel, some numbers, and what it said on stderr."""
    environment = {name: value for name, value in os.environ.items() if name not in ("CC", build.SWITCH)}
    environment |= {"FOURIERFT_CACHE": str(cache), **settings}
    done = subprocess.run([sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True, check=True)
    has_kernel, *numbers = done.stdout.split()
    return has_kernel == "True", numbers, done.stderr


@pytest.mark.parametrize("compiler", COMPILERS)
def test_the_library_is_built_once(tmp_path: Path, compiler: str) -> None:
    first = run(tmp_path)
    assert first[0]
    built = {library: library.stat().st_mtime_ns for library in (tmp_path / "kernels").iterdir()}
    assert len(built) == len(build.Kernel._fields)
    assert run(tmp_path) == first
    assert built == {library: library.stat().st_mtime_ns for library in (tmp_path / "kernels").iterdir()}
    assert stat.S_IMODE((tmp_path / "kernels").stat().st_mode) == 0o700


@pytest.mark.parametrize("compiler", COMPILERS)
def test_a_folder_that_others_may_write_to_is_not_loaded_from(tmp_path: Path, compiler: str) -> None:
    (tmp_path / "kernels").mkdir()
    (tmp_path / "kernels").chmod(0o777)
    assert run(tmp_path)[0]
    assert not list((tmp_path / "kernels").iterdir())


def test_the_switch_and_a_missing_compiler_leave_torch_the_work(tmp_path: Path) -> None:
    switched, missing = run(tmp_path, FOURIERFT_KERNEL="torch"), run(tmp_path, CC="no-such-compiler")
    assert switched == missing
    assert not switched[0]
    assert not switched[2]
    assert run(tmp_path)[1] == switched[1]


def test_a_compiler_that_fails_is_told_of(tmp_path: Path) -> None:
    broken = tmp_path / "cc"
    broken.write_text("#!/bin/sh\n[ \"$1\" = --version ] && exit 0\necho 'no such instruction' >&2\nexit 1\n")
    broken.chmod(0o755)
    has_kernel, numbers, said = run(tmp_path, CC=str(broken))
    assert not has_kernel
    assert f"can't be built with {broken} (no such instruction); the slower torch path is used" in said
    assert numbers == run(tmp_path, FOURIERFT_KERNEL="torch")[1]
