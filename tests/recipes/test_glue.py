"""The recipes of GLUE: the paper's numbers, columns that are there, and trainings on data of GLUE's layout."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from fourierft.training.methods import check_method
from fourierft.training.run import train
from fourierft.training.settings import build_arguments, read_config, settings_parser
from fourierft.tuner.paper import PAPER_RUNS, SEED
from lab.paper.published import read_paper

FOLDER = Path(__file__).parents[2] / "recipes" / "glue"
SIZES = ("base", "large")
GLUE: dict[str, tuple[tuple[str, ...], Sequence[str]]] = {  # columns of text, classes; STS-B has a number
    "sst2": (("sentence",), ("negative", "positive")),
    "cola": (("sentence",), ("unacceptable", "acceptable")),
    "mrpc": (("sentence1", "sentence2"), ("not_equivalent", "equivalent")),
    "rte": (("sentence1", "sentence2"), ("entailment", "not_entailment")),
    "stsb": (("sentence1", "sentence2"), ()),
    "qnli": (("question", "sentence"), ("entailment", "not_entailment")),
    "qqp": (("question1", "question2"), ("not_duplicate", "duplicate")),
    "mnli": (("premise", "hypothesis"), ("entailment", "neutral", "contradiction")),
}
SPLITS = {"train": 40, "validation": 10, "test": 6}
IN_THE_PAPER = sorted({task for task, model in PAPER_RUNS if model == "roberta-base"})
METRICS = {"cola": "matthews", "stsb": "pearson"}  # the others: accuracy


@pytest.fixture(scope="session")
def glue(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Directory of a data set with the configurations of GLUE, in tiny_bert's words."""
    from datasets import ClassLabel, Dataset, Features, Value

    directory, card = tmp_path_factory.mktemp("glue"), ["---", "configs:"]
    draw = random.Random(0)
    for task, (columns, classes) in GLUE.items():
        label = ClassLabel(names=list(classes)) if classes else Value("float32")
        features = Features({**{name: Value("string") for name in columns}, "label": label, "idx": Value("int32")})
        card += [f"- config_name: {task}", "  data_files:"]
        for split, size in SPLITS.items():
            halves = (f"{split}_matched", f"{split}_mismatched")
            for part in halves if task == "mnli" and split != "train" else (split,):
                rows = [_make_row(draw, columns, len(classes), part, index) for index in range(size)]
                folder = directory / task
                folder.mkdir(exist_ok=True)
                Dataset.from_list(rows, features=features).to_parquet(folder / f"{part}.parquet")
                card += [f"  - split: {part}", f"    path: {task}/{part}.parquet"]
    (directory / "README.md").write_text("\n".join([*card, "---", ""]))
    return directory


def _make_row(draw: random.Random, columns: Sequence[str], classes: int, split: str, index: int) -> dict[str, object]:
    is_good = draw.random() < 0.5
    text = f"the film is {draw.choice(['good', 'great'] if is_good else ['bad', 'awful'])}"
    label: float = round(draw.random() * 5, 2) if not classes else (is_good + index) % classes
    hidden = -1 if split.startswith("test") else label
    return {**dict.fromkeys(columns, text), "label": hidden, "idx": index}


def test_there_is_a_recipe_for_each_task_and_size() -> None:
    assert {path.stem for path in FOLDER.iterdir()} == {f"{task}-{size}" for task in GLUE for size in SIZES}
    assert len(IN_THE_PAPER) == 6


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("task", IN_THE_PAPER)
def test_recipe_is_the_row_of_table_9(task: str, size: str) -> None:
    run, recipe = PAPER_RUNS[task, f"roberta-{size}"], read_config(FOLDER / f"{task}-{size}.yaml")
    expected = {
        "num_train_epochs": run.epochs,
        "learning_rate": run.learning_rate,
        "head_learning_rate": run.head_learning_rate,
        "max_length": run.max_length,
        "per_device_train_batch_size": run.batch_size,
        "warmup_steps": run.warmup_ratio,
        "weight_decay": run.weight_decay,
        "lr_scheduler_type": "linear",
        "n_frequency": run.n_frequency,
        "random_loc_seed": SEED,
        "init_weights": False,
        "method": "fourierft",
    }
    assert {name: recipe[name] for name in expected} == expected
    assert float(recipe["scaling"]) == run.scaling


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("task", IN_THE_PAPER)
def test_recipe_names_the_papers_scores_and_flags_that_are_understood(task: str, size: str) -> None:
    file, table = FOLDER / f"{task}-{size}.yaml", read_paper()["table2"]
    column = list(table["metric"]).index(task)
    scores = {name: row["scores"][column] for name, row in table[f"roberta-{size}"].items()}
    text = file.read_text()
    assert f"# In the paper {scores['fourierft']}. " in text
    rows = re.findall(r"^#   (\S+).*?  ([\d.]+)  (--method .+)$", text, re.MULTILINE)
    assert {name.lower() for name, _, _ in rows} == {"lora", "full"} | ({"adalora", "bitfit"} & scores.keys())
    for name, score, flags in rows:
        assert float(score) == scores[name.lower()]
        given = vars(settings_parser().parse_args(flags.split()))
        arguments = build_arguments({**read_config(file), **given, "output_dir": "o"})
        assert check_method(arguments.method.method) is None
        assert arguments.training.learning_rate == arguments.method.head_learning_rate


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("task", GLUE)
def test_recipe_names_its_model_data_metric_and_command(task: str, size: str) -> None:
    file = FOLDER / f"{task}-{size}.yaml"
    recipe = read_config(file)
    assert recipe["model_name_or_path"] == f"FacebookAI/roberta-{size}"
    assert (recipe["dataset_name"], recipe["dataset_config_name"]) == ("nyu-mll/glue", task)
    assert tuple(recipe["text_column"]) == GLUE[task][0]
    assert recipe["metric_for_best_model"] == METRICS.get(task, "accuracy")
    assert (recipe["eval_strategy"], recipe["load_best_model_at_end"]) == ("epoch", True)
    assert recipe["target_modules"] == ["query", "value"]
    command = f"# fourierft train --config recipes/glue/{file.name} --output_dir runs/{file.stem}"
    assert file.read_text().splitlines()[0] == command
    build_arguments({**recipe, "output_dir": "o"})


@pytest.mark.parametrize(
    ("task", "metrics"),
    [
        ("mrpc", {"accuracy", "f1", "f1_macro", "matthews"}),
        ("stsb", {"pearson", "spearman", "rmse"}),
        ("mnli", {"accuracy", "f1_macro", "matthews"}),
    ],
)
def test_recipe_trains_on_data_of_glues_layout(
    glue: Path, tiny_bert: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], task: str, metrics: set[str]
) -> None:
    here: dict[str, Any] = {"model_name_or_path": str(tiny_bert), "dataset_name": str(glue), "max_length": 16}
    small = {"n_frequency": 20, "num_train_epochs": 2, "use_cpu": True, "output_dir": str(tmp_path / "out")}
    result = train(build_arguments({**read_config(FOLDER / f"{task}-base.yaml"), **here, **small}))
    assert metrics <= set(result["eval"])
    assert {result["best"]["step"], result["last"]["step"]} <= {2, 4}
    assert result["saved"] == "best"
    if task == "mnli":  # the mismatched set
        assert result["rows"] == {"train": 40, "validation": 10, "test": 10}
        assert metrics <= set(result["test"])
    if task == "mrpc":
        assert "no test rows, as their labels are hidden (-1)" in capsys.readouterr().out
        assert "test" not in result


def test_recipe_takes_the_automatic_scale_by_flags(glue: Path, tiny_bert: Path, tmp_path: Path) -> None:
    recipe = {**read_config(FOLDER / "rte-large.yaml"), "model_name_or_path": str(tiny_bert), "dataset_name": str(glue)}
    auto = {"scaling": "auto", "init_weights": True, "learning_rate": 2e-3, "max_length": 16, "n_frequency": 20}
    result = train(build_arguments({**recipe, **auto, "max_steps": 1, "output_dir": str(tmp_path / "o")}))
    assert result["method"]["scaling"] == "auto"
