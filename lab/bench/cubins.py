"""Compile the GPU kernels for a width and a capability, without a GPU.

Prints a line a kernel: registers a thread, bytes of stack and local memory (spills), shared memory, seconds. Needs
Triton, which brings the compiler: `make test-gpu-kernels` makes environments that have it.

  python -m lab bench cubins 4096 90
"""

from __future__ import annotations

import argparse
import re
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

from fourierft.errors import ConfigError
from fourierft.spectral.triton.plan import Plan, plan_of
from fourierft.spectral.triton.update import launch_shape

POINTERS = {"held", "tables", "coefficients"}
INTEGERS = {"slots", "source", "number"}
TOKENS = {"bf16": {"SPLIT": True, "EXACT": True}, "fp32": {"SPLIT": False, "EXACT": False}}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("width", type=int, help="length of the transform, such as 4096")
    parser.add_argument("capability", type=int, choices=(80, 86, 89, 90), help="of the GPU: 90 is an H100 or H200")


def run(arguments: argparse.Namespace) -> int:
    """Compile both kernels for bfloat16 and float32 tokens, and print what they need.

    Raises: ConfigError, if the width has no plan, or Triton is not installed.
    """
    plan = plan_of(arguments.width) if arguments.width > 0 else None
    if plan is None:
        raise ConfigError(f"width {arguments.width} has no kernel; use one of three factors of at most 64")
    try:
        from fourierft.spectral.triton import kernels
    except ModuleNotFoundError as error:
        raise ConfigError("Triton is not installed; run `make test-gpu-kernels`, or pip install triton") from error
    for tokens in TOKENS:
        for kernel in (kernels.hold, kernels.release):
            row = describe(kernel, plan, arguments.capability, tokens)
            print(*(f"{name}={value}" for name, value in row.items()), flush=True)
    return 0


def describe(kernel: Any, plan: Plan, capability: int, tokens: str) -> dict[str, Any]:
    """What one kernel becomes for a plan, for tokens of a type."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

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
        "width": plan.length,
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
