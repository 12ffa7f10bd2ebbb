"""The kernels compile for GPUs where none is: registers, shared memory, no spills, and how long it takes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

# of 576 x 576, 768 x 768, 1536 x 576, 896 x 4864, 4096 x 4096 and 11008 x 4096
WIDTHS = [576, 768, 896, 1536, 4096, 4864, 11008]
SHARED = 48 << 10  # bytes that every GPU gives a program without being asked
SECONDS = 60  # of one kernel, on a busy machine


@pytest.mark.parametrize("capability", [80, 89, 90])
@pytest.mark.parametrize("width", WIDTHS)
def test_kernels_compile_without_spills(width: int, capability: int, tmp_path: Path) -> None:
    env = os.environ | {"TRITON_INTERPRET": "0", "TRITON_CACHE_DIR": str(tmp_path)}
    command = [sys.executable, "-m", "lab", "bench", "cubins", str(width), str(capability)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=env, timeout=600)
    rows = [dict(pair.split("=") for pair in line.split()) for line in done.stdout.splitlines()]
    kernels = [(kernel, tokens) for tokens in ("bf16", "fp16", "fp32") for kernel in ("hold", "release")]
    assert [(row["kernel"], row["tokens"]) for row in rows] == [*kernels, ("gradient", "fp32")]
    assert [int(row["stack"]) + int(row["local"]) for row in rows] == [0] * len(rows)
    assert max(int(row["shared"]) for row in rows) <= SHARED
    assert max(float(row["seconds"]) for row in rows) < SECONDS
