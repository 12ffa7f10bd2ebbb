"""A head that adapters share is the base's own: it stays as it is, in the base's order of classes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from fourierft import AdapterStore, FleetModel
from fourierft.errors import ConfigError
from fourierft.training.evaluation import load_trained
from fourierft.training.fleet.plan import plan_fleet
from fourierft.training.fleet.run import train_fleet
from fourierft.training.fleet.settings import FleetArguments

Build = Callable[..., FleetArguments]
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")


@pytest.fixture
def classifier(calm_bert: Path, tmp_path: Path) -> Path:
    """calm_bert with a head for yes and no, in this order, which is not that of the alphabet."""
    names = {0: "yes", 1: "no"}
    model = AutoModelForSequenceClassification.from_pretrained(
        calm_bert, id2label=names, label2id={label: k for k, label in names.items()}
    )
    torch.nn.init.normal_(model.classifier.bias)
    model.save_pretrained(tmp_path / "classifier")
    AutoTokenizer.from_pretrained(calm_bert).save_pretrained(tmp_path / "classifier")
    return tmp_path / "classifier"


def test_adapters_under_a_shared_head_are_what_they_become_alone(
    build: Build, classifier: Path, check_alone: Any, data: Path
) -> None:
    arguments = build(model_name_or_path=str(classifier), shared_head=True, learning_rate=1e-2)
    plan = plan_fleet(arguments)
    assert len(plan.trainable.start) == 4 * 40
    first = data.read_text().splitlines()[1].rpartition(",")[2]
    assert plan.data.collate([0])["labels"].tolist() == [("yes", "no").index(first)]
    train_fleet(arguments)
    for name in ("ann", "bob"):
        check_alone(arguments, name)


def test_the_head_is_that_of_the_base_whoever_asks(build: Build, classifier: Path, tmp_path: Path) -> None:
    arguments = build(model_name_or_path=str(classifier), shared_head=True, learning_rate=1e-2)
    train_fleet(arguments)
    with AdapterStore(arguments.store) as store:
        assert not store.get("ann").heads
        store.export("ann", tmp_path / "ann")
    trained = load_trained(tmp_path / "ann")
    assert trained.family.labels == ("yes", "no")
    base = AutoModelForSequenceClassification.from_pretrained(classifier)
    batch = AutoTokenizer.from_pretrained(classifier)(["the film is good", "a book"], padding=True, return_tensors="pt")
    with torch.no_grad():
        expected = trained.model(**batch).logits
        assert not torch.allclose(expected, base(**batch).logits, atol=1e-3)
    torch.testing.assert_close(FleetModel(base, arguments.store)(names=["ann"] * 2, **batch).logits, expected)


def test_a_head_for_other_classes_is_refused(build: Build, classifier: Path) -> None:
    config = json.loads((classifier / "config.json").read_text())
    config |= {"id2label": {"0": "up", "1": "down"}, "label2id": {"up": 0, "down": 1}}
    (classifier / "config.json").write_text(json.dumps(config))
    with pytest.raises(ConfigError, match="has the labels up, down, but the data has no, yes; rename"):
        plan_fleet(build(model_name_or_path=str(classifier), shared_head=True))


def test_classes_without_names_are_taken_in_the_order_of_the_data(build: Build, classifier: Path) -> None:
    config = json.loads((classifier / "config.json").read_text())
    del config["id2label"], config["label2id"]
    (classifier / "config.json").write_text(json.dumps(config))
    assert plan_fleet(build(model_name_or_path=str(classifier), shared_head=True)).setup.family.labels == ("no", "yes")


def test_a_language_model_has_its_head_anyway(build: Build, tiny_llama: Path, write: Any, tmp_path: Path) -> None:
    rows = [{"adapter": "up", "prompt": f"the {thing} is", "answer": "good"} for thing in ("film", "book")]
    file = write(rows, tmp_path / "answers.csv")
    given = {"model_name_or_path": str(tiny_llama), "train_file": str(file), "target_modules": ["q_proj"]}
    own, shared = (plan_fleet(build(**given, shared_head=choice)) for choice in (False, True))
    assert own.trainable.layout.digest == shared.trainable.layout.digest
