"""The fair rows, by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from fourierft.training.comparison.results import FILE
from fourierft.tuner.scaling import RULE
from lab.trials import curve
from lab.trials.curve import best_rate, compare, differences, draw, same_layers, table

LORA_8, LORA_1, OURS = "lora:8,layers=all", "lora:1,layers=all", "fourierft:340,layers=all"


def row(method: str, rate: float, seed: int, score: float | None, *, lower: bool = False) -> dict[str, Any]:
    family, _, size = method.partition(",")[0].partition(":")
    return {
        "method": method,
        "family": family,
        "title": f"{family} {size}, layers=all",
        "config": {"peft_type": "FOURIERFT"} if family == "fourierft" else {},
        "rule": RULE,
        "learning_rate": rate,
        "seed": seed,
        "score": score,
        "metric": "accuracy",
        "lower_is_better": lower,
        "parameters": {"adapter": int(size or 0), "head": 0},
        "bytes": {"adapter": 4},
        "seconds": 60,
        "seconds_per_step": 1,
        "device": "cpu",
        "protocol": "a",
    }


def test_interval_is_students_over_the_seeds_that_both_have() -> None:
    ours = [row(OURS, 1e-3, seed, score) for seed, score in enumerate((0.83, 0.84, 0.85, 0.99))]
    theirs = [row(LORA_1, 1e-3, seed, score) for seed, score in enumerate((0.82, 0.81, 0.85))]
    gap = compare(ours, theirs)  # .01, .03, 0: mean .01333, deviation .015275; t(2) = 4.302653
    assert gap is not None
    assert gap.seeds == 3
    assert gap.mean == pytest.approx(0.0133333, rel=1e-5)
    assert gap.half == pytest.approx(4.302653 * 0.0152753 / 3**0.5, rel=1e-5)
    assert gap.shown(100, "") == "+1.3 ± 3.8 (3)"


def test_one_seed_has_no_interval_and_a_diverged_one_no_part() -> None:
    ours = [row(OURS, 1e-3, 0, 0.5), row(OURS, 1e-3, 1, None)]
    gap = compare(ours, [row(LORA_1, 1e-3, 0, 0.4), row(LORA_1, 1e-3, 1, 0.4)])
    assert gap is not None
    assert gap.half is None
    assert gap.shown(100, "") == "+10.0 (1)"
    assert compare(ours, [row(LORA_1, 1e-3, 7, 0.4)]) is None


def test_best_at_an_edge_has_an_asterisk() -> None:
    rows = [row(LORA_8, rate, 0, score) for rate, score in ((1e-3, 0.8), (2e-3, 0.9), (4e-3, 0.7))]
    rows += [row(OURS, rate, seed, 0.6 + rate) for rate in (1e-3, 2e-3) for seed in (0, 1)]
    assert table(rows) == [
        ("", "numbers", "0.001", "0.002", "0.004"),
        ("lora 8", "8", "0.800", "**0.900**", "0.700"),
        ("fourierft 340", "340", "0.601 (2)", "**0.602*** (2)", ""),
    ]


def test_loss_is_told_in_percent_of_loras_fall() -> None:
    rows = [row("head", 0, 0, 3.0, lower=True), row(LORA_8, 1e-3, 0, 2.0, lower=True)]
    rows += [row(LORA_8, 2e-3, 0, 1.0, lower=True), row(LORA_1, 1e-3, 0, 1.2, lower=True)]
    rows += [row(OURS, 1e-3, 0, 1.1, lower=True), row(OURS, 2e-3, 0, 1.3, lower=True)]
    assert best_rate([each for each in rows if each["method"] == LORA_8]) == 2e-3
    assert differences("t", rows) == ("t", "+5.0% (1)", "-5.0% (1)", "-10.0% (1)")


def test_other_layers_protocols_and_rules_have_no_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "movies").mkdir()
    monkeypatch.setattr(curve, "PAGE", tmp_path / "curve.md")
    kept = [row("head", 0, 0, 0.6), row(LORA_8, 1e-3, 0, 0.8), row(OURS, 1e-3, 0, 0.8)]
    old = {key: value for key, value in row(OURS, 2e-3, 0, 0.9).items() if key != "rule"}
    others = [row("lora:8", 1e-3, 0, 0.9), {**row(LORA_8, 3e-3, 0, 0.9), "protocol": "b"}, old]
    others += [
        row("vera:256,layers=all", 1e-3, 0, 0.9),
        {**row("fourierft:340,scaling=300,layers=all", 1e-3, 0, 0.9), "config": {"scaling": 300}},
    ]
    lines = [json.dumps(each) for each in [*others, *kept]]
    (tmp_path / "movies" / FILE).write_text("\n".join(lines) + "\n")
    assert same_layers("movies") == kept
    (tmp_path / "movies" / FILE).write_text(
        "\n".join(map(json.dumps, [*kept[:2], {**kept[2], "rule": 2}, kept[2]])) + "\n"
    )
    assert same_layers("movies") == kept, "rules 2 and 3 are one in a model 384 wide, and a run counts once"
    (tmp_path / "glosses").mkdir()
    (tmp_path / "glosses" / FILE).write_text("\n".join(map(json.dumps, [*kept[:2], {**kept[2], "rule": 2}])) + "\n")
    assert same_layers("glosses") == kept[:2]
    assert draw({"movies": kept}, tmp_path / "curve.png").stat().st_size > 1000
