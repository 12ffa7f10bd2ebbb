"""Task files: the grid in its order, and what is refused before anything is fetched or trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fourierft.errors import ConfigError
from fourierft.training.comparison.sources import DATA, MODELS
from fourierft.training.comparison.tasks import read_task

RECIPES = sorted((Path(__file__).parents[3] / "recipes" / "compare").glob("*.yaml"))


def test_runs_go_breadth_first_from_the_middle_rate(task_file: Path) -> None:
    task = read_task(task_file).change(["head", "lora:8", "full"], seeds=[0, 1])
    rates: list[Any] = ["1e-4", "1e-3", "1e-2"]  # as YAML reads them
    task = task.change(learning_rates=rates)
    order = [(run.seed, run.learning_rate, run.method.spec) for run in task.runs()]
    assert order[:5] == [
        (0, 1e-2, "head"),
        (0, 1e-3, "lora:8"),
        (0, 1e-3, "full"),
        (0, 1e-4, "lora:8"),
        (0, 1e-4, "full"),
    ]
    assert [seed for seed, _, _ in order] == [0] * 7 + [1] * 7


def test_a_method_may_have_rates_of_its_own(task_file: Path) -> None:
    with task_file.open("a") as file:
        file.write("method_learning_rates: {lora: [5e-4], 'lora:8': [7e-4]}\n")
    task = read_task(task_file)
    rates = {method.spec: task.rates_of(method) for method in task.methods}
    assert rates == {"head": (1e-2,), "lora:8": (7e-4,), "fourierft:50": (1e-3, 1e-2)}


def test_sets_of_layers_serve_methods_of_the_file_and_given_ones(task_file: Path) -> None:
    text = task_file.read_text().replace("methods: [", 'methods: ["lora:2,layers=all", ')
    task_file.write_text(text + "layers: {all: [query, value, key]}\n")
    task = read_task(task_file)
    for method in (task.methods[0], task.change(["lora:2,layers=all"]).methods[0]):
        assert method.config is not None
        assert method.config["target_modules"] == ["query", "value", "key"]
    task_file.write_text(text + "layers: {all: []}\n")
    with pytest.raises(ConfigError, match="write a mapping of names to lists of layers"):
        read_task(task_file)


def test_protocol_follows_content_not_place(task_file: Path, tmp_path: Path) -> None:
    first = read_task(task_file)
    moved = tmp_path / "moved.csv"
    moved.write_text((tmp_path / "rows.csv").read_text())
    task_file.write_text(task_file.read_text().replace("rows.csv", "moved.csv"))
    second = read_task(task_file)
    assert first.protocol(first.prepare()) == second.protocol(second.prepare())
    moved.write_text(moved.read_text() + "a book,no\n")
    assert first.protocol(first.prepare()) != second.protocol(second.prepare())


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_recipe_begins_with_its_command_and_is_read(recipe: Path) -> None:
    assert recipe.read_text().splitlines()[0] == f"# fourierft compare recipes/compare/{recipe.name}"
    task = read_task(recipe)
    assert task.assets["model_asset"] in MODELS
    assert task.assets["data_asset"] in DATA
    specs = {method.spec for method in task.methods}
    assert {"head", "lora:8,layers=all"} <= specs
    assert any(spec.startswith("fourierft:3") and spec.endswith(",layers=all") for spec in specs)


def test_there_are_recipes() -> None:
    assert {path.stem for path in RECIPES} >= {"movies", "ratings", "instructions", "digits"}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("learning_rates: [0.0]", r"learning_rates=\[0.0\] is not a list of positive numbers"),
        ("learning_rates: fast", "learning_rates=fast is not a list of positive numbers"),
        ("methods: []", r"methods=\[\]; list at least one"),
        ("methods: [loar]", "method loar is unknown; did you mean lora"),
        ("seeds: [one]", r"seeds=\['one'\] is not a list of whole numbers"),
        ("method_learning_rates: [1]", "write a mapping of methods"),
        ("seed: 3", "sets seed, which the grid sets; remove it"),
        ("max_stepz: 3", "unknown key max_stepz; did you mean max_steps"),
        ("data_asset: movies", "has train_rows=None; use a number of rows"),
    ],
)
def test_wrong_key_or_value_is_refused(task_file: Path, line: str, message: str) -> None:
    key = line.partition(":")[0]
    kept = [old for old in task_file.read_text().splitlines() if not old.startswith(f"{key}:")]
    task_file.write_text("\n".join([*kept, line]) + "\n")
    with pytest.raises(ConfigError, match=message):
        read_task(task_file)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("model_asset: gpt", "model_asset=gpt is unknown; use one of minilm"),
        ("data_asset: x", "data_asset=x is unknown"),
    ],
)
def test_unknown_word_is_refused(task_file: Path, line: str, message: str) -> None:
    with task_file.open("a") as file:
        file.write(f"{line}\ntrain_rows: 4\nvalidation_rows: 4\n")
    with pytest.raises(ConfigError, match=message):
        read_task(task_file).prepare()


def test_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^task file .*none\.yaml can't be read"):
        read_task(tmp_path / "none.yaml")
