"""The trial of preferences, on a model of seconds."""

from __future__ import annotations

from pathlib import Path

import pytest

from lab.trials import preferences
from lab.trials.preferences import as_feedback, make_pairs, measure, table_rows

NOUNS = [{"mr": f"name[film], kind[{k}]", "ref": f"{word} book"} for k, word in enumerate(["good", "bad", "fine"] * 8)]


@pytest.fixture(autouse=True)
def glosses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preferences, "read_glosses", lambda: NOUNS)


def test_pairs_ask_for_a_word_and_answers_have_labels() -> None:
    pairs = make_pairs(10)
    assert pairs == make_pairs(10)
    assert {pair["prompt"] for pair in pairs} == {"What is meant by film?"}
    both, one = as_feedback(pairs, True), as_feedback(pairs, False)
    assert [row["label"] for row in both] == [True, False] * 10
    assert [row["label"] for row in one] == [True, False] * 5
    assert [row["completion"] for row in one[:2]] == [pairs[0]["chosen"], pairs[1]["rejected"]]


@pytest.mark.parametrize("kind", ["pairs", "feedback"])
@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
def test_a_run_is_measured_on_rows_held_out(tiny_llama: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pairs = [
        {"prompt": "film", "chosen": f"good {word}", "rejected": f"bad {word}"} for word in ("book", "and", "so") * 4
    ]
    monkeypatch.setattr(preferences, "make_pairs", lambda count: pairs[:count])
    monkeypatch.setattr(preferences, "RATE", 1e-2)
    found = measure(kind, {"method": "fourierft", "n_frequency": 60}, tiny_llama, (8, 4), 12)
    assert found["preference_accuracy"] == 1.0
    assert found["reward_margin"] > 0.1
    assert table_rows([{"run": "DPO", **found}])[1][:3] == ("DPO", f"{found['trained']:,}", "1.000")
