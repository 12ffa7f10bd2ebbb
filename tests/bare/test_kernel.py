"""The wheel that was installed carries a kernel where it can, which serves where there is no C compiler."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys

import pytest

from fourierft.spectral.compiled.build import processor_features, shares_threads
from fourierft.spectral.compiled.compiler import PORTABLE_FEATURES

PROGRAM = """
import torch
from fourierft import delta_weight, spectral_linear, uniform_basis
from fourierft.spectral.compiled.build import load_kernel
torch.manual_seed(0)
basis, x, c = uniform_basis(24, 20, 30, 1), torch.randn(64, 20), torch.randn(30)
error = (spectral_linear(x, c, basis, 9.0) - x @ delta_weight(c, basis, 9.0).T).abs().max().item()
print(load_kernel().wide._name, error < 1e-5)
"""
BUILT = (
    platform.machine() == "x86_64"
    and shutil.which("cc")
    and shares_threads()
    and processor_features() >= PORTABLE_FEATURES
)


@pytest.mark.parametrize("machine", [platform.machine()] if BUILT else [])
def test_the_kernel_of_the_wheel_serves_without_a_compiler(machine: str) -> None:
    environment = {**os.environ, "CC": "no-such-compiler"}
    done = subprocess.run([sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True, check=True)
    library, is_right = done.stdout.split()
    assert library.endswith("site-packages/fourierft/spectral/compiled/kernel-x86-64-v3-wide.so")
    assert is_right == "True"
    assert done.stderr == ""
