"""Scores of preferences against counts by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from fourierft.training.preferences.outcome import score_feedback, score_pairs


def test_pairs() -> None:
    outputs = np.array([[-1.0, -3.0, -2.0, -2.0], [-5.0, -1.0, -4.0, -1.0], [-2.0, -2.0, -2.0, -2.0]])
    margins = [0.5 * ((1) - (-1)), 0.5 * ((-1) - 0), 0.0]
    assert score_pairs(outputs, 0.5) == pytest.approx(
        {
            "preference_accuracy": (1 + 0 + 0.5) / 3,
            "reward_margin": sum(margins) / 3,
            "preference_loss": sum(math.log(1 + math.exp(-margin)) for margin in margins) / 3,
        }
    )


def test_feedback() -> None:
    outputs = np.array([[-1.0, -2.0], [-4.0, -2.0], [-3.0, -2.0], [-2.0, -3.0]])  # rewards 2, -4, -2, 2 at beta 2
    found = score_feedback(outputs, [True, True, False, False], 2.0)
    assert found == {"preference_accuracy": (1 + 0.5 + 0 + 0) / 4, "reward_margin": -1.0 - 0.0}
    assert math.isnan(score_feedback(outputs[:2], [True, True], 2.0)["preference_accuracy"])
