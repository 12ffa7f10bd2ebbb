"""Every suite runs in small, its gate notices a wrong result, and the goals name cases that exist."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import pytest
import torch

from fourierft.errors import ConfigError
from lab.bench import harness, stage
from lab.bench.figures import COMMANDS
from lab.bench.goals import GOALS
from lab.bench.harness import Case, Settings, UnequalError, run_case
from lab.bench.methods import LABELS
from lab.bench.run import list_cases, run_suites
from lab.bench.suites import SUITES
from lab.bench.suites.decoding import choose
from lab.bench.suites.injection import entries_distance
from lab.bench.suites.layer import Layer
from lab.ledger import read_folder

SMOKE = Settings(rounds=1, threads=1, grid="smoke")
pytestmark = [
    # transformers deprecates a property that PEFT 0.21 still reads
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"),
]


def cases_of(suite: str, settings: Settings = SMOKE) -> list[Case]:
    return list(importlib.import_module(f"lab.bench.suites.{suite}").cases(settings))


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Times are not what is tested: one repetition a sample, and no measure of the machine."""
    monkeypatch.setattr(harness, "MIN_SAMPLE_SECONDS", 1e-9)
    monkeypatch.setattr(harness, "product_rate", lambda settings: 1e9)


@pytest.mark.usefixtures("hurried")
@pytest.mark.parametrize("suite", SUITES)
def test_suite_runs_in_small_and_everything_of_ours_has_passed_its_gate(suite: str):
    for case in cases_of(suite):
        if "peak" in case.name:
            continue  # has a test of its own
        rows = run_case(suite, case, SMOKE)
        checked = [row for row in rows if row["contender"].startswith("ours")]
        assert checked, case.name
        assert all(row["error"] <= case.tolerance["float32"] for row in checked)
        assert {row["contender"] for row in rows} <= set(LABELS)


def test_peak_resident_size_is_that_of_a_process_of_its_own():
    case = next(case for case in cases_of("memory") if "peak" in case.name)
    (row,) = run_case("memory", case, Settings(rounds=1, threads=1, grid="smoke", only=("nothing",)))
    assert row["contender"] == "base"
    assert 2**26 < row["median"] < 2**32


@pytest.mark.parametrize("goal", [goal for goal in GOALS if goal.suite not in COMMANDS], ids=lambda goal: goal.text)
def test_goal_names_a_case_and_contenders_of_its_suite(goal):
    case = next(case for case in cases_of(goal.suite, Settings()) if case.name == goal.case)
    assert goal.needed <= set(case.contenders)


@pytest.mark.parametrize("suite", SUITES)
@pytest.mark.parametrize("grid", ["small", "full"])
def test_cases_of_a_suite_have_different_names(suite: str, grid: str):
    names = [case.name for case in cases_of(suite, Settings(grid=grid))]
    assert len(names) == len(set(names))


def test_layer_with_other_coefficients_is_refused(monkeypatch: pytest.MonkeyPatch):
    forward_of = Layer.forward_of

    def tilted(layer: Layer, method: str):
        forward, trained = forward_of(layer, method)
        return (lambda x: 1.001 * forward(x)) if method == "ours" else forward, trained

    monkeypatch.setattr(Layer, "forward_of", tilted)
    with pytest.raises(UnequalError, match=r"ours is 1.0e-03"):
        run_case("layer", cases_of("layer")[-1], SMOKE)


def test_a_case_that_fails_is_told_and_the_others_run(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    def tilted(layer: Layer, method: str):
        forward, trained = forward_of(layer, method)
        return (lambda x: 1.001 * forward(x)) if layer.tokens == 1 else forward, trained

    forward_of = Layer.forward_of
    monkeypatch.setattr(Layer, "forward_of", tilted)
    settings = Settings(rounds=1, threads=1, grid="smoke", only=("ours",), match="64x64", keep_going=True)
    count, failed = run_suites(["layer"], settings, tmp_path)
    assert failed == [f"layer: 64x64, 1 tokens, n=50, {direction}" for direction in ("forward", "forward+backward")]
    assert len(read_folder(tmp_path)) == count == 4
    assert "ours is 1.0e-03" in capsys.readouterr().err


@pytest.mark.parametrize("suite", ["training_step", "decoding", "merging"])
def test_model_with_other_coefficients_is_refused(suite: str, monkeypatch: pytest.MonkeyPatch):
    def filled(model: torch.nn.Module, coefficients: dict[str, torch.Tensor], adapter: str) -> None:
        fill(model, {path: 1.05 * c for path, c in coefficients.items()}, adapter)

    fill = stage.fill
    monkeypatch.setattr(stage, "fill", filled)
    with pytest.raises(UnequalError, match="ours is"):
        run_case(suite, cases_of(suite)[0], Settings(rounds=1, threads=1, grid="smoke", only=("ours",)))


def test_gradient_of_another_adapter_is_noticed():
    staged = stage.Stage("roberta-base", SMOKE)
    model = staged.adapted("ours", train=True)
    assert staged.distance(model) < 1e-5
    stage.fill(model, staged.coefficients(seed=1))
    assert staged.distance(model) > 1e-2


def test_entries_of_another_seed_are_noticed(monkeypatch: pytest.MonkeyPatch):
    staged = stage.Stage("llama-2048", SMOKE)
    layers = {path: staged.base.get_submodule(path) for path in staged.paths}
    assert entries_distance(staged.adapted("ours"), layers) == 0
    monkeypatch.setattr("lab.bench.methods.SEED", 778)
    assert entries_distance(staged.adapted("ours"), layers) == float("inf")


def test_contenders_share_the_weights_of_the_base_but_not_its_head():
    staged = stage.Stage("roberta-base", SMOKE)
    model = staged.adapted("base", train=True)
    path = staged.paths[0]
    assert model.get_submodule(path).weight is staged.base.get_submodule(path).weight
    assert model.classifier.dense.weight is not staged.base.classifier.dense.weight


@pytest.mark.parametrize("popularity", ["distinct", "uniform", "Zipf", "identical"])
def test_popularity_gives_each_row_an_adapter(popularity: str):
    chosen = choose(popularity, 16, 16)
    assert len(chosen) == 16
    assert set(chosen) <= set(range(16))
    assert choose(popularity, 16, 16) == chosen, "the same in every run"


def test_popularities_differ_in_the_number_of_adapters():
    counts = {name: len(set(choose(name, 16, 16))) for name in ("distinct", "uniform", "Zipf", "identical")}
    assert counts["distinct"] == 16
    assert counts["identical"] == 1
    assert 16 > counts["uniform"] > 1
    assert counts["uniform"] >= counts["Zipf"] > 1


def test_known_rows_are_skipped_and_fresh_measures_them_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("lab.bench.run.code", lambda: "abc")
    monkeypatch.setattr("lab.bench.machine.code", lambda: "abc")
    settings: dict[str, Any] = {
        "rounds": 1,
        "threads": torch.get_num_threads(),
        "grid": "smoke",
        "match": "64x64, 1 tokens",
    }
    only: dict[str, Any] = {"only": ("ours",)}
    assert run_suites(["layer"], Settings(**settings, **only), tmp_path) == (4, [])
    assert run_suites(["layer"], Settings(**settings, **only), tmp_path) == (0, [])
    assert run_suites(["layer"], Settings(**settings, **only, fresh=True), tmp_path) == (4, [])
    assert len(read_folder(tmp_path)) == 8


def test_unknown_suite_contender_and_case_are_refused():
    with pytest.raises(ConfigError, match="unknown suite nothing; choose from every_layer, every_decoding"):
        run_suites(["nothing"], SMOKE, None)
    with pytest.raises(ConfigError, match="unknown contender nobody; choose from base"):
        run_suites(["layer"], Settings(grid="smoke", only=("nobody",)), None)
    with pytest.raises(ConfigError, match="nowhere"):
        run_suites(["layer"], Settings(grid="smoke", match="nowhere"), None)


def test_list_names_suites_then_cases_with_their_contenders():
    assert [line.split()[0] for line in list_cases([], SMOKE).splitlines()] == list(SUITES)
    assert "layer: 64x64, 1 tokens, n=50, forward   [base stock" in list_cases(["layer"], SMOKE)
