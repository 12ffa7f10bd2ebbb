"""The study of widths: bases of one recipe, runs that are not done twice, best rates by a parabola."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoConfig

from fourierft.training.comparison import sources
from fourierft.training.comparison.results import Row, read_rows
from lab.__main__ import main
from lab.trials import width_bases, width_page, widths
from lab.trials.width_bases import base_word, find_base, pretraining_rate

SMALL = ["--widths", "16", "128", "--methods", "head", "lora:8", "--learning_rates", "1e-3"]


@pytest.fixture
def tiny_recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two steps on a few rows for bases and runs alike; returns the cache."""
    monkeypatch.setenv("FOURIERFT_CACHE", str(tmp_path / "cache"))
    glosses = [{"mr": f"name[dog {k}], kind[animal]", "ref": f"a tame animal of the kind {k}"} for k in range(20)]
    answers = [{"instruction": f"Name {k}.", "input": "", "output": f"It is called {k}."} for k in range(20)]
    monkeypatch.setitem(sources.DATA, "glosses", lambda: glosses)
    monkeypatch.setitem(sources.DATA, "instructions", lambda: answers)
    few = {"train_rows": 16, "validation_rows": 4}
    for settings in (width_bases.PRETRAINING, widths.SETTINGS):
        monkeypatch.setitem(settings, "max_steps", 2)
        monkeypatch.setitem(settings, "use_cpu", True)
    for name, rows in few.items():
        monkeypatch.setitem(width_bases.PRETRAINING, name, rows)
        monkeypatch.setitem(widths.ROWS, name, rows)
    return tmp_path / "cache"


@pytest.fixture
def make_row() -> Callable[..., Row]:
    """Makes the row of a run as the command leaves it."""

    def make_row(width: int, method: str, rate: float, score: float | None, **changes: Any) -> Row:
        family, _, size = method.partition(",")[0].partition(":")
        return {
            "width": width,
            "heads": 2,
            "pretraining": {"learning_rate": 3e-3, "loss": 2.25},
            "task": f"width-{width}",
            "method": method,
            "family": family,
            "title": method,
            "config": {"n_frequency": int(size or 0)},
            "learning_rate": rate,
            "seed": 0,
            "lower_is_better": True,
            "score": score,
            "parameters": {"adapter": 100, "head": 0},
            "bytes": {"adapter": 400},
            "seconds_per_step": 0.5,
            "seconds": 60.0,
            "versions": {"torch": "2"},
            "device": "cpu, 1 threads",
            "protocol": "p",
            **changes,
        }

    return make_row


def test_another_recipe_is_another_base(tiny_recipe: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    word = base_word(64)
    assert word.startswith("bytes-64-")
    monkeypatch.setitem(width_bases.PRETRAINING, "max_steps", 3)
    assert base_word(64) != word


def test_nothing_is_left_of_a_base_that_was_interrupted(tiny_recipe: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(width_bases, "train", interrupt)
    with pytest.raises(KeyboardInterrupt):
        find_base(16)
    assert [path for path in tiny_recipe.iterdir() if "bytes" in path.name] == []


def test_runs_go_on_where_they_stopped_on_bases_of_one_recipe(
    tiny_recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "out"
    command = [*SMALL, "--output_dir", str(target)]
    assert main(["trials", "widths", *command, "--max_runs", "3"]) == 0
    begun = read_rows(target)
    assert [(row["width"], row["method"]) for row in begun] == [(16, "head"), (16, "lora:8"), (128, "head")]
    assert 5 < begun[0]["pretraining"]["loss"] < 7  # two steps from an even guess among 384 bytes
    monkeypatch.setattr(width_bases, "make_base", lambda *_: pytest.fail("it was there"))
    assert main(["trials", "widths", *command]) == 0
    rows = read_rows(target)
    assert rows[:3] == begun
    assert len({row["key"] for row in rows}) == len(rows) == 4
    assert rows[1]["config"]["target_modules"] == ["q_proj", "v_proj"]
    assert str(tmp_path) not in (target / "runs.jsonl").read_text()
    configs = [AutoConfig.from_pretrained(find_base(width)) for width in (16, 128)]
    assert [(config.hidden_size, config.num_attention_heads) for config in configs] == [(16, 1), (128, 2)]
    assert [(config.vocab_size, config.num_hidden_layers) for config in configs] == [(384, 2), (384, 2)]
    page = (target / "summary.md").read_bytes()
    (target / "widths.png").unlink()
    capsys.readouterr()
    assert main(["trials", "widths", "--page", "--output_dir", str(target)]) == 0
    assert capsys.readouterr().out.endswith(f"written to {target / 'summary.md'}\n")
    assert (target / "summary.md").read_bytes() == page
    assert (target / "widths.png").exists()
    assert read_rows(target) == rows


def test_the_rate_of_pretraining_falls_with_the_root_of_the_width() -> None:
    assert pretraining_rate(128) == 3e-3
    assert pretraining_rate(512) == pytest.approx(1.5e-3)


def test_the_default_grid_has_more_n_at_width_512_and_higher_rates_for_fourierft() -> None:
    assert [len(widths.width_task(width).runs()) for width in (256, 512)] == [1 + 5 + 7 + 6, 1 + 5 + 7 + 6 + 4 * 7]
    highest = [run.method.spec for run in widths.width_task(256).runs() if run.learning_rate == 0.2]
    assert highest == ["fourierft:1000"]


@pytest.mark.parametrize("shape", [(-1, 0, 1), (-1, 0, 2), (-3, 1, 2)])
def test_refined_rate_is_the_bottom_of_the_parabola(shape: tuple[int, int, int]) -> None:
    losses = {math.exp(x): (x - 0.25) ** 2 + 7 for x in shape}
    assert width_page.refine(losses) == pytest.approx(math.exp(0.25))


def test_refined_rate_by_hand() -> None:  # from 1e-3 to 1e-1: slopes -0.2 and 0.1 a decade, so zero at 1e-2 + 1/6
    assert width_page.refine({1e-3: 2.7, 1e-2: 2.5, 1e-1: 2.6}) == pytest.approx(10 ** (-2 + 1 / 6))


def test_a_best_rate_at_an_end_or_beside_a_diverged_one_is_not_refined() -> None:
    assert width_page.refine({1e-3: 2.5, 1e-2: 2.6, 1e-1: 2.7}) is None
    assert width_page.refine({1e-3: 2.7, 1e-2: 2.6}) is None
    assert width_page.refine({1e-3: 2.6, 1e-2: 2.5, 1e-1: None}) is None


def test_move_is_the_widest_between_sizes_at_most_ten_apart() -> None:
    assert width_page.widest_move({50: 1e-3, 500: 2e-3, 5000: 8e-3, 12288: 6e-3}) == pytest.approx(4)
    assert width_page.widest_move({50: 1e-3, 5000: 8e-3}) is None
    assert width_page.widest_move({50: 1e-3, 60: None}) is None


def test_table_and_verdict_by_hand(make_row: Callable[..., Row], tmp_path: Path) -> None:
    rows = [make_row(128, "head", 0.0, 3.0)]
    losses = {"lora:8": (2.7, 2.5, 2.6), "fourierft:50": (2.8, 2.6, 2.5), "fourierft:400": (2.6, 2.5, 2.7)}
    for method, scores in losses.items():
        rows += [make_row(128, method, rate, score) for rate, score in zip((1e-3, 1e-2, 1e-1), scores, strict=True)]
    rows += [make_row(128, "fourierft:50", 1.0, 2.6)]
    groups = width_page.by_width(rows)
    _, lora, few, many = width_page.table_rows(groups)
    assert lora == ("128", "lora:8", "0.01", "0.015", "1.00", "2.5000", "2.5000", "100.0%")
    assert few == ("128", "fourierft:50", "0.1", "0.1", "6.81", "2.5000", "2.6000", "80.0%")
    assert many == ("128", "fourierft:400", "0.01", "0.0068", "0.46", "2.5000", "2.5000", "100.0%")
    ratio, move = width_page.verdict(groups)
    assert ratio.endswith("is 0.46 to 6.81 of LoRA r=8's; in 0 of 2 cases within a factor of 2.")
    assert move.endswith("at width 128, the best rate of FourierFT on query and value moves by up to 14.68.")
    page = width_page.write_page(groups, tmp_path).read_text()
    assert "| 128 | 2 | 0.003 | 2.2500 | 3.0000 |" in page
    assert "11 runs, of which 0 diverged, 11 minutes of fine-tuning, seed 0; torch 2; device: cpu, 1 threads." in page


def test_rows_of_earlier_settings_are_left_out(make_row: Callable[..., Row]) -> None:
    rows = [make_row(width, "lora:8", 1e-3, 2.0, protocol=name) for width in (256, 128) for name in ("old", "new")]
    assert width_page.by_width(rows) == {128: [rows[3]], 256: [rows[1]]}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--widths", "100"], "width 100 can't be cut into heads; use a multiple of 64, or an even number below"),
        (["--widths", "128", "17"], "width 17 can't be cut into heads"),
        (["--widths", "0"], "width 0 can't be cut into heads"),
        (["--methods", "lorra:8"], "method lorra:8 is unknown; did you mean lora?"),
        (["--learning_rates", "-1"], "learning_rates=[-1.0] is not a list of positive numbers"),
        (["--seeds", "-1"], "seeds=[-1] is not a list of whole numbers of at least 0"),
        (["--max_runs", "-1"], "--max_runs -1 is negative; use --page to only make the page"),
        (["--output_dir", __file__], "test_widths.py is a file, not a folder; choose another name"),
    ],
)
def test_wrong_arguments_are_one_line(
    arguments: list[str], message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(widths, "run_widths", lambda *_: pytest.fail("nothing is to be run"))
    assert main(["trials", "widths", *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_page_without_rows_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["trials", "widths", "--page", "--output_dir", str(tmp_path)]) == 0
    assert capsys.readouterr().out == "no run is finished\n"
