"""The harness that every suite runs in.

A suite yields cases; a case has contenders, prepared once and then timed in rounds that interleave them (A B C A B C
...), so that a ratio to the baseline, taken round by round, holds on a noisy machine. Before a contender is timed,
its result is compared with the truth; a wrong one raises `UnequalError`, and no row of its case is written.
"""

from __future__ import annotations

import gc
import math
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from fourierft.errors import FourierFTError
from lab.bench.machine import describe_run

MIN_SAMPLE_SECONDS = 0.01  # a shorter operation is repeated inside one sample
MAX_REPEATS = 2000
SLOW_SECONDS = 0.5  # one warm-up is enough for what takes longer
# relative RMS distance to the truth that rounding explains, of one layer and of a whole model
LAYER_TOLERANCE = {"float32": 1e-5, "bfloat16": 1e-2, "float16": 2e-3}
MODEL_TOLERANCE = {"float32": 1e-4, "bfloat16": 1e-1, "float16": 2e-2}


class UnequalError(FourierFTError):
    """A contender's result is not that of the truth."""


@dataclass(frozen=True)
class Settings:
    """What the command line chooses for a run."""

    rounds: int = 5
    threads: int = 2
    device: str = "cpu"
    dtype: str = "float32"
    grid: str = "small"
    only: tuple[str, ...] = ()  # contenders to run beside the baseline; all when empty
    match: str = ""  # part of a case's name; all when empty
    fresh: bool = False  # measure again what the results already hold for this code
    keep_going: bool = False  # past a case that fails, which is told

    @property
    def torch_dtype(self) -> torch.dtype:
        return getattr(torch, self.dtype)


@dataclass(frozen=True)
class Contender:
    """Something prepared once that can be run again and again.

    Attributes:
        run: one repetition; in a case not measured in seconds, it returns the measured number.
        error: relative RMS distance of the results to the truth, asked before timing; None for base and rivals.
        reset: what has to happen, untimed, before each repetition.
        note: printed beside the row.
        scale: what a sample is multiplied by, where a part stands for the whole.
    """

    run: Callable[[], Any]
    error: Callable[[], float] | None
    reset: Callable[[], Any] | None = None
    note: str = ""
    scale: float = 1.0


@dataclass(frozen=True)
class Case:
    """One line-up: contenders are built on demand, so that filters cost nothing.

    Attributes:
        name: unique in its suite.
        shapes: what was measured, printed with each row.
        contenders: name -> builder, in the order of the rounds.
        cannot: name -> why a method can't take part.
        unit: "s" is timed; anything else is what `run` returns.
        operations: operations in one repetition; the result is per operation.
        rounds: instead of the settings' rounds, where the number can't vary.
        baseline: the contender that ratios are taken to.
        tolerance: largest distance to the truth by dtype.
    """

    name: str
    shapes: Mapping[str, Any]
    contenders: Mapping[str, Callable[[], Contender]]
    cannot: Mapping[str, str] = field(default_factory=dict)
    unit: str = "s"
    operations: int = 1
    rounds: int | None = None
    baseline: str = "base"
    tolerance: Mapping[str, float] = field(default_factory=MODEL_TOLERANCE.copy)


Clock = Callable[[Contender, int], float]


def run_case(suite: str, case: Case, settings: Settings) -> list[dict[str, Any]]:
    """Prepare, check and measure one case; one row per contender.

    Raises: UnequalError, if a contender's result is wrong.
    """
    wanted = [n for n in case.contenders if n == case.baseline or not settings.only or n in settings.only]
    contenders = {name: case.contenders[name]() for name in wanted}
    allowed = case.tolerance[settings.dtype]
    errors = {name: check(f"{suite}, {case.name}", name, contenders[name], allowed) for name in wanted}
    samples = measure(contenders, case.rounds or settings.rounds, clock_of(case, settings))
    described = {
        "suite": suite,
        "case": case.name,
        "unit": case.unit,
        "grid": settings.grid,
        "shapes": dict(case.shapes),
        "product_rate": product_rate(settings),
        **describe_run(settings),
    }
    rows = []
    for name in wanted:
        seconds = [sample / case.operations for sample in samples[name]]
        ratios = (
            [a / b for a, b in zip(samples[name], samples[case.baseline], strict=True)]
            if case.baseline in samples
            else []
        )
        row = {
            **described,
            "contender": name,
            "rounds": len(seconds),
            **spread(seconds, ""),
            **spread(ratios, "ratio_"),
        }
        rows.append({**row, "error": errors[name], "note": contenders[name].note})
    for name, reason in case.cannot.items():
        if not settings.only or name in settings.only:
            rows.append({**described, "contender": name, "rounds": 0, "cannot": reason})
    return rows


def check(where: str, name: str, contender: Contender, allowed: float) -> float | None:
    """Compare a contender with the truth and return its distance, relative RMS.

    Raises: UnequalError, if the distance is larger than allowed, or ours comes without a truth.
    """
    if contender.error is None:
        if name.startswith("ours"):
            raise UnequalError(f"{where}: {name} has no truth to be compared with; give it one")
        return None
    error = contender.error()
    if not error <= allowed:
        raise UnequalError(
            f"{where}: {name} is {error:.1e} (relative RMS) away from the truth; at most {allowed:.0e} is allowed"
        )
    return error


def measure(contenders: Mapping[str, Contender], rounds: int, clock: Clock) -> dict[str, list[float]]:
    """Samples per contender, from rounds that interleave the contenders."""
    timed = clock is not read_number
    repeats = {name: warm_up(contender, clock) if timed else 1 for name, contender in contenders.items()}
    samples: dict[str, list[float]] = {name: [] for name in contenders}
    gc.collect()
    for _ in range(rounds):
        for name, contender in contenders.items():
            samples[name].append(clock(contender, repeats[name]) * contender.scale)
    return samples


def warm_up(contender: Contender, clock: Clock) -> int:
    """Run a contender until it is warm, and tell how often one sample has to repeat it."""
    seconds = clock(contender, 1)
    if seconds < SLOW_SECONDS:
        seconds = clock(contender, 1)
    if contender.reset is not None or seconds <= 0:
        return 1
    return min(MAX_REPEATS, math.ceil(MIN_SAMPLE_SECONDS / seconds))


def clock_of(case: Case, settings: Settings) -> Clock:
    """How one sample of a case is taken."""
    if case.unit != "s":
        return read_number
    return time_with_events if settings.device == "cuda" else time_on_cpu


def read_number(contender: Contender, repeats: int) -> float:
    """The number that `run` returns."""
    return float(contender.run())


def time_on_cpu(contender: Contender, repeats: int) -> float:
    """Seconds per repetition, by the wall clock; of one thread its own time, which others' work does not lengthen."""
    clock = time.thread_time if torch.get_num_threads() == 1 else time.perf_counter
    if contender.reset is not None:
        contender.reset()
    start = clock()
    for _ in range(repeats):
        contender.run()
    return (clock() - start) / repeats


def time_with_events(contender: Contender, repeats: int) -> float:
    """Seconds per repetition between two CUDA events."""
    if contender.reset is not None:
        contender.reset()
    torch.cuda.synchronize()
    start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    start.record()
    for _ in range(repeats):
        contender.run()
    end.record()
    torch.cuda.synchronize()
    return start.elapsed_time(end) / 1e3 / repeats


def product_rate(settings: Settings) -> float:
    """Operations a second of a matrix product here and now: a slow one hides what an adapter costs."""
    x, weight = (torch.randn(1024, 1024, device=settings.device, dtype=settings.torch_dtype) for _ in range(2))
    clock = time_with_events if settings.device == "cuda" else time_on_cpu
    product = Contender(lambda: x @ weight, None)
    return 2 * 1024**3 / statistics.median(clock(product, 2) for _ in range(7))


def spread(values: list[float], prefix: str) -> dict[str, float | None]:
    """Median, 20th and 80th percentile."""
    if not values:
        return {f"{prefix}median": None, f"{prefix}p20": None, f"{prefix}p80": None}
    p20, p80 = np.percentile(values, [20, 80])
    return {f"{prefix}median": statistics.median(values), f"{prefix}p20": float(p20), f"{prefix}p80": float(p80)}


def relative_rms(result: torch.Tensor, truth: torch.Tensor) -> float:
    """RMS of the difference over RMS of the truth; infinite where the result is not finite."""
    truth = truth.double()
    error = float((result.to(truth.device).double() - truth).square().mean().sqrt() / truth.square().mean().sqrt())
    return error if math.isfinite(error) else math.inf
