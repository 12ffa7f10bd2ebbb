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
from fourierft.spectral.triton.plan import plan_of
from fourierft.spectral.triton.update import BLOCK, launch_shape

FLOATS = ("held", "grad", "partial", "tables", "coefficients")
INTEGERS = ("slots", "source", "number", "rows", "mirrored_rows", "columns", "mirrored_columns")
STRIDES = ("set_stride", "token_stride")
TOKENS = {
    "bf16": {"SPLIT": True, "EXACT": True},
    "fp16": {"SPLIT": True, "EXACT": False},
    "fp32": {"SPLIT": False, "EXACT": False},
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("width", type=int, help="length of the transform, such as 4096")
    parser.add_argument("capability", type=int, choices=(80, 86, 89, 90), help="of the GPU: 90 is an H100 or H200")


def run(arguments: argparse.Namespace) -> int:
    """Compile the kernels for tokens of each type, and print what they need.

    Raises: ConfigError, if the width has no plan, or Triton is not installed.
    """
    plan = plan_of(arguments.width) if arguments.width > 0 else None
    if plan is None:
        raise ConfigError(
            f"width {arguments.width} has no kernel; take a factor up to 256 by one up to 64 or two up to 16"
        )
    try:
        from fourierft.spectral.triton import kernels
    except ModuleNotFoundError as error:
        raise ConfigError("Triton is not installed; run `make test-gpu-kernels`, or pip install triton") from error
    shape = launch_shape(plan)
    options = {name: shape.pop(name) for name in ("num_warps", "num_stages", "maxnreg")}
    for tokens, flags in TOKENS.items():
        constants = shape | flags | {"ADD": True}
        for kernel in (kernels.hold, kernels.release):
            _print(kernel, tokens, describe(kernel, constants, arguments.capability, tokens, options))
    _print(kernels.gradient, "fp32", describe(kernels.gradient, {"BLOCK": BLOCK}, arguments.capability))
    return 0


def describe(
    kernel: Any, constants: dict[str, Any], capability: int, tokens: str = "fp32", options: dict[str, int] | None = None
) -> dict[str, Any]:
    """What a kernel becomes for its constants and tokens of a type: as launched on tensors of torch, whose addresses,
    and the widths of models, are multiples of 16."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    names = kernel.arg_names
    constants = {name: value for name, value in constants.items() if name in names}
    types = dict.fromkeys(names, "i32") | dict.fromkeys(FLOATS, "*fp32") | dict.fromkeys(INTEGERS, "*i32")
    types |= dict.fromkeys(("x", "y"), f"*{tokens}") | {"factor": "fp32"} | dict.fromkeys(constants, "constexpr")
    even = {
        (at,): [["tt.divisibility", 16]] for at, name in enumerate(names) if types[name][0] == "*" or name in STRIDES
    }
    source = ASTSource(kernel, {name: types[name] for name in names}, constants, even)
    start = time.perf_counter()
    compiled = triton.compile(source, target=GPUTarget("cuda", capability, 32), options=options or {})
    seconds = time.perf_counter() - start
    usage = _usage(compiled.asm["cubin"], Path(triton.__file__).parent / "backends/nvidia/bin/cuobjdump")
    return {
        "warps": compiled.metadata.num_warps,
        "registers": usage["REG"],
        "stack": usage["STACK"],
        "local": usage["LOCAL"],
        "shared": compiled.metadata.shared,
        "seconds": f"{seconds:.1f}",
    }


def _print(kernel: Any, tokens: str, usage: dict[str, Any]) -> None:
    row = {"kernel": kernel.__name__, "tokens": tokens} | usage
    print(*(f"{name}={value}" for name, value in row.items()), flush=True)


def _usage(cubin: bytes, program: Path) -> dict[str, int]:
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        told = subprocess.run([program, "-res-usage", file.name], capture_output=True, text=True, check=True).stdout
    return {name: int(value) for name, value in re.findall(r"(REG|STACK|LOCAL):(\d+)", told)}
