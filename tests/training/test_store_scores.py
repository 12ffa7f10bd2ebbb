"""A store's adapters scored on their own rows: as one by one, resumed, and compared with what they were."""

from __future__ import annotations

import csv
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fourierft import AdapterStore
from fourierft.cli.main import main
from fourierft.errors import BusyError, ConfigError, DataError, OutputExistsError
from fourierft.training import store_scores
from fourierft.training.arguments import Arguments, DataArguments
from fourierft.training.evaluation import evaluate
from fourierft.training.lock import alone_with
from fourierft.training.run import train
from fourierft.training.store_scores import StoreTest, find_fallen, read_scores, score_store


@pytest.fixture
def fleet(build: Callable[..., Arguments], tmp_path: Path) -> Path:
    """A store of a training and of two adapters like it, which lie beside it as folders too."""
    train(build(learning_rate=1e-2, max_steps=4, output_dir=str(tmp_path / "ann")))
    with AdapterStore(tmp_path / "fleet.db") as store:
        store.add("ann", tmp_path / "ann")
        ann = store.get("ann")
        for name, factor in (("bob", -3.0), ("cy", 30.0)):
            heads = {key: factor * tensor for key, tensor in ann.heads.items()}
            store.put(name, ann.layout, factor * ann.values, heads, record=ann.record)
            store.export(name, tmp_path / name)
    return tmp_path / "fleet.db"


@pytest.fixture
def rows(reviews: Path, tmp_path: Path) -> Path:
    """The reviews, each somebody's, and one of a stranger; a file of each one's own as well."""
    with reviews.open() as file:
        found = list(csv.DictReader(file))
    for k, row in enumerate(found):
        row["customer"] = ("ann", "bob", "cy")[k % 3]
    found.append({**found[0], "customer": "stranger"})
    for name in ("ann", "bob", "cy", ""):
        with (tmp_path / f"{name or 'all'}.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, list(found[0]))
            writer.writeheader()
            writer.writerows(row for row in found if name in ("", row["customer"]))
    return tmp_path / "all.csv"


def settings(rows: Path, **others: Any) -> StoreTest:
    return StoreTest(DataArguments(test_file=str(rows)), "customer", use_cpu=True, **others)


def test_scores_are_those_of_each_alone(fleet: Path, rows: Path, tmp_path: Path) -> None:
    told: list[str] = []
    with AdapterStore(fleet) as store:
        scores = score_store(store, settings(rows), tmp_path / "scores.jsonl", told.append)
    assert [line["name"] for line in scores] == ["ann", "bob", "cy"]
    for line in scores:
        alone = evaluate(
            tmp_path / line["name"], DataArguments(test_file=str(tmp_path / f"{line['name']}.csv")), use_cpu=True
        )
        assert line["metrics"]["accuracy"] == alone.metrics["accuracy"]
        assert line["metrics"]["loss"] == pytest.approx(alone.metrics["loss"], rel=1e-5)
        assert line["rows"] == len(alone.predictions)
    assert len({line["metrics"]["loss"] for line in scores}) == 3
    assert len(told) == 1
    assert "'stranger' is in the rows, but not in" in told[0]
    with AdapterStore(fleet) as store:
        bob = store.get("bob")
        store.put("bob", bob.layout, bob.values, bob.heads)  # without its record
        again = score_store(store, settings(rows), tmp_path / "again.jsonl", told.append)
    assert again == [scores[0], scores[2]]
    assert any(line.startswith("'bob' was not scored:") for line in told)


def test_a_stopped_one_goes_on(fleet: Path, rows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file, original = tmp_path / "scores.jsonl", store_scores.score_test
    scored: list[tuple[Any, ...]] = []

    def score(*arguments: Any, **options: Any) -> Any:
        if len(scored) == 2:
            raise KeyboardInterrupt
        scored.append(arguments)
        return original(*arguments, **options)

    with AdapterStore(fleet) as store:
        monkeypatch.setattr(store_scores, "score_test", score)
        with pytest.raises(KeyboardInterrupt):
            score_store(store, settings(rows), file)
        assert [line["name"] for line in read_scores(file)] == ["ann", "bob"]
        with file.open("a") as half:
            half.write('{"name": "cy", "ver')
        monkeypatch.setattr(store_scores, "score_test", lambda *a, **o: scored.append(a) or original(*a, **o))
        scores = score_store(store, settings(rows), file)
        assert len(scored) == 3
        assert score_store(store, settings(rows), tmp_path / "again.jsonl") == scores
        with pytest.raises(OutputExistsError, match="scores of another base, file or sample"):
            score_store(store, settings(rows, sample=2), file)
        drawn = score_store(store, settings(rows, sample=1, seed=3), tmp_path / "drawn.jsonl")
        assert [line["name"] for line in drawn] == random.Random(3).sample(["ann", "bob", "cy"], 1)
        with pytest.raises(ConfigError, match="sample=0 is too small"):
            score_store(store, settings(rows, sample=0), tmp_path / "none.jsonl")
        test = StoreTest(DataArguments(test_file=str(rows)), "label")
        with pytest.raises(DataError, match="no row names an adapter"):
            score_store(store, test, tmp_path / "none.jsonl")
    assert not (tmp_path / "none.jsonl").exists()


def test_an_adapter_that_is_removed_meanwhile_is_told_and_costs_no_other(
    fleet: Path, rows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    with AdapterStore(fleet) as store:
        begin = store_scores._begin
        monkeypatch.setattr(store_scores, "_begin", lambda *given: store.remove("bob") and begin(*given))
        scores = score_store(store, settings(rows), tmp_path / "scores.jsonl", told.append)
    assert [line["name"] for line in scores] == ["ann", "cy"]
    assert any(line.startswith("'bob' was not scored: ") and "has no adapter 'bob'" in line for line in told)


def test_a_file_that_another_process_writes_is_left_to_it(fleet: Path, rows: Path, tmp_path: Path) -> None:
    with AdapterStore(fleet) as store:
        with alone_with(tmp_path / "scores.jsonl"), pytest.raises(BusyError, match=r"has been writing into .* since"):
            score_store(store, settings(rows), tmp_path / "scores.jsonl")
        assert len(score_store(store, settings(rows), tmp_path / "scores.jsonl")) == 3
    assert not list(tmp_path.glob(".*.pid"))


def test_those_that_fell_are_found_the_worst_first() -> None:
    def lines(main: str, **values: float) -> list[dict[str, Any]]:
        return [{"name": name, "main": main, "metrics": {main: value}} for name, value in values.items()]

    before, now = lines("accuracy", a=0.9, b=0.8, c=0.7, d=0.6), lines("accuracy", a=0.5, b=0.795, c=0.6, d=0.9, e=0.1)
    assert [(fall.name, round(fall.size, 6)) for fall in find_fallen(before, now, 0.01)] == [("a", 0.4), ("c", 0.1)]
    assert [fall.name for fall in find_fallen(lines("rmse", a=1.0, b=1.0), lines("rmse", a=2.0, b=0.5), 0.01)] == ["a"]


def test_command_lists_what_fell(fleet: Path, rows: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    call = ["store", "evaluate", str(fleet), "--test_file", str(rows), "--adapter_column", "customer", "--use_cpu"]
    before, now = tmp_path / "before.jsonl", tmp_path / "now.jsonl"
    assert main([*call, "--output", str(before)]) == 0
    assert f"scored 3 adapters; {before} has the scores" in capsys.readouterr().out
    assert main([*call, "--output", str(before), "--before", str(before)]) == 0
    assert "scored 3 adapters, none fell" in capsys.readouterr().out
    better = [json.loads(line) for line in before.read_text().splitlines()]
    for line in better[1:]:
        line["metrics"]["accuracy"] += 0.005 if line["name"] != "bob" else 0.3
    (tmp_path / "better.jsonl").write_text("".join(json.dumps(line) + "\n" for line in better))
    assert main([*call, "--output", str(now), "--before", str(tmp_path / "better.jsonl")]) == 1
    out = capsys.readouterr().out
    assert "scored 3 adapters, 1 fell" in out
    assert [line.split()[0] for line in out.splitlines()[2:-1]] == ["bob"]
    assert main([*call, "--output", str(tmp_path / "x"), "--before", str(rows)]) == 2
    assert "is not what `fourierft store evaluate` writes" in capsys.readouterr().err
