"""README's table and picture."""

from __future__ import annotations

import re
from pathlib import Path

from fourierft.tables import markdown_table
from lab.trials.curve import same_layers
from lab.trials.front import README, TASKS, draw, points, table, times


def test_readme_has_the_table_that_the_rows_give() -> None:
    made = markdown_table(table({task: same_layers(task) for task in TASKS}))
    assert f"<!-- begin front -->\n{made}\n<!-- end front -->" in README.read_text(encoding="utf-8")


def test_a_cell_is_the_mean_of_the_seeds_at_the_best_rate() -> None:
    rows = [row for row in same_layers("movies") if row["method"] == "fourierft:340,layers=all"]
    best = [row["score"] for row in rows if row["learning_rate"] == 1e-3]
    assert points(rows)["fourierft:340"] == (sum(best) / 3, 12_240, 54_120)


def test_times_are_the_medians_of_their_line() -> None:
    assert all(re.fullmatch(r"\d\.\d\d", cell) for cell in times("qwen2.5-0.5b, 2 layers, step"))
    assert times("llama-2-7b, 1 layer, step") == ("1.13", "1.05")


def test_a_task_without_rank_one_is_drawn_too(tmp_path: Path) -> None:
    draw({"qwen-1.5b": same_layers("qwen-1.5b")}, tmp_path / "front.png")
    assert (tmp_path / "front.png").stat().st_size > 1000
