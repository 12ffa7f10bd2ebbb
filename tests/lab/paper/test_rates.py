"""The paper's settings as rates of "auto", by hand."""

from __future__ import annotations

import math

import pytest

from fourierft.tuner.paper import PAPER_RUNS
from lab.paper.rates import auto_rate, lora_rate, table_rows


def test_rate_is_alpha_times_rate_over_the_rule() -> None:
    alpha = 200 * (384 / 768) ** 1.5 * 768 * 768 / math.sqrt(5000 * (4 * 768 + 5000))
    assert auto_rate("rte", "roberta-base", 768) == pytest.approx(9e-2 * 110 / alpha)


def test_rates_of_lora_are_brought_to_one_rank_and_alpha() -> None:
    assert lora_rate("cola", "roberta-large") == pytest.approx(2e-4)  # r = 8, alpha = 16 as it is
    assert lora_rate("cola", "roberta-base") == pytest.approx(2e-4)  # alpha = 8: 4e-4, halved
    assert lora_rate("instructions", "llama-2-7b") == pytest.approx(3e-3 * (16 / 8) / (16 / math.sqrt(8)))
    assert lora_rate("pets", "vit-base") is None


def test_every_run_of_the_paper_has_a_row() -> None:
    rows = table_rows()
    assert {(row[2], row[0]) for row in rows[1:]} == set(PAPER_RUNS)
    assert [row[-2:] for row in rows if row[0] == "vit-base"] == [("-", "-")] * 8
