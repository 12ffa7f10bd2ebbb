"""The models of a comparison write texts: those of a run, and those of the base in the row of `head`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fourierft.errors import ConfigError
from fourierft.training.arguments import DataArguments
from fourierft.training.comparison.grid import run_grid
from fourierft.training.comparison.page import write_summary
from fourierft.training.comparison.results import summarize
from fourierft.training.comparison.tasks import read_task
from fourierft.training.comparison.texts import held_out
from fourierft.training.generation.decoding import Decoding
from fourierft.training.generation.run import generate


@pytest.fixture
def task_file(tiny_llama: Path, tmp_path: Path) -> Path:
    """A task file: two steps on eight prompts, their base and one method, texts of four tokens."""
    rows = [{"mr": f"the {noun} {k % 2}", "ref": f"a {noun} is good"} for k, noun in enumerate(["film", "book"] * 4)]
    (tmp_path / "rows.json").write_text(json.dumps(rows))
    (tmp_path / "films.yaml").write_text(
        f"""
model_name_or_path: {tiny_llama}
train_file: {tmp_path / "rows.json"}
validation_file: {tmp_path / "rows.json"}
task: answers
target_modules: [q_proj, v_proj]
max_steps: 2
use_cpu: true
methods: [head, "fourierft:50"]
learning_rates: [1e-1]
generate: {{num_beams: 2, max_new_tokens: 4}}
"""
    )
    return tmp_path / "films.yaml"


def test_rows_hold_the_scores_of_what_each_model_writes(task_file: Path, tmp_path: Path) -> None:
    task = read_task(task_file)
    rows = run_grid(task, tmp_path / "out", keep=True, tell=lambda line: None)
    before, after = (row["texts"] for row in rows)
    assert (after["items"], after["references"]) == (2, 8)  # eight rows of two prompts
    assert after["decoding"]["num_beams"] == 2
    data = DataArguments(test_file=str(tmp_path / "rows.json"))
    folder = tmp_path / "out" / "runs" / rows[1]["key"]
    again = generate(folder, data, tmp_path / "again", Decoding(2, max_new_tokens=4), use_cpu=True, quiet=True)
    base = generate(
        *(folder, data, tmp_path / "base", Decoding(2, max_new_tokens=4)),
        use_cpu=True,
        quiet=True,
        without_adapter=True,
    )
    for name in ("bleu", "nist", "meteor", "rouge_l", "cider"):
        assert (before[name], after[name]) == (base[name], again[name])
    assert [example["references"] for example in before["examples"]] == [["a film is good"] * 4, ["a book is good"] * 4]
    page = write_summary(rows, summarize(rows), [], tmp_path).read_text()
    assert "| texts | BLEU | NIST | METEOR | ROUGE-L | CIDEr |" in page
    assert f"| FourierFT n=50 | {after['bleu']:.2f} | {after['nist']:.2f} |" in page


def test_search_is_part_of_the_protocol(task_file: Path) -> None:
    task = read_task(task_file)
    task_file.write_text(task_file.read_text().replace("num_beams: 2", "num_beams: 3"))
    assert read_task(task_file).protocol({}) != task.protocol({})


@pytest.mark.parametrize("value", ["4", "{beams: 4}"])
def test_search_with_an_unknown_field_is_refused(task_file: Path, value: str) -> None:
    text = task_file.read_text()
    task_file.write_text(text[: text.index("generate:")] + f"generate: {value}\n")
    with pytest.raises(ConfigError, match="write a mapping of num_beams, length_penalty"):
        read_task(task_file)


def test_test_data_is_written_for_if_there_is_any() -> None:
    assert held_out(DataArguments(test_file="a", validation_file="b")).test_file == "a"
    assert held_out(DataArguments(validation_file="b")).test_file == "b"
    assert held_out(DataArguments(dataset_name="c")).test_file is None
