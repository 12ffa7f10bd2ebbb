"""Work out what an adapter costs on a GPU at best, by bytes and flops, and write it into docs/gpu.md.

No device is needed and nothing is measured: a kernel takes as long as its busiest unit at the data sheet's rate. What
a measurement has to prove right or wrong stands in the page's tables, and beside them what lab/bench/gpu.sh measured.

  python -m lab bench limits
  python -m lab bench limits --results folder --page folder/gpu.md
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path as FilePath

from fourierft.errors import ConfigError
from fourierft.files import write_text
from lab.bench.limits.hardware import DEVICES, Device
from lab.bench.limits.paths import LORA, OURS, STOCK, Path, product, tensor_factors
from lab.bench.limits.steps import (
    ALL,
    LLAMA_2_7B,
    LLAMA_3_2_3B,
    QUERY_VALUE,
    Model,
    adapted_decoding,
    adapted_step,
    decoding,
    frozen_step,
    ratio,
)
from lab.bench.page import section
from lab.folders import BENCH_RESULTS, DOCS
from lab.ledger import newest_rows, read_folder
from lab.pages import fill_page, markdown_table

PAGE = DOCS / "gpu.md"
SCRIPT = "lab/bench/gpu.sh"
MEASURED = ("gpu_kernels", "gpu_layer", "gpu_rows")  # suites that it runs
ROWS, LENGTH = 4, 2048  # of a training step
DECODED = (1, 16, 64, 256)
FEW, MANY = 340, 1000
CONTENDERS: tuple[tuple[Path, int], ...] = ((LORA, 8), (LORA, 32), (STOCK, MANY), *((path, FEW) for path in OURS))
PEFT_LENGTHS = (400, 768)  # tokens of a row between which PEFT's comparison lies
Cells = tuple[str, ...]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--results", type=FilePath, default=BENCH_RESULTS, help="folder of measured rows (default: lab/bench/results)"
    )
    parser.add_argument(
        "--page", type=FilePath, default=PAGE, help="to write; another than docs/gpu.md, the default, is made from it"
    )
    parser.add_argument("--smoke", action="store_true", help="show the rows of a dry run instead, in such another page")


def run(arguments: argparse.Namespace) -> int:
    """Fill the tables of a page, and print them.

    Raises: DataError, if docs/gpu.md is not there or marks no place. ConfigError, if rows of a dry run are to be in it,
        or there is no such folder of rows.
    """
    page: FilePath = arguments.page
    if not arguments.results.is_dir():
        raise ConfigError(f"--results {arguments.results} is no folder; name the one that gpu.sh wrote its rows to")
    if page.resolve() != PAGE:
        write_text(page, PAGE.read_text(encoding="utf-8"))
    elif arguments.smoke:
        raise ConfigError("--smoke shows rows of a dry run, which docs/gpu.md never does; name another --page")
    places = {name: make() for name, make in PLACES.items()}
    places |= {name: make() for name, make in measured_places(arguments.results, arguments.smoke).items()}
    fill_page(page, {name: partial(str, table) for name, table in places.items()})
    for table in places.values():
        print(table, end="\n\n")
    print(page)
    return 0


def measured_places(results: FilePath, smoke: bool = False) -> dict[str, Callable[[], str]]:
    """What was measured on GPUs, a place a suite; rows of a dry run only if they are asked for."""
    rows = [row for row in newest_rows(read_folder(results)) if (row["grid"] == "smoke") == smoke]
    return {name: partial(section, name, rows, (), SCRIPT) for name in MEASURED}


def device_table() -> str:
    """What the data sheets say."""
    head = ("", "memory, TB/s", "bfloat16, TFLOP/s", "tf32", "float32, vector units", "shared memory, TB/s")
    rows = [
        (d.name, *(f"{rate / 1e12:.3g}" for rate in (d.memory, d.half, d.tf32, d.vector, d.shared))) for d in DEVICES
    ]
    return markdown_table([head, *rows])


def layer_table() -> str:
    """One layer of LLaMA-2 7B's width, forward and backward, n = 340 and 1000."""
    width, tokens = LLAMA_2_7B.hidden, ROWS * LENGTH
    base = [product(tokens, width, width)]

    def cells(path: Path, size: int, device: Device) -> str:
        ways = (path.forward, path.backward)
        return " / ".join(f"{ratio(base, way(tokens, width, width, size), device):.2f}" for way in ways)

    return _by_device([*CONTENDERS, *((path, MANY) for path in OURS)], cells)


def step_table(model: Model) -> str:
    """A step of a model: query and value layers with n = 1000, every linear layer with n = 340; LoRA on the same."""
    base = frozen_step(model, ROWS, LENGTH)

    def cells(path: Path, size: int, device: Device) -> str:
        def of(names: tuple[str, ...], count: int) -> str:
            return f"{ratio(base, adapted_step(model, path, names, count, ROWS, LENGTH), device):.2f}"

        lora = path is LORA
        return f"{of(QUERY_VALUE, size if lora else MANY)} / {of(ALL, size if lora else FEW)}"

    return _by_device([(path, size if path is LORA else 0) for path, size in CONTENDERS], cells)


def decoding_table() -> str:
    """A token of 1, 16, 64 and 256 rows of LLaMA-2 7B, every linear layer adapted."""

    def cells(path: Path, size: int, device: Device) -> str:
        found = (ratio(decoding(LLAMA_2_7B, rows), adapted_decoding(LLAMA_2_7B, path, ALL, size, rows), device)
                 for rows in DECODED)  # fmt: skip
        return " / ".join(f"{value:.2f}" for value in found)

    return _by_device([(path, size) for path, size in CONTENDERS if path is not STOCK], cells)


def factor_table() -> str:
    """How lengths fall into three factors for tensor cores."""
    lengths = sorted(
        {width for model in (LLAMA_2_7B, LLAMA_3_2_3B) for shape in model.layers.values() for width in shape}
    )
    rows = [(str(length), " x ".join(map(str, tensor_factors(length)))) for length in lengths]
    return markdown_table([("length", "factors"), *rows])


def peft_table() -> str:
    """What the same arithmetic says of the one public measurement, PEFT's comparison on an L40S."""
    device = next(device for device in DEVICES if device.name == "L40S")

    def worked_out(path: Path, size: int) -> list[str]:
        pairs = ((frozen_step(LLAMA_3_2_3B, 4, length), length) for length in PEFT_LENGTHS)
        return [
            f"{ratio(base, adapted_step(LLAMA_3_2_3B, path, QUERY_VALUE, size, 4, length), device):.2f}"
            for base, length in pairs
        ]

    head = ("", *(f"worked out, 4 x {length} tokens" for length in PEFT_LENGTHS), "measured by PEFT")
    rows = [
        ("LoRA r=32, query and value", *worked_out(LORA, 32), "1.07 (942 s of about 880)"),
        ("stock FourierFT n=5000, query and value", *worked_out(STOCK, 5000), "1.96 (1722 s)"),
    ]
    return markdown_table([head, *rows])


def _by_device(contenders: list[tuple[Path, int]], cells: Callable[[Path, int, Device], str]) -> str:
    def name(path: Path, size: int) -> str:
        return f"{path.name} r={size}" if path is LORA else f"{path.name}, n={size}" if size else path.name

    rows = [(name(path, size), *(cells(path, size, device) for device in DEVICES)) for path, size in contenders]
    return markdown_table([("", *(device.name for device in DEVICES)), *rows])


PLACES: dict[str, Callable[[], str]] = {
    "devices": device_table,
    "layer": layer_table,
    "step_7b": lambda: step_table(LLAMA_2_7B),
    "step_3b": lambda: step_table(LLAMA_3_2_3B),
    "decoding": decoding_table,
    "factors": factor_table,
    "peft": peft_table,
}
