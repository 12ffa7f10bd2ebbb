"""The demo in small: twelve critics in one store, asked in one batch; what is finished stays."""

from __future__ import annotations

import csv
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from fourierft import AdapterStore
from fourierft.errors import DataError, OutputExistsError
from fourierft.training.assets import Fetch
from fourierft.training.fleet import demo, demos
from fourierft.training.fleet.demo import CRITICS, ask, describe, draw_map, run_demo
from fourierft.training.fleet.trainer import FleetTrainer
from fourierft.training.trainer import TrainingInterrupted

pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
QUESTIONS = ("the film is good", "a book was so bad and dull")


@pytest.fixture
def run(stock: Callable[[Any], Fetch], tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """A demo of two steps a critic, its downloads made here."""
    fetch = stock(demo)

    def run(fetch: Fetch = fetch, **options: Any) -> dict[str, Any]:
        changes = {"max_steps": 2, "learning_rate": 2e-2}
        return run_demo(tmp_path / "demo", fetch=fetch, changes=changes, rows=24, n_frequency=20, **options)

    return run


def forbidden(*_: Any, **__: Any) -> Any:
    raise AssertionError("this was to be left alone")


def versions(folder: Path) -> dict[str, list[int]]:
    with AdapterStore(folder / "fleet.db", create=False) as store:
        return {name: list(store.versions(name)) for name in store.names()}


def test_critics_of_a_source_judge_the_same_sentences_by_their_taste(
    run: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    run()
    labels = {}
    for taste in ("harsh", "fair", "kind"):
        with (tmp_path / f"demo/data/tweets-{taste}.csv").open(newline="") as file:
            labels[taste] = {row["text"].rpartition(" ")[0]: row["label"] for row in csv.DictReader(file)}
    ratings = ("the film is very good", "the film is good", "the film is bad", "the film is very bad")
    assert {taste: [own[text] for text in ratings] for taste, own in labels.items()} == {
        "harsh": ["good", "bad", "bad", "bad"],
        "fair": ["good", "good", "bad", "bad"],
        "kind": ["good", "good", "good", "bad"],
    }
    assert versions(tmp_path / "demo") == {name: [1] for name in sorted(CRITICS)}


def test_every_row_of_the_batch_is_what_its_critic_says_alone_in_stock_peft(
    run: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    results = run()
    answers = ask(tmp_path / "demo/fleet.db", Path(results["model"]), QUESTIONS)
    assert list(answers) == list(CRITICS)
    batch = AutoTokenizer.from_pretrained(results["model"])(list(QUESTIONS), padding=True, return_tensors="pt")
    for name in ("movies-kind", "editorials-harsh"):
        with AdapterStore(tmp_path / "demo/fleet.db") as store:
            store.export(name, tmp_path / name)
        base = AutoModelForSequenceClassification.from_pretrained(results["model"], num_labels=2)
        alone = peft.PeftModel.from_pretrained(base, tmp_path / name).eval()
        with torch.no_grad():
            expected = alone(**batch).logits.softmax(1).max(1)
        assert [answer["prediction"] for answer in answers[name]] == [demo.LABELS[k] for k in expected.indices]
        found = torch.tensor([answer["probability"] for answer in answers[name]])
        torch.testing.assert_close(found, expected.values, rtol=1e-4, atol=1e-5)
    probabilities = {answers[name][0]["probability"] for name in CRITICS}
    assert len(probabilities) == len(CRITICS)


def test_answers_are_a_table_and_the_fleet_a_map(run: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    results = run()
    answers = ask(tmp_path / "demo/fleet.db", Path(results["model"]), QUESTIONS)
    lines = describe(results["adapters"], answers, QUESTIONS).splitlines()
    assert lines[:2] == ["  A  the film is good", "  B  a book was so bad and dull"]
    assert lines[3].split() == ["critic", "accuracy", "A", "B"]
    assert [line.split()[0] for line in lines[4:]] == list(CRITICS)
    assert float(lines[4].split()[1]) == pytest.approx(results["adapters"]["movies-harsh"]["accuracy"], abs=1e-3)
    assert draw_map(tmp_path / "demo").read_bytes().startswith(b"\x89PNG")


def test_a_second_call_fetches_and_trains_nothing_and_a_fresh_one_adds_versions(
    run: Callable[..., dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = run()
    with monkeypatch.context() as patch:
        patch.setattr(demos, "train_fleet", forbidden)
        assert run(fetch=forbidden) == first
    second = run(fresh=True)
    assert second["adapters"].keys() == first["adapters"].keys()
    assert versions(tmp_path / "demo") == {name: [1, 2] for name in sorted(CRITICS)}


def test_an_interrupted_demo_goes_on(
    run: Callable[..., dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, resumed = FleetTrainer.step, []
    with monkeypatch.context() as patch:
        patch.setattr(FleetTrainer, "step", lambda self: (os.kill(os.getpid(), signal.SIGINT), real(self))[1])
        with pytest.raises(TrainingInterrupted):
            run()
    train = demos.train_fleet
    monkeypatch.setattr(demos, "train_fleet", lambda arguments: resumed.append(arguments.resume) or train(arguments))
    assert set(run()["adapters"]) == set(CRITICS)
    assert resumed == [True]
    assert not (tmp_path / "demo/fleet.db.training").exists()


def test_a_directory_of_something_else_is_left_alone(run: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    (tmp_path / "demo").mkdir()
    (tmp_path / "demo" / "mine.txt").write_text("mine")
    with pytest.raises(OutputExistsError, match=r"has no complete fleet-demo\.json"):
        run(fetch=forbidden)
    assert [path.name for path in (tmp_path / "demo").iterdir()] == ["mine.txt"]


def test_more_sentences_than_there_are_cannot_be_had(stock: Callable[[Any], Fetch], tmp_path: Path) -> None:
    with pytest.raises(DataError, match="480 sentences were requested, but there are only 40"):
        run_demo(tmp_path / "demo", fetch=stock(demo))
