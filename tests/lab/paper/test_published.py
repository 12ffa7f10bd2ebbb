"""The paper's numbers are read as they stand in the file, and agree with each other."""

from __future__ import annotations

import pytest

from fourierft.tuner.paper import PAPER_RUNS
from lab.paper.published import read_paper


@pytest.mark.parametrize("table", ["table2", "table5"])
def test_averages_are_those_of_the_scores(table: str) -> None:
    for model, methods in read_paper()[table].items():
        if model == "metric":
            continue
        for method, row in methods.items():
            *scores, average = row["scores"] if table == "table2" else row
            if (model, method) not in MISPRINTED:
                assert average == pytest.approx(sum(scores) / len(scores), abs=0.06), (model, method)


MISPRINTED: set[tuple[str, str]] = set()


def test_settings_are_those_the_package_has() -> None:
    paper = read_paper()
    for size, tasks in (("base", paper["table9"]["base"]), ("large", paper["table9"]["large"])):
        for task, (epochs, rate, head_rate, length, alpha, batch) in tasks.items():
            run = PAPER_RUNS[task, f"roberta-{size}"]
            found = (run.epochs, run.learning_rate, run.head_learning_rate, run.max_length, run.scaling, run.batch_size)
            assert found == (epochs, rate, head_rate, length, alpha, batch)
