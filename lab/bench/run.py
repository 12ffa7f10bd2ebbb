"""Run suites: what `python -m lab bench` calls."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from tqdm import tqdm

from fourierft.bars import bar
from fourierft.errors import BackendError, ConfigError
from lab.bench.harness import Case, Settings, run_case
from lab.bench.machine import code
from lab.bench.methods import LABELS
from lab.bench.suites import SUITES
from lab.ledger import Row, append_rows, key_of, measured_keys, read_folder


def run_suites(names: Sequence[str], settings: Settings, output: Path | None) -> tuple[int, list[str]]:
    """Run suites, print their rows and append them to a folder, if one is given.

    Returns: how many rows there are, and the cases that failed, of which stderr tells.

    Raises:
        ConfigError, if a suite or contender is unknown, or nothing matches.
        BackendError, if the device or dtype is not here.
        UnequalError, if a contender's result is not that of the truth, unless the settings say to keep going.
    """
    strangers = sorted(set(settings.only) - set(LABELS))
    if strangers:
        raise ConfigError(f"unknown contender {', '.join(strangers)}; choose from {', '.join(LABELS)}")
    _set_up(settings)
    known = set() if settings.fresh or output is None else measured_keys(read_folder(output), code())
    planned = [(name, case) for name, case in _planned(names, settings) if not _is_known(name, case, settings, known)]
    written, failed = 0, list[str]()
    progress = bar(None, "measuring", "cases", total=len(planned))
    while planned:
        name, case = planned.pop(0)  # so that a case's models go when it is done
        progress.set_description(f"{name}: {case.name}")
        try:
            rows = run_case(name, case, settings)
        except Exception as error:  # also too little memory of a GPU, or what its compiler cannot do
            if not settings.keep_going:
                raise
            failed.append(f"{name}: {case.name}")
            tqdm.write(f"\n{failed[-1]}\n  failed: {_first_line(error)}", file=sys.stderr)
            continue
        finally:
            progress.update()
        if output is not None:
            append_rows(output, rows)
        written += len(rows)
        tqdm.write(_as_text(rows))
    return written, failed


def list_cases(names: Sequence[str], settings: Settings) -> str:
    """The suites with their titles, or the cases and contenders of the named ones."""
    if not names:
        return "\n".join(f"{name:<15}{title}" for name, title in SUITES.items())
    return "\n".join(f"{name}: {case.name}   [{' '.join(case.contenders)}]" for name, case in _planned(names, settings))


def _planned(names: Sequence[str], settings: Settings) -> list[tuple[str, Case]]:
    unknown = sorted(set(names) - set(SUITES))
    if unknown:
        raise ConfigError(f"unknown suite {', '.join(unknown)}; choose from {', '.join(SUITES)}")
    planned = [
        (name, case)
        for name in names or SUITES
        for case in importlib.import_module(f"lab.bench.suites.{name}").cases(settings)
        if settings.match in case.name
    ]
    if not planned:
        raise ConfigError(f"no case of {', '.join(names or SUITES)} has '{settings.match}' in its name; see --list")
    return planned


def _set_up(settings: Settings) -> None:
    torch.set_num_threads(settings.threads)
    if settings.device == "cuda" and not torch.cuda.is_available():
        raise BackendError("torch finds no CUDA device; use --device cpu")
    timed_in_half = settings.device == "cpu" and settings.dtype == "bfloat16" and settings.grid != "smoke"
    if timed_in_half and not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        raise BackendError("this CPU has no bfloat16 instructions; use --dtype float32")


def _is_known(suite: str, case: Case, settings: Settings, known: set) -> bool:
    described = {
        "suite": suite,
        "case": case.name,
        "dtype": settings.dtype,
        "device": settings.device,
        "threads": settings.threads,
    }
    names = [name for name in case.contenders if not settings.only or name in settings.only]
    return all(key_of({**described, "contender": name}) in known for name in names)


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _as_text(rows: Sequence[Row]) -> str:
    first = rows[0]
    where = f"({first['device_name']}, {first['dtype']}, {first['threads']} threads)"
    lines = [f"\n{first['suite']}: {first['case']}   {where}"]
    for row in rows:
        label = LABELS[row["contender"]]
        if "cannot" in row:
            lines.append(f"  {label:<24} can't: {row['cannot']}")
            continue
        value = f"{row['median'] * 1e3:10.3f} ms" if row["unit"] == "s" else f"{row['median'] / 2**20:10.3f} MiB"
        if row["unit"] == "s" and row["median"] < 1e-6:
            value = f"{row['median'] * 1e9:10.3f} ns"
        ratio = (
            ""
            if row["ratio_median"] is None
            else f"  x {row['ratio_median']:.3f} ({row['ratio_p20']:.3f}-{row['ratio_p80']:.3f})"
        )
        error = "" if row["error"] is None else f"  error {row['error']:.0e}"
        lines.append(f"  {label:<24}{value}{ratio}{error}  {row['note']}".rstrip())
    return "\n".join(lines)
