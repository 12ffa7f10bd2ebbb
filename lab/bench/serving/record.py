"""What was measured, as rows of `lab/bench/results/serving.jsonl`, kept at once: a command that stopped goes on."""

from __future__ import annotations

import os
import statistics
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from fourierft.errors import MissingExtraError
from fourierft.serving import vllm_internals
from lab.bench.harness import Settings, spread
from lab.bench.machine import code, cpu_model, describe_run
from lab.bench.serving.fleet import N_FREQUENCY
from lab.ledger import Row, append_rows, measured_keys, read_folder

SUITE = "serving"
MEASURED = (
    "src/fourierft/spectral",
    "src/fourierft/fleet",
    "src/fourierft/rows",
    "src/fourierft/serving",
    "lab/bench/serving",
)
CORES = "VLLM_CPU_OMP_THREADS_BIND"

Samples = Mapping[str, tuple[Sequence[float], str]]  # name -> a number a round, unit


class Record:
    """The rows of a run.

    Args:
        folder: of the results.
        threads: that the engine computes with.
        fresh: measure again what is there for this code.
    """

    def __init__(self, folder: Path, threads: int, fresh: bool = False) -> None:
        self._folder, self._settings = folder, Settings(threads=threads)
        self._code = code(MEASURED)
        known = [] if fresh else [row for row in read_folder(folder) if row["suite"] == SUITE]
        here = [row for row in known if (row["threads"], row["cpu"]) == (threads, cpu_model())]
        keys = measured_keys(here, self._code)
        self._known = {case for _, case, *_ in keys}

    def has(self, case: str) -> bool:
        """Whether a case is measured already, on this processor and by this code."""
        if case in self._known:
            print(f"measured before: {case}", file=sys.stderr, flush=True)
        return case in self._known

    def add(self, case: str, samples: Samples, baseline: str | None = None) -> None:
        """Keep all figures of a case.

        Args:
            case: what was measured.
            samples: its figures.
            baseline: one of them, that the others are divided by, round by round.
        """
        described: Row = {"suite": SUITE, "case": case, "grid": "small", "shapes": {"n": N_FREQUENCY}}
        described |= {**describe_run(self._settings), "code": self._code, "error": None, "note": ""}
        described["versions"] = {**described["versions"], **vllm()}
        rows = []
        for name, (values, unit) in samples.items():
            base, its_unit = samples[baseline] if baseline else ((), "")
            ratios = [a / b for a, b in zip(values, base, strict=True)] if baseline and unit == its_unit else []
            measured = {"rounds": len(values), **spread(list(map(float, values)), ""), **spread(ratios, "ratio_")}
            rows.append({**described, **measured, "contender": name, "unit": unit})
        append_rows(self._folder, rows)
        self._known.add(case)
        shown = ", ".join(f"{name} {statistics.median(v):.6g} {unit}".strip() for name, (v, unit) in samples.items())
        print(f"{case}: {shown}", file=sys.stderr, flush=True)


def one(value: float, unit: str = "") -> tuple[list[float], str]:
    """A figure of one round."""
    return [value], unit


def choose_cores() -> int:
    """Bind the engine to the cores that this process may use, or leave it on those in the environment; their number."""
    cores = sorted(os.sched_getaffinity(0))
    chosen = os.environ.setdefault(CORES, ",".join(map(str, cores)))
    ends = [part.split("-") for part in chosen.replace("|", ",").split(",")]
    return sum(int(end[-1]) - int(end[0]) + 1 for end in ends)


def vllm() -> dict[str, str]:
    """Version of vLLM, if it is here."""
    try:
        return {"vllm": vllm_internals.vllm_version()}
    except MissingExtraError:
        return {}
