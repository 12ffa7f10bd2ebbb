"""The harness: order of rounds, statistics, the equality gate."""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable

import pytest
import torch

from fourierft.errors import FourierFTError
from lab.bench.harness import (
    MIN_SAMPLE_SECONDS,
    Case,
    Contender,
    Settings,
    UnequalError,
    measure,
    relative_rms,
    run_case,
    spread,
    time_on_cpu,
)


def counting(numbers: list[float]) -> Callable[[], float]:
    """Gives the numbers one after the other."""
    remaining = iter(numbers)
    return lambda: next(remaining)


def counted(numbers: dict[str, list[float]], **fields) -> Case:
    """A case that needs no clock: contenders give numbers."""
    contenders = {name: (lambda n=name: Contender(counting(numbers[n]), lambda: 0.0)) for name in numbers}
    return Case("numbers", {"n": 1000}, contenders, unit="B", **fields)


def test_rounds_interleave_the_contenders():
    order: list[str] = []

    def clock(contender: Contender, repeats: int) -> float:
        contender.run()
        return 1.0

    contenders = {name: Contender(lambda n=name: order.append(n), None) for name in "ABC"}
    measure(contenders, 4, clock)
    assert order[-12:] == list("ABC" * 4)
    assert order[:-12] == list("ABC"), "slow contenders are warmed up once"


def test_short_operations_are_repeated_to_fill_a_sample_and_reset_ones_are_not():
    asked: dict[str, list[int]] = {"short": [], "reset": []}

    def clock(contender: Contender, repeats: int) -> float:
        asked[contender.note].append(repeats)
        return MIN_SAMPLE_SECONDS / 8

    short = Contender(lambda: None, None, note="short")
    measure({"short": short, "reset": Contender(lambda: None, None, lambda: None, "reset")}, 5, clock)
    assert asked["short"][-5:] == [8] * 5
    assert set(asked["reset"]) == {1}


def test_samples_are_multiplied_where_a_part_stands_for_the_whole():
    samples = measure({"part": Contender(lambda: None, None, scale=32.0)}, 5, lambda contender, repeats: 2.0)
    assert samples == {"part": [64.0] * 5}


@pytest.mark.parametrize(("threads", "clock"), [(1, "thread_time"), (2, "perf_counter")])
def test_reset_runs_before_each_sample_and_is_not_timed(monkeypatch: pytest.MonkeyPatch, threads: int, clock: str):
    now = [0.0]

    def spend(seconds: float) -> None:
        now[0] += seconds

    monkeypatch.setattr("torch.get_num_threads", lambda: threads)
    monkeypatch.setattr(f"time.{clock}", lambda: now[0])
    contender = Contender(lambda: spend(2.0), None, reset=lambda: spend(100.0))
    assert time_on_cpu(contender, 1) == 2.0
    assert time_on_cpu(Contender(lambda: spend(3.0), None), 4) == 3.0


def test_row_holds_median_and_percentiles_of_values_and_of_ratios_per_round():
    base, ours = [1.0, 2.0, 4.0, 8.0, 16.0], [2.0, 2.0, 8.0, 8.0, 48.0]
    rows = run_case("suite", counted({"base": base, "ours": ours}), Settings())
    row = rows[1]
    assert [r["contender"] for r in rows] == ["base", "ours"]
    assert row["median"] == statistics.median(ours) == 8.0
    assert row["ratio_median"] == 2.0, "the ratio is taken in each round: 2, 1, 2, 1, 3"
    assert (row["ratio_p20"], row["ratio_p80"]) == pytest.approx((1.0, 2.2))
    assert rows[0]["ratio_median"] == 1.0
    assert row["rounds"] == 5


def test_value_is_per_operation():
    rows = run_case("suite", counted({"base": [8.0] * 5}, operations=4), Settings())
    assert rows[0]["median"] == 2.0


def test_row_says_what_was_measured_where():
    (row,) = run_case("suite", counted({"base": [1.0] * 5}), Settings(threads=3))
    assert json.loads(json.dumps(row)) == row
    assert {"suite", "case", "contender", "dtype", "threads", "device", "cpu", "commit", "code", "time"} <= set(row)
    assert set(row["versions"]) == {"python", "torch", "peft", "transformers", "fourierft"}
    assert row["versions"]["torch"].partition("+")[0] == torch.__version__.partition("+")[0]  # then comes the build
    assert (row["threads"], row["dtype"], row["shapes"]) == (3, "float32", {"n": 1000})


def test_wrong_contender_is_refused_before_anything_is_timed():
    ran: list[str] = []
    wrong = Contender(lambda: ran.append("wrong"), lambda: 1e-3)
    case = Case("case", {}, {"base": lambda: Contender(lambda: ran.append("base"), None), "ours": lambda: wrong})
    with pytest.raises(UnequalError, match=r"suite, case: ours is 1.0e-03 .* at most 1e-04 is allowed"):
        run_case("suite", case, Settings())
    assert ran == []
    assert issubclass(UnequalError, FourierFTError), "the command line prints it without a traceback"


def test_result_that_is_not_a_number_is_refused():
    nothing = Contender(lambda: None, lambda: relative_rms(torch.tensor([torch.nan]), torch.tensor([1.0])))
    with pytest.raises(UnequalError, match="inf"):
        run_case("suite", Case("case", {}, {"base": lambda: nothing}), Settings())


def test_ours_without_a_truth_is_refused():
    with pytest.raises(UnequalError, match="no truth"):
        run_case("suite", Case("case", {}, {"ours": lambda: Contender(lambda: None, None)}), Settings())


def test_only_named_contenders_run_beside_the_baseline():
    case = counted({name: [1.0] * 5 for name in ("base", "stock", "ours")}, cannot={"road": "reason"})
    rows = run_case("suite", case, Settings(only=("ours",)))
    assert [row["contender"] for row in rows] == ["base", "ours"]


def test_method_that_cannot_take_part_is_listed_with_its_reason():
    rows = run_case("suite", counted({"base": [1.0] * 5}, cannot={"stock": "wrong"}), Settings())
    assert (rows[-1]["contender"], rows[-1]["cannot"], rows[-1]["rounds"]) == ("stock", "wrong", 0)


def test_relative_rms_is_the_norm_of_the_difference_over_that_of_the_truth():
    truth = torch.tensor([3.0, 4.0])
    assert relative_rms(truth + torch.tensor([0.5, 0.0]), truth) == pytest.approx(0.1)


def test_no_values_have_no_median():
    assert spread([], "ratio_") == {"ratio_median": None, "ratio_p20": None, "ratio_p80": None}
