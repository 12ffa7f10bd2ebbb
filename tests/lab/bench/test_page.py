"""The page is made from results: marked places, tables, goals, plots."""

from __future__ import annotations

from pathlib import Path

import pytest

from fourierft.errors import DataError
from lab.bench.figures import figure_rows, killed_name
from lab.bench.goals import GOALS, is_reached
from lab.bench.harness import Settings
from lab.bench.page import places_of, write_page
from lab.ledger import append_rows
from lab.pages import fill_places

COMMON = {
    "dtype": "float32",
    "device": "cpu",
    "device_name": "a processor",
    "cpu": "a processor",
    "threads": 2,
    "versions": {"torch": "2.13.0"},
    "commit": "abc",
    "code": "abc",
    "time": "2026-01-02T03:04:05+00:00",
    "grid": "small",
    "unit": "s",
    "rounds": 5,
    "note": "",
    "error": None,
}


def row(suite: str, case: str, contender: str, ratio: float, **fields) -> dict:
    spread = {"median": ratio / 10, "p20": ratio / 11, "p80": ratio / 9}
    ratios = {"ratio_median": ratio, "ratio_p20": 0.9 * ratio, "ratio_p80": 1.1 * ratio}
    shapes = {"n": 1000, "tokens": 512, "out": 64, "in": 64, "direction": "forward"}
    return {
        **COMMON,
        "shapes": shapes,
        "suite": suite,
        "case": case,
        "contender": contender,
        **spread,
        **ratios,
        **fields,
    }


STEP = [
    row("training_step", "roberta-base", "base", 1.0),
    row("training_step", "roberta-base", "lora-8", 1.12),
    row("training_step", "roberta-base", "ours", 1.04),
]


def page_of(tmp_path: Path, rows: list[dict], text: str) -> str:
    append_rows(tmp_path / "results", rows)
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "performance.md").write_text(text)
    write_page(tmp_path / "results", tmp_path / "docs")
    return (tmp_path / "docs" / "performance.md").read_text()


def test_marked_places_are_filled_and_the_prose_is_kept(tmp_path: Path):
    text = "before\n<!-- begin training_step -->\nold\n<!-- end training_step -->\nafter\n"
    page = page_of(tmp_path, STEP, text)
    assert page.startswith("before\n<!-- begin training_step -->\n")
    assert page.endswith("<!-- end training_step -->\nafter\n")
    assert "old" not in page
    assert "| roberta-base | 100 ms | 1.12 (1.01-1.23) | 1.04 (0.94-1.14) |" in page


def test_making_the_page_again_changes_nothing():
    text = "<!-- begin goals -->\n<!-- end goals -->\n<!-- begin machines -->\n<!-- end machines -->\n"
    once = fill_places(text, places_of(STEP, {}))
    assert fill_places(once, places_of(STEP, {})) == once


def test_newest_result_is_shown(tmp_path: Path):
    newer = row("training_step", "roberta-base", "ours", 1.01)
    page = page_of(tmp_path, [*STEP, newer], "<!-- begin training_step -->\n<!-- end training_step -->\n")
    assert "1.01 (" in page
    assert "1.04 (" not in page


def test_plots_are_drawn_and_shown_beside_their_tables(tmp_path: Path):
    layer = [row("layer", "64x64", name, 1.5) for name in ("base", "ours", "ours-weight", "ours-token")]
    page = page_of(tmp_path, [*STEP, *layer], "<!-- begin layer -->\n<!-- end layer -->\n")
    assert "![layer_forward_cpu_float32](img/layer_forward_cpu_float32.png)" in page
    images = sorted((tmp_path / "docs" / "img").iterdir())
    assert [p.name for p in images] == ["layer_forward_cpu_float32.png", "training_step_cpu_float32.png"]
    assert all(p.read_bytes().startswith(b"\x89PNG") for p in images)


def test_ratios_and_speeds_of_the_fleet_are_drawn_without_what_has_another_baseline(tmp_path: Path):
    mixed = [row("fleet", "16 rows", name, 1.1) for name in ("base", "ours-fleet", "lora-8")]
    bank = [row("fleet", "bank", name, 1.0) for name in ("ours-few", "ours-many")]
    zipf = [row("zipf", "all", "rows by Zipf", 1.0, unit="rows/s", ratio_median=None)]
    text = "<!-- begin fleet -->\n<!-- end fleet -->\n<!-- begin zipf -->\n<!-- end zipf -->\n"
    page = page_of(tmp_path, [*mixed, *bank, *zipf], text)
    assert "![fleet_cpu_float32](img/fleet_cpu_float32.png)" in page
    assert "![zipf_cpu_float32](img/zipf_cpu_float32.png)" in page
    assert len(list((tmp_path / "docs" / "img").iterdir())) == 2


def test_figures_stand_in_a_column_a_case_with_their_units():
    settings = Settings(threads=2)
    rows = figure_rows("store", "ten", {"written": (12.345, "s"), "on disk": (5 * 2**20, "B")}, settings, 1000)
    rows += figure_rows("store", "killed", {"lost": (0, "")}, settings, 40)
    page = fill_places(
        "<!-- begin store -->\n<!-- end store -->\n<!-- begin zipf -->\n<!-- end zipf -->", places_of(rows, {})
    )
    lines = page.splitlines()
    assert "|  | ten | killed |" in lines
    assert "| written | 12.3 s |  |" in lines
    assert "| on disk | 5 MiB |  |" in lines
    assert "| lost |  | 0 |" in lines
    assert "Not measured yet: `python -m lab bench zipf`." in lines


@pytest.mark.parametrize(("lost", "reached"), [(0, "yes"), (1, "**no**")])
def test_goals_of_figures_are_judged_by_their_numbers(lost: int, reached: str):
    rows = figure_rows("store", killed_name(1000), {"lost": (lost, "")}, Settings(threads=2), 40)
    page = fill_places("<!-- begin goals -->\n<!-- end goals -->", places_of(rows, {}))
    line = next(line for line in page.splitlines() if "adapters lost" in line)
    assert f"| <= 0 | {lost}.00 | {reached} |" in line


def test_tiny_shapes_of_a_smoke_run_are_never_shown(tmp_path: Path):
    smoke = [{**r, "grid": "smoke"} for r in STEP]
    with pytest.raises(DataError, match="no results"):
        page_of(tmp_path, smoke, "<!-- begin goals -->\n<!-- end goals -->\n")


def test_what_cannot_be_done_and_what_needs_a_note_stand_under_the_table():
    text = "<!-- begin decoding -->\n<!-- end decoding -->"
    rows = [
        row("decoding", "16 rows", "base", 1.0),
        {**row("decoding", "16 rows", "stock", 1.0), "cannot": "it ignores the rows", "ratio_median": None},
        row("decoding", "16 rows", "ours", 1.1, note="only with a note"),
    ]
    page = fill_places(text, places_of(rows, {}))
    assert "| can't [a] | 1.10 (0.99-1.21) [b] |" in page
    assert "[a] It ignores the rows." in page
    assert "[b] Only with a note." in page


def test_suite_without_results_says_how_to_get_them():
    page = fill_places("<!-- begin merging -->\n<!-- end merging -->", places_of(STEP, {}))
    assert "`python -m lab bench merging`" in page


def test_unknown_place_is_refused_and_the_page_is_left_as_it_was(tmp_path: Path):
    text = "<!-- begin nothing -->\n<!-- end nothing -->\n"
    with pytest.raises(DataError, match="marks nothing"):
        page_of(tmp_path, STEP, text)
    assert (tmp_path / "docs" / "performance.md").read_text() == text


@pytest.mark.parametrize(("ours", "reached"), [("1.04", "yes"), ("1.06", "**no**")])
def test_goals_are_judged_from_the_results(ours: str, reached: str):
    rows = [*STEP[:2], row("training_step", "roberta-base", "ours", float(ours))]
    page = fill_places("<!-- begin goals -->\n<!-- end goals -->", places_of(rows, {}))
    line = next(line for line in page.splitlines() if "RoBERTa" in line)
    assert f"| {ours} | {reached} |" in line
    assert "not measured" in next(line for line in page.splitlines() if "LLaMA-shaped" in line)


def test_goal_with_a_rival_is_missed_where_the_rival_is_faster():
    goal = next(goal for goal in GOALS if goal.below == "lora-8")
    ours = row("training_step", "roberta-base", "ours", 1.04)
    assert is_reached(goal, {"ours": ours, "lora-8": row("training_step", "roberta-base", "lora-8", 1.12)})
    assert is_reached(goal, {"ours": ours, "lora-8": row("training_step", "roberta-base", "lora-8", 1.03)}) is False
    assert is_reached(goal, {"ours": ours}) is None


def test_goal_on_a_share_is_judged_by_what_both_add_to_the_base():
    goal = next(goal for goal in GOALS if goal.share and goal.limit == 1.12)
    line_up = {"ours-fleet": row(goal.suite, goal.case, "ours-fleet", 1.1)}
    assert is_reached(goal, {**line_up, "lora-8": row(goal.suite, goal.case, "lora-8", 1.31)})
    assert is_reached(goal, {**line_up, "lora-8": row(goal.suite, goal.case, "lora-8", 1.29)}) is False


def test_goals_count_only_runs_under_their_conditions():
    rows = [{**r, "threads": 16} for r in STEP]
    page = fill_places("<!-- begin goals -->\n<!-- end goals -->", places_of(rows, {}))
    assert "yes" not in page
