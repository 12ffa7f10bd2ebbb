"""From rows to a table and plots: the arithmetic by hand, and files that are there and whole."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from statistics import stdev

import pytest
from PIL import Image

from fourierft.errors import DataError
from fourierft.training.comparison.page import summary_rows, write_summary
from fourierft.training.comparison.plots import draw_all, keep_best
from fourierft.training.comparison.results import (
    Row,
    name_rule,
    read_rows,
    summarize,
)
from fourierft.training.output import append_json_line
from fourierft.tuner.scaling import RULE

MakeRow = Callable[..., Row]


@pytest.fixture
def rows(make_row: MakeRow) -> list[Row]:
    """Head .6; LoRA best .8 at 1e-3; FourierFT best .75 at 3e-3, .7 at LoRA's rate, diverged at 1e-2."""
    return [
        make_row("head", 5e-3, 0.6),
        make_row("lora:8", 1e-3, 0.8),
        make_row("lora:8", 3e-3, 0.7),
        make_row("fourierft:50", 1e-3, 0.7),
        make_row("fourierft:50", 3e-3, 0.74),
        make_row("fourierft:50", 3e-3, 0.76, seed=1),
        make_row("fourierft:50", 1e-2, 0.9),
        make_row("fourierft:50", 1e-2, None, seed=1),
    ]


def test_summary_is_that_of_the_best_rate_without_divergence(rows: list[Row]) -> None:
    head, lora, ours = summarize(rows)
    assert (ours.learning_rate, ours.score, ours.runs) == (3e-3, pytest.approx(0.75), 2)
    assert ours.spread == pytest.approx(stdev([0.74, 0.76]))
    assert ours.rate_ratio == pytest.approx(3.0)
    assert ours.score_at_reference == 0.7
    assert ours.gain == pytest.approx((0.75 - 0.6) / (0.8 - 0.6))
    assert ours.gain_kept == pytest.approx((0.7 - 0.6) / (0.75 - 0.6))
    assert (lora.gain, lora.rate_ratio, lora.spread) == (1.0, 1.0, None)
    assert (head.gain, head.rate_ratio) == (0.0, None)


def test_a_rate_of_fewer_seeds_is_not_the_best(rows: list[Row], make_row: MakeRow) -> None:
    assert summarize([*rows, make_row("fourierft:50", 2e-3, 0.99)])[2].learning_rate == 3e-3


def test_lower_is_better_where_the_score_is_a_loss(make_row: MakeRow) -> None:
    loss = {"lower_is_better": True, "metric": "answer_loss"}
    rows = [make_row("head", 0.0, 5.0, **loss), make_row("lora:8", 1e-3, 3.0, **loss)]
    rows += [make_row("fourierft:50", 1e-3, 3.5, **loss), make_row("fourierft:50", 1e-2, 4.0, **loss)]
    ours = summarize(rows)[2]
    assert (ours.learning_rate, ours.gain) == (1e-3, pytest.approx(0.75))


def test_method_that_always_diverges_has_no_score(make_row: MakeRow) -> None:
    (one,) = summarize([make_row("full", 1.0, None)])
    assert one.score is None
    assert summary_rows([one])[1][1] == "diverged"


def test_summary_and_plots_are_written(rows: list[Row], tmp_path: Path) -> None:
    summaries = summarize(rows)
    plots = draw_all(rows, summaries, tmp_path)
    assert [plot.stem for plot in plots] == [
        "score-parameters", "score-bytes", "score-learning-rate", "training-curves", "seconds-per-step"
    ]  # fmt: skip
    for plot in plots:
        with Image.open(plot) as image:
            image.load()
            assert image.width >= 1200
    text = write_summary(rows, summaries, plots, tmp_path).read_text()
    assert "| fourierft:50 | 0.7500 | 0.0141 | 2 | 0.003 | 3 | 0.7000 | 66.7% | 75.0% | 100 | 400 B | 0.500 |" in text
    assert "8 runs, of which 1 diverged" in text
    assert all(f"({plot.name})" in text for plot in plots)


@pytest.mark.parametrize("lower", [False, True])
def test_many_lines_are_the_best_three_of_each_family(lower: bool, make_row: MakeRow) -> None:
    scores = {"head": 0.5, "full": 0.6, **{f"lora:{r}": 0.7 + r / 100 for r in range(1, 10)}}
    scores |= {f"fourierft:{n}": 0.9 - n / 100 for n in range(1, 10)}
    rows = [make_row(method, 1e-3, score, lower_is_better=lower) for method, score in scores.items()]
    kept = {row["method"] for row in keep_best(rows, summarize(rows))}
    low, high = (1, 2, 3), (7, 8, 9)
    best = {f"lora:{r}" for r in (low if lower else high)} | {f"fourierft:{n}" for n in (high if lower else low)}
    assert kept == {"head", "full", *best}
    assert keep_best(rows[:15], summarize(rows[:15])) == rows[:15]


def test_plots_of_head_alone_are_drawn(make_row: MakeRow, tmp_path: Path) -> None:
    rows = [make_row("head", 0.0, 0.6, seconds_per_step=0.0, loss_curve=[])]
    assert len(draw_all(rows, summarize(rows), tmp_path)) == 5


def test_half_a_line_is_passed_over_and_closed_off(rows: list[Row], tmp_path: Path) -> None:
    file = tmp_path / "runs.jsonl"
    append_json_line(file, rows[0])
    with file.open("a") as unfinished:
        unfinished.write('{"task": "fi')
    append_json_line(file, rows[1])
    assert [row["method"] for row in read_rows(tmp_path)] == ["head", "lora:8"]


def test_file_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "runs.jsonl").write_text("my notes\n")
    with pytest.raises(DataError, match=r"line 1 of .*runs\.jsonl is not JSON; remove it"):
        read_rows(tmp_path)


def test_rows_of_earlier_scale_rules_are_told_apart() -> None:
    config = {"peft_type": "FOURIERFT", "n_frequency": 5}
    row = {"method": "fourierft:5", "title": "FourierFT n=5", "config": config}
    assert name_rule(row)["title"] == "FourierFT n=5, scale rule 1"
    assert name_rule({**row, "rule": 2})["title"] == "FourierFT n=5, scale rule 2"
    assert name_rule(row)["method"] == "fourierft:5, scale rule 1"
    for other in (
        {**row, "rule": RULE},
        {**row, "rule": "direction"},
        {**row, "config": {**config, "scaling": 3.0}},
        {**row, "config": None},
    ):
        assert name_rule(other) == other
