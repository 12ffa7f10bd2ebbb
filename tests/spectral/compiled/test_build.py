"""The library is built where it can be, once, in a folder that nobody else writes to; elsewhere torch serves."""

from __future__ import annotations

import os
import platform
import re
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from fourierft.spectral.compiled import build, compiler

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
    assert switched[:2] == missing[:2]
    assert not switched[0]
    assert run(tmp_path)[1] == switched[1]
    assert switched[2] == ""
    assert missing[2].count("no C compiler was found, so the slower torch path is used: install one") == 1


def test_a_compiler_that_fails_is_told_of(tmp_path: Path) -> None:
    broken = tmp_path / "cc"
    broken.write_text("#!/bin/sh\n[ \"$1\" = --version ] && exit 0\necho 'no such instruction' >&2\nexit 1\n")
    broken.chmod(0o755)
    has_kernel, numbers, said = run(tmp_path, CC=str(broken))
    assert not has_kernel
    assert f"can't be built with {broken} (no such instruction); the slower torch path is used" in said
    assert numbers == run(tmp_path, FOURIERFT_KERNEL="torch")[1]


# What a wheel carries

PORTABLE = [compiler for compiler in COMPILERS if platform.machine() == "x86_64"]
DISASSEMBLERS = [tool for tool in [shutil.which("objdump")] if tool] if PORTABLE else []


@pytest.fixture(scope="module")
def shipped(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The libraries of a wheel, by variant."""
    folder = tmp_path_factory.mktemp("shipped")
    files = {variant: folder / compiler.shipped_file(variant).name for variant in compiler.VARIANTS}
    for variant, file in files.items():
        compiler.compile_kernel(COMPILERS[0], file, compiler.PORTABLE, *compiler.VARIANTS[variant])
    return files


@pytest.mark.parametrize("found", PORTABLE)
def test_without_a_compiler_the_kernel_of_the_wheel_serves(
    shipped: dict[str, Path], found: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(build, "shipped_file", shipped.__getitem__)
    monkeypatch.setattr(build, "processor_features", lambda: compiler.PORTABLE_FEATURES | {"sse4_2"})
    monkeypatch.setenv("CC", "no-such-compiler")
    kernel = build.load_kernel.__wrapped__()
    assert kernel is not None
    assert [library._name for library in kernel] == [str(file) for file in shipped.values()]
    assert not caplog.records


@pytest.mark.parametrize("lacking", sorted(compiler.PORTABLE_FEATURES) if PORTABLE else [])
def test_a_processor_that_lacks_an_instruction_set_never_loads_it(
    shipped: dict[str, Path], lacking: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(build, "shipped_file", shipped.__getitem__)
    features = " ".join(compiler.PORTABLE_FEATURES - {lacking})
    monkeypatch.setattr(build, "_processor", lambda: f"x86_64\nmodel name : old\nflags\t\t: fpu {features} sse2")
    monkeypatch.setenv("CC", "no-such-compiler")
    assert build.load_kernel.__wrapped__() is None
    assert [record.getMessage().partition(",")[0] for record in caplog.records] == ["no C compiler was found"]


@pytest.mark.parametrize("found", PORTABLE)
def test_the_kernel_of_the_wheel_needs_an_old_c_library_alone(shipped: dict[str, Path], found: str) -> None:
    for file in shipped.values():
        content = file.read_bytes()
        versions = {tuple(map(int, found)) for found in re.findall(rb"GLIBC_(\d+)\.(\d+)", content)}
        assert max(versions) <= (2, 17)  # the tag of the wheel, in hatch_build.py
        assert set(re.findall(rb"[\w+-]+\.so\.\d+", content)) <= {b"libc.so.6", b"libm.so.6", b"ld-linux-x86-64.so.2"}


@pytest.mark.parametrize("tool", DISASSEMBLERS)
def test_the_kernel_of_the_wheel_has_no_instruction_of_avx_512(shipped: dict[str, Path], tool: str) -> None:
    for file in shipped.values():
        code = subprocess.run([tool, "-d", str(file)], capture_output=True, text=True, check=True).stdout
        assert "vfmadd" in code
        assert not re.search(r"%zmm|%[xy]mm(1[6-9]|2\d|3[01])|\{%k", code)
