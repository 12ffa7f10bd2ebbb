"""Compile the GPU kernels for a width and a capability, without a GPU: `python -m lab.bench.cubins WIDTH CAPABILITY`.

Prints a line a kernel: registers a thread, bytes of stack and local memory (spills), shared memory, seconds. Needs
Triton, which brings the compiler.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from fourierft.spectral.triton import kernels
from fourierft.spectral.triton.plan import plan_of
from fourierft.spectral.triton.update import launch_shape

POINTERS = {"held", "tables", "coefficients"}
INTEGERS = {"slots", "source", "number"}
TOKENS = {"bf16": {"SPLIT": True, "EXACT": True}, "fp32": {"SPLIT": False, "EXACT": False}}


def describe(kernel: Any, width: int, capability: int, tokens: str) -> dict[str, Any]:
    """What one kernel becomes for a width, for tokens of a type."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    plan = plan_of(width)
    assert plan is not None, f"{width} has no plan"
    constants: dict[str, Any] = launch_shape(plan) | TOKENS[tokens] | {"ADD": True}
    warps = constants.pop("num_warps")
    constants = {name: value for name, value in constants.items() if name in kernel.arg_names}
    types = dict.fromkeys(kernel.arg_names, "i32")
    types |= dict.fromkeys(POINTERS, "*fp32") | dict.fromkeys(INTEGERS, "*i32") | {"factor": "fp32"}
    types |= dict.fromkeys(("x", "y"), f"*{tokens}") | dict.fromkeys(constants, "constexpr")
    source = ASTSource(fn=kernel, signature={name: types[name] for name in kernel.arg_names}, constexprs=constants)
    start = time.perf_counter()
    compiled = triton.compile(source, target=GPUTarget("cuda", capability, 32), options={"num_warps": warps})
    seconds = time.perf_counter() - start
    usage = _usage(compiled.asm["cubin"], Path(triton.__file__).parent / "backends/nvidia/bin/cuobjdump")
    return {
        "kernel": kernel.__name__,
        "width": width,
        "factors": "x".join(map(str, plan.factors)),
        "capability": capability,
        "tokens": tokens,
        "warps": warps,
        "registers": usage["REG"],
        "stack": usage["STACK"],
        "local": usage["LOCAL"],
        "shared": compiled.metadata.shared,
        "seconds": f"{seconds:.1f}",
    }


def _usage(cubin: bytes, program: Path) -> dict[str, int]:
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        told = subprocess.run([program, "-res-usage", file.name], capture_output=True, text=True, check=True).stdout
    return {name: int(value) for name, value in re.findall(r"(REG|STACK|LOCAL):(\d+)", told)}


if __name__ == "__main__":
    for type_of_tokens in TOKENS:
        for function in (kernels.hold, kernels.release):
            row = describe(function, int(sys.argv[1]), int(sys.argv[2]), type_of_tokens)
            print(*(f"{name}={value}" for name, value in row.items()), flush=True)
