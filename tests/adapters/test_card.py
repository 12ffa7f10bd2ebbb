"""Model cards: what the hub reads in them, and code that loads what they stand beside."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import ModelCard

from fourierft.adapters.card import (
    OURS,
    PEFT,
    STOCK,
    TRANSFORMERS,
    Card,
    Score,
    describe_method,
    evaluation_note,
    loading_code,
    read_scores,
)

RECORD: dict[str, Any] = {
    "base_model": "someone/base", "revision": "v2", "method": "fourierft", "is_adapter": True, "data": "nyu-mll/glue",
    "heads": ["classifier"], "dtype": "bfloat16", "trust_remote_code": True, "settings": {"n_frequency": 5},
    "license": {"license": "other", "license_name": "house", "license_link": "LICENSE"},
    "loading": {
        "model_class": "AutoModelForSequenceClassification", "processor_class": "AutoTokenizer",
        "pipeline_tag": "text-classification",
        "options": {"num_labels": 2, "problem_type": "single_label_classification"},
    },
}  # fmt: skip
CONFIG = {"peft_type": "FOURIERFT", "n_frequency": 5}


def make_card(record: Mapping[str, Any] = RECORD, **changes: Any) -> Card:
    given: dict[str, Any] = {
        "title": "fourierft on base", "about": "About.", "record": record, "pipeline_tag": "text-classification",
        "facts": [("Base model", "`someone/base`")], "code": {"So": "pass"},
        "scores": [Score("matthews", 0.5, "validation")], "table": [("metric", "value"), ("a|b", "0.5")],
    }  # fmt: skip
    return Card(**{**given, **changes})


def test_the_hub_reads_base_license_task_and_scores(tmp_path: Path) -> None:
    make_card().write(tmp_path / "README.md")
    data = ModelCard.load(tmp_path / "README.md").data
    assert (data.base_model, data.base_model_relation, data.library_name) == ("someone/base", "adapter", "peft")
    assert (data.license, data.license_name, data.license_link) == ("other", "house", "LICENSE")
    assert (data.pipeline_tag, data.tags, data.datasets) == (
        "text-classification",
        ["fourierft"],
        ["nyu-mll/glue"],
    )
    (result,) = data.eval_results
    assert (result.metric_type, result.metric_name, result.metric_value) == ("matthews_correlation", "matthews", 0.5)
    assert (result.task_type, result.dataset_split) == ("text-classification", "validation")
    text = (tmp_path / "README.md").read_text()
    assert "\n- Base model: `someone/base`\n" in text
    assert "| a\\|b | 0.5 |" in text
    assert "So:\n\n```python\npass\n```" in text


def test_of_what_is_not_known_nothing_is_said(tmp_path: Path) -> None:
    record = {**RECORD, "base_model": str(tmp_path), "license": {}, "data": "rows.csv", "method": "lora"}
    make_card(record, scores=[], table=[]).write(tmp_path / "README.md")
    said = ModelCard.load(tmp_path / "README.md").data.to_dict()
    assert said == {
        "library_name": "peft",
        "pipeline_tag": "text-classification",
        "tags": ["fourierft", "lora"],
    }


@pytest.mark.parametrize("name", ["it's: a #1 film", "- dash", "no", "a\nb", "{x}", "Ünï"])
def test_any_name_makes_a_card_that_can_be_read(tmp_path: Path, name: str) -> None:
    make_card({**RECORD, "data": name}, title=name).write(tmp_path / "README.md")
    (result,) = ModelCard.load(tmp_path / "README.md").data.eval_results
    assert result.dataset_name == name


def test_code_names_revision_dtype_and_outputs() -> None:
    code = loading_code(RECORD, CONFIG, "me/mine")
    assert list(code) == [STOCK, OURS]
    for text in code.values():
        compile(text, "README.md", "exec")
        assert (
            'from_pretrained(\n    "someone/base",\n    revision="v2",\n    num_labels=2,\n'
            '    problem_type="single_label_classification",\n    ignore_mismatched_sizes=True,\n'
            '    dtype="bfloat16",\n    trust_remote_code=True,\n)' in text
        )
        assert 'PeftModel.from_pretrained(base, "me/mine")' in text
        assert 'AutoTokenizer.from_pretrained("me/mine", trust_remote_code=True)' in text
        assert "id2label" not in text
    assert "fourierft" not in code[STOCK]
    assert "fourierft.enable()" in code[OURS]


def test_code_names_the_labels_so_that_the_outputs_have_them(tiny_bert: Path) -> None:
    labels = ['it\'s "bad"', "good"]
    record = {**RECORD, "base_model": str(tiny_bert), "revision": "main", "dtype": "float32", "labels": labels}
    code = loading_code({**record, "trust_remote_code": False}, CONFIG)[STOCK]
    scope: dict[str, Any] = {}
    exec(code[: code.index("model = PeftModel")], scope)
    assert scope["base"].config.id2label == dict(enumerate(labels))
    assert scope["base"].config.label2id == {labels[0]: 0, labels[1]: 1}
    many = [str(number) for number in range(51)]
    loading = {**RECORD["loading"], "options": {"num_labels": 51}}
    assert "id2label" not in loading_code({**record, "loading": loading, "labels": many}, CONFIG)[STOCK]


@pytest.mark.parametrize(
    "said",
    [
        {"entries": "bandpass", "center": 1.0, "width": 2.0, "required": ["center", "entries", "width"]},
        {"parameters": True, "required": ["parameters"]},
        {"reads_weights": True},
        {"basis": "random", "required": ["basis"]},
    ],
)
def test_what_stock_peft_cannot_represent_is_loaded_with_fourierft_alone(said: dict[str, Any]) -> None:
    assert list(loading_code(RECORD, {**CONFIG, "fourierft": {"format": 2, **said}})) == [OURS]


def test_other_methods_have_the_code_that_suits_them() -> None:
    assert list(loading_code(RECORD, {"peft_type": "LORA"})) == [PEFT]
    assert list(loading_code({**RECORD, "method": "full"}, None)) == [TRANSFORMERS]
    assert "load_trained" in loading_code({**RECORD, "method": "bitfit"}, None)[OURS]
    assert "load_trained" in loading_code({**RECORD, "quantization": "nf4"}, CONFIG)[OURS]


def test_an_automatic_scale_is_told_with_what_it_came_to() -> None:
    record = {**RECORD, "settings": {"n_frequency": 5, "scaling": "auto", "target_modules": ["key", "query"]}}
    told = "fourierft, n_frequency=5, scaling=auto (310.5), target_modules=key+query"
    assert describe_method(record, {**CONFIG, "scaling": 310.5}) == told
    assert describe_method(record) == told.replace(" (310.5)", "")


def test_a_base_in_a_relative_folder_is_told_where_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my base").mkdir()
    monkeypatch.chdir(tmp_path)
    plain = "`fourierft evaluate . --test_file FILE`, in this folder, scores it on other data."
    assert evaluation_note(RECORD) == plain
    assert evaluation_note({**RECORD, "base_model": str(tmp_path)}) == plain
    moved = plain.replace("FILE", f"FILE --model_name_or_path '{tmp_path}/my base'")
    assert evaluation_note({**RECORD, "base_model": "my base"}) == moved


def test_scores_are_those_of_a_training_or_of_an_adapter_of_a_fleet() -> None:
    whole = {"eval": {"accuracy": 0.5, "runtime": 1.0, "steps_per_second": 2.0}, "test": {"f1": float("nan")}}
    assert read_scores({**whole, "train": {"loss": 1.0}}) == [Score("accuracy", 0.5, "validation")]
    assert read_scores({"f1": 0.25, "train_loss": 1.5, "steps": 3}) == [Score("f1", 0.25, "validation")]
    assert read_scores({"main_metric": "f1", "eval": {"loss": 1.5, "f1": 0.5}, "test": [1]}) == [
        Score("f1", 0.5, "validation"),
        Score("loss", 1.5, "validation"),
    ]
    assert read_scores({}) == []
