"""The fleet that the server is measured with, at the size of a tiny LLaMA."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import peft
import pytest
from transformers import AutoModelForCausalLM

from fourierft.store import AdapterStore
from lab.bench.serving import fleet
from lab.bench.serving.fleet import Question, draw, greedy, make_store, name_of, peft_answers


@pytest.fixture
def tiny(tiny_llama: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shapes = {"q_proj": (32, 32), "v_proj": (16, 32)}
    monkeypatch.setattr(fleet, "SHAPES", shapes)
    monkeypatch.setattr(fleet, "NAMES", [f"model.layers.{i}.self_attn.{name}" for i in range(2) for name in shapes])
    monkeypatch.setattr(fleet, "N_FREQUENCY", 100)
    return tiny_llama


@pytest.mark.filterwarnings("ignore:Unexpected keyword arguments.*fourierft")  # the record stock PEFT skips
def test_answers_are_those_of_the_stores_adapters_in_stock_peft(tiny: Path, tmp_path: Path) -> None:
    make_store(tmp_path / "fleet.db", tiny, 3)
    questions = {f"{k}": Question(k, [1, 5 + k, 9]) for k in range(3)}
    answers = peft_answers(tiny, tmp_path / "answers.json", questions)
    with AdapterStore(tmp_path / "fleet.db") as store:
        for k in range(3):
            store.export(name_of(k), tmp_path / str(k))
            base = AutoModelForCausalLM.from_pretrained(tiny).eval()
            plain = greedy(base, questions[str(k)].prompt)
            alone = peft.PeftModel.from_pretrained(base, tmp_path / str(k)).eval()
            assert answers[str(k)] == greedy(alone, questions[str(k)].prompt) != plain


def test_answers_that_are_there_are_not_asked_for_again(tiny: Path, tmp_path: Path) -> None:
    questions = {f"{k}": Question(k, [1, 5]) for k in range(2)}
    (tmp_path / "answers.json").write_text(json.dumps({"0": [7, 7]}))
    answers = peft_answers(tiny, tmp_path / "answers.json", questions)
    assert answers["0"] == [7, 7]
    assert json.loads((tmp_path / "answers.json").read_text()) == answers
    assert len(answers["1"]) == fleet.TOKENS


def test_a_store_gets_what_it_lacks(tiny: Path, tmp_path: Path) -> None:
    make_store(tmp_path / "fleet.db", tiny, 2)
    make_store(tmp_path / "fleet.db", tiny, 5)
    with AdapterStore(tmp_path / "fleet.db") as store:
        assert [each.name for each in store.list()] == [name_of(k) for k in range(5)]
        assert {each.version for each in store.list()} == {1}


def test_requests_are_drawn_by_their_popularity() -> None:
    assert draw("distinct", 3, 5) == [0, 1, 2, 0, 1]
    assert set(draw("identical", 10, 4)) == {5}
    assert set(draw("uniform", 10, 1000)) == set(range(10))
    counts = Counter(draw("zipf", 100, 20_000))
    assert counts[0] / counts[9] == pytest.approx(10, rel=0.2)
    assert draw("zipf", 100, 50) == draw("zipf", 100, 80)[:50], "those of a later round come after"
