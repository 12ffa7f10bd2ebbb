"""The kernels compile for GPUs where none is: registers, shared memory, no spills, and how long it takes."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

WIDTHS = [576, 768, 1024, 4096]
SHARED = 48 << 10  # bytes that every GPU gives a program without being asked


@pytest.mark.parametrize("capability", [80, 90])
@pytest.mark.parametrize("width", WIDTHS)
def test_kernels_compile_without_spills(width: int, capability: int) -> None:
    command = [sys.executable, "-m", "lab", "bench", "cubins", str(width), str(capability)]
    done = subprocess.run(
        command, capture_output=True, text=True, check=True, env={**os.environ, "TRITON_INTERPRET": "0"}, timeout=600
    )
    rows = [dict(pair.split("=") for pair in line.split()) for line in done.stdout.splitlines()]
    assert [(row["kernel"], row["tokens"]) for row in rows] == [
        (kernel, tokens) for tokens in ("bf16", "fp32") for kernel in ("hold", "release")
    ]
    assert [int(row["stack"]) + int(row["local"]) for row in rows] == [0] * 4
    assert max(int(row["shared"]) for row in rows) <= SHARED
    assert max(float(row["seconds"]) for row in rows) < 120
