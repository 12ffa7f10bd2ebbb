"""Tables of the paper's numbers and ours."""

from __future__ import annotations

from collections.abc import Callable

from lab.paper.page import average, beside, stand_in_blocks


def test_ours_stand_under_the_papers_where_there_are_some() -> None:
    text = beside(["rte", "cola"], {"LoRA": ([78.4, 63.4], [None, 61.25]), "Adapter": ([71.5, 60.8], [None, None])})
    assert text.splitlines()[2:] == [
        "| LoRA | paper | 78.4 | 63.4 |",
        "|  | here | - | 61.2 |",
        "| Adapter | paper | 71.5 | 60.8 |",
    ]


def test_an_average_needs_all_scores() -> None:
    assert average([1.0, 2.0]) == 1.5
    assert average([1.0, None]) is None


def test_a_stand_in_shows_each_method_at_its_best_rate(make_row: Callable) -> None:
    rows = [
        make_row("movies", "lora:8", 1e-3, 0.7),
        make_row("movies", "lora:8", 1e-2, 0.8),
        make_row("movies", "fourierft:1000", 1e-3, None, **{"from": "docs/quality/movies"}),
    ]
    text = "\n".join(stand_in_blocks(rows, "movies"))
    assert "| lora 8 | 192 | 0.01 | 0.8000 | - | 1 |" in text
    assert "| fourierft 1000 | 24,000 | 0.001 | diverged | - | 1 |" in text
    assert "Runs taken from `fourierft compare` (docs/quality/movies): 1" in text
    assert stand_in_blocks(rows, "digits") == []
