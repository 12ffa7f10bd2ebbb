"""An experiment from the command to its page, and the overview of all."""

from __future__ import annotations

from pathlib import Path

import pytest

from fourierft.training.output import read_json_lines
from lab.folders import DOCS
from lab.paper import counts
from lab.paper.run import MODULES, find_experiment, list_runs, reproduce, write_overview

RESULTS = Path(counts.__file__).with_name("results")


def test_page_says_what_made_its_numbers_and_nothing_is_done_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    experiment = find_experiment("table1")
    choice = experiment.choose(models=["vit-base"])
    page = reproduce(experiment, choice, "python -m lab paper table1 --model vit-base", tmp_path, tmp_path / "pages")
    text = page.read_text()
    assert page == tmp_path / "pages" / "table1.md"
    assert text.startswith("# Table 1: trained parameters and bytes\n")
    assert "4 rows, made by\n\n    python -m lab paper table1 --model vit-base\n\nwith " in text
    rows = read_json_lines(tmp_path / "table1.jsonl")
    assert {row["command"] for row in rows} == {"python -m lab paper table1 --model vit-base"}
    monkeypatch.setattr(counts, "count", lambda *_: pytest.fail("all was counted"))
    assert reproduce(experiment, choice, "again", tmp_path, tmp_path / "pages").read_text() == text


def test_overview_tells_what_was_run_where(tmp_path: Path) -> None:
    (tmp_path / "table6.jsonl").write_text('{"stand_in": true}\n{"stand_in": true}\n')
    overview = tmp_path / "reproduction.md"
    overview.write_text("# Before\n<!-- begin runs -->\nold\n<!-- end runs -->\nafter\n")
    write_overview(tmp_path, overview)
    text = overview.read_text()
    assert text.startswith("# Before\n<!-- begin runs -->\n| experiment |")
    assert text.endswith("<!-- end runs -->\nafter\n")
    line = next(line for line in text.splitlines() if "table6.md" in line)
    assert "| not run here: needs RoBERTa base and large, and GLUE | 2 rows |" in line


def test_overview_in_the_repository_is_that_of_its_results(tmp_path: Path) -> None:
    overview = tmp_path / "reproduction.md"
    overview.write_text((DOCS / "reproduction.md").read_text())
    write_overview(RESULTS, overview)
    assert overview.read_text() == (DOCS / "reproduction.md").read_text()


@pytest.mark.parametrize("name", list(MODULES))
def test_page_in_the_repository_is_that_of_its_results(name: str, tmp_path: Path) -> None:
    experiment, rows = find_experiment(name), read_json_lines(RESULTS / f"{name}.jsonl")
    written = (DOCS / "reproduction" / f"{name}.md").read_text()
    for block in experiment.page(rows, tmp_path):
        assert block in written
    assert {path.name for path in tmp_path.iterdir()} <= {path.name for path in (DOCS / "reproduction").iterdir()}


def test_runs_are_listed_in_their_order() -> None:
    experiment = find_experiment("fig7")
    lines = list_runs(experiment, experiment.choose(seeds=[4])).splitlines()
    assert lines[0] == "   1  LoRA r=1, learning rate 0.01, seed 4"
    assert len(lines) == 4
