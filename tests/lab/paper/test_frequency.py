"""Figure 5: scores by the centre of the band."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import fourierft
from fourierft.training.method_parser import parse_method
from lab.paper import frequency
from lab.paper.run import find_experiment


def test_bands_are_configs_of_the_tuner() -> None:
    config = parse_method(",".join(["fourierft:1000", *frequency.band(240, 100)]), ["query"]).config
    fourierft.enable()
    made = fourierft.FourierFTConfig(**{key: value for key, value in config.items() if key != "peft_type"})
    assert (made.entries, made.center, made.width) == ("bandpass", 240, 100)


def test_scores_go_by_centre_and_no_bias_is_a_line(make_row: Callable, tmp_path: Path) -> None:
    band = "fourierft:1000,entries=bandpass,center={},width=100"
    rows = [
        make_row("movies", band.format(175), 1e-2, 0.7),
        make_row("movies", band.format(50), 1e-2, 0.6),
        make_row("movies", "fourierft:1000", 1e-2, 0.65),
        make_row("movies", "fourierft:1000", 1e-2, 0.75, seed=1),
        make_row("roberta-base/rte", band.format(200), 9e-2, 0.8),
    ]
    assert frequency.by_center(rows[:4]) == {None: [0.65, 0.75], 50.0: [0.6], 175.0: [0.7]}
    text = "\n".join(find_experiment("fig5").page(rows, tmp_path))
    assert "| no bias | 0.7000 | 0.6500 | 0.7500 | 2 |\n| 50 | 0.6000 | 0.6000 | 0.6000 | 1 |\n| 175 |" in text
    assert "rte:" in text
    assert {path.name for path in tmp_path.glob("*.png")} == {"fig5.png", "fig5-movies.png"}
