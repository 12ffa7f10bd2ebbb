"""Variants on a task of seconds: each trains, leaves its row, and is not run again; the page by hand."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fourierft.tuner.scaling import RULE
from lab.__main__ import main
from lab.trials import tried as command
from lab.trials import variants
from lab.trials.counts import share_out
from lab.trials.page import Baseline, write_page
from lab.trials.variants import VARIANTS


@pytest.fixture
def tiny_tasks(write_task: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The task `movies` as two steps on sixteen sentences."""
    write_task("movies", layers={"all": ["query", "key", "value"]}, per_device_train_batch_size=8)
    monkeypatch.setattr(variants, "COMPARISONS", tmp_path)
    monkeypatch.setitem(variants.LAYERS, "movies", 2 * 3)
    return tmp_path


@pytest.mark.parametrize("name", VARIANTS)
def test_variant_trains_and_leaves_its_row(name: str, tiny_tasks: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tiny_tasks / "tried.jsonl"
    command.run_variants([name], ["movies"], (0,), None, file)
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    assert sorted(row["learning_rate"] for row in rows) == sorted(VARIANTS[name].rates)
    assert {row["variant"] for row in rows} == {name}
    assert all(row["score"] is not None for row in rows)
    layers = 2 * 3
    expected = {"tied": 2 * 2 * 408, "gain": layers * 341, "pool-few": layers * 50}.get(name, layers * 340)
    assert rows[0]["parameters"]["adapter"] == expected
    capsys.readouterr()
    command.run_variants([name], ["movies"], (0,), None, file)
    assert ", 0 to do now" in capsys.readouterr().out


def test_variants_differ_from_each_other(tiny_tasks: Path) -> None:
    keys = set()
    for variant in VARIANTS.values():
        with variant.context():
            task = variant.task("movies", (0,))
            for run in task.runs():
                keys.add((task.protocol(task.prepare()), json.dumps(run.method.config), run.learning_rate))
    assert len(keys) == sum(len(variant.rates) for variant in VARIANTS.values())


def test_coefficients_are_shared_out_by_norm() -> None:
    counts = share_out({"a": 3.0, "b": 1.0, "c": 0.0}, 3 * 16 + 10)
    assert counts == {"a": 16 + 8, "b": 16 + 2, "c": 16}  # 7.5 and 2.5: the first of two equal remainders
    assert sum(counts.values()) == 58


def make_row(task: str, score: float | None, rate: float = 3e-3, seed: int = 0, **changes: Any) -> dict[str, Any]:
    lower = task == "instructions"
    return {
        "task": task,
        "score": score,
        "learning_rate": rate,
        "seed": seed,
        "method": variants.BEST_FORM[task],
        "lower_is_better": lower,
        "title": "FourierFT",
        "config": {"peft_type": "FOURIERFT"},
        "versions": {"torch": "2"},
        "device": "cpu, 1 threads",
        **changes,
    }


def test_page_gives_shares_of_the_gain(tmp_path: Path) -> None:
    known = {
        task: [
            make_row(task, head, 0.0, method="head", config=None),
            make_row(task, score),
            make_row(task, score + 0.02, seed=1),
        ]
        for task, head, score in (("movies", 0.6, 0.8), ("digits", 0.7, 0.9), ("instructions", 2.0, 1.5))
    }
    tried = [
        make_row("movies", 0.7, variant="gain"),
        make_row("digits", None, variant="gain"),
        make_row("instructions", 3.5, variant="gain"),
        make_row("instructions", 1.75, variant="factored"),
        make_row("instructions", 1.4, 1e-2, variant="factored"),
    ]
    bases = {task: Baseline(task, rows) for task, rows in known.items()}
    text = write_page(tried, bases, tmp_path).read_text()
    assert "| unchanged | 0.8000 | 0.9000 | 1.5000 |" in text
    assert "| a learned gain a layer | 0.7000 (50%) | diverged | 3.5000 (below the head alone) |" in text
    assert "| factored, r=1 | - | - | 1.4000 (120%, 0.01) |" in text
    assert "standard deviation is 0.0141, 0.0141, 0.0141, over 2, 2, 2 seeds" in " ".join(text.split())
    assert "5 rows of lab/trials/results/tried.jsonl" in text


def test_under_the_rule_of_today_a_variant_is_compared_with_the_best_of_as_many_numbers(tmp_path: Path) -> None:
    known = [make_row("movies", 0.6, 0.0, method="head", config=None), make_row("movies", 0.9)]
    known += [make_row("movies", 0.9, seed=1)]
    known += [
        make_row("movies", score, rate, method=variants.EVEN["movies"], rule=RULE)
        for rate, score in ((5e-4, 0.7), (1e-3, 0.8), (2e-3, 0.75))
    ]
    tried = [make_row("movies", 0.7, 1e-3, variant="cosine", rule=RULE), make_row("movies", 0.75, variant="gain")]
    tried += [make_row("movies", 0.78, 2e-3, variant="cosine", rule=RULE)]
    tried += [make_row("movies", 0.7, 1e-3, variant="pool-few", rule=RULE)]
    text = write_page(tried, {"movies": Baseline("movies", known)}, tmp_path).read_text()
    assert "| a learned gain a layer | 0.7500 (50%) |" in text
    assert "| unchanged, n=340 | 0.8000 (100%, 0.001) |" in text
    assert "| a cosine basis | 0.7800 (90%, 0.002) |" in text
    assert "| one pool for all layers, n=340 entries | 0.7000 (0.001) |" in text  # nothing with as many numbers was run
    assert "one pool for all layers, n=1020" not in text


def test_a_variant_is_compared_at_its_own_seeds() -> None:
    rows = [
        make_row("movies", 0.6, 0.0, method="head", config=None),
        make_row("movies", 0.8),
        make_row("movies", 0.7, seed=1),
    ]
    base = Baseline("movies", rows)
    assert base.describe([make_row("movies", 0.7, seed=1)]) == "0.7000 (100%)"
    assert base.describe([make_row("movies", 0.7), make_row("movies", 0.75, seed=1)]) == "0.7250 (83%)"
    assert base.describe([make_row("movies", 0.7, seed=2)]) == "0.7000"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--learning_rates", "-1"], "learning_rates=[-1.0] is not a list of positive numbers"),
        (["--seeds", "-1"], "seeds=[-1] is not a list of whole numbers of at least 0"),
    ],
)
def test_wrong_arguments_are_one_line(
    arguments: list[str], message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(command, "run_tasks", lambda *_: pytest.fail("nothing is to be run"))
    assert main(["trials", "tried", *arguments, "--variants", "decay"]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_nothing_to_compare_with_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(command, "QUALITY", tmp_path)
    assert main(["trials", "tried", "--page"]) == 2
    assert (
        "movies has 0 runs of fourierft:340,layers=all, scale rule 1 at 0.003, and no run of the head"
        in capsys.readouterr().err
    )
    assert not list(tmp_path.iterdir())
