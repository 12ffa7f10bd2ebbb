"""The image recipes: the paper's numbers, and a run of each way to use them on tiny models."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from datasets import Dataset, Features, Image, Value
from PIL import Image as Pillow

from fourierft.errors import ConfigError
from fourierft.training.comparison import sources
from fourierft.training.run import train
from fourierft.training.settings import build_arguments, read_config
from fourierft.tuner.paper import PAPER_RUNS, SEED, paper_run
from lab.paper.published import read_paper

TABLE_5 = ("pets", "cars", "cifar10", "dtd", "eurosat", "fgvc", "resisc45", "cifar100")
RECIPES = Path(__file__).parents[2] / "recipes" / "images"
RUNS = [key for key in PAPER_RUNS if key[1].startswith("vit")]
HUB = {"vit-base": "google/vit-base-patch16-224-in21k", "vit-large": "google/vit-large-patch16-224-in21k"}


def test_every_image_run_of_the_paper_has_a_recipe() -> None:
    assert len(RUNS) == 16
    assert {path.stem for path in RECIPES.iterdir()} == {f"{task}-{model}" for task, model in RUNS}


@pytest.mark.parametrize(("task", "model"), RUNS)
def test_recipe_has_the_papers_numbers(task: str, model: str) -> None:
    path, paper = RECIPES / f"{task}-{model}.yaml", paper_run(task, model)
    settings = build_arguments({**read_config(path), "output_dir": "unused", "use_cpu": True})
    method, training = settings.method, settings.training
    assert settings.model.model_name_or_path == HUB[model]
    assert (method.method, method.n_frequency, float(method.scaling)) == ("fourierft", paper.n_frequency, paper.scaling)
    assert (method.random_loc_seed, method.init_weights) == (SEED, False)
    assert (training.learning_rate, method.head_learning_rate) == (paper.learning_rate, paper.head_learning_rate)
    assert (training.weight_decay, training.num_train_epochs) == (paper.weight_decay, paper.epochs)
    assert training.per_device_train_batch_size * training.gradient_accumulation_steps == paper.batch_size
    assert (training.lr_scheduler_type, training.warmup_steps) == ("linear", paper.warmup_ratio)
    assert training.load_best_model_at_end
    assert path.read_text().startswith(f"# fourierft train --config recipes/images/{path.name} --output_dir")


@pytest.mark.parametrize(("task", "model"), RUNS)
def test_head_of_a_recipe_has_the_accuracies_of_table_5(task: str, model: str) -> None:
    words = " ".join((RECIPES / f"{task}-{model}.yaml").read_text().replace("#", " ").split())
    table, place = read_paper()["table5"][model], TABLE_5.index(task)
    heads = {"fourierft_3000": "in the paper", "fourierft_10000": "n=10,000", "lora_r16": "LoRA r=16"}
    for row, head in {**heads, "linear_probe": "linear probe", "full": " full"}.items():
        assert f"{head} {table[row][place]:.2f}" in words


@pytest.fixture(scope="module")
def tiny_vit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Directory of a random ViT, 2 layers x 64, patches of 8, made for images of 16, with its image processor."""
    from transformers import ViTConfig, ViTImageProcessorPil, ViTModel

    directory = tmp_path_factory.mktemp("tiny_vit")
    settings: dict[str, Any] = {
        "hidden_size": 64,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
    }
    ViTModel(ViTConfig(**settings, image_size=16, patch_size=8), add_pooling_layer=False).save_pretrained(directory)
    ViTImageProcessorPil(size={"height": 16, "width": 16}).save_pretrained(directory)
    return directory


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """A parquet file of 20 images of two classes."""
    draw = np.random.default_rng(0)
    noise = [Pillow.fromarray(draw.integers(0, 255, (12, 14, 3), dtype=np.uint8)) for _ in range(20)]
    rows = {"image": noise, "label": ["cat", "dog"] * 10}
    Dataset.from_dict(rows, features=Features({"image": Image(), "label": Value("string")})).to_parquet(
        tmp_path / "pictures.parquet"
    )
    return tmp_path / "pictures.parquet"


def flags(text: str) -> dict[str, Any]:
    """The settings of a line of the recipe's head."""
    words = re.findall(r"--(\w+) (\S+)", text)
    return {name: float(value) if re.fullmatch(r"[\d.e-]+", value) else value for name, value in words}


def documented() -> dict[str, dict[str, Any]]:
    """The rows of the paper's table, by the flags that the recipes give for them."""
    lines = (RECIPES / "pets-vit-base.yaml").read_text().splitlines()
    return {line[4:18].strip(): flags(line) for line in lines if line.startswith("#   ")}


@pytest.mark.parametrize(
    ("way", "trained"),
    [
        ("FourierFT", 4 * 3000),
        ("LoRA r=16", 4 * 2 * 64 * 16),
        ("linear probe", 0),
        ("full", None),
        ("DINOv2", 4 * 3000),
    ],
)
def test_recipe_runs_on_a_tiny_model(
    way: str, trained: int | None, tiny_vit: Path, tiny_dinov2: Path, pictures: Path, tmp_path: Path
) -> None:
    given: dict[str, Any] = {
        "model_name_or_path": str(tiny_dinov2 if way == "DINOv2" else tiny_vit),
        "train_file": str(pictures),
    }
    given |= {"dataset_name": None, "output_dir": str(tmp_path / "out"), "dataloader_num_workers": 0, "use_cpu": True}
    asked = documented().get(way, {})
    asked |= {name: int(asked[name]) for name in ("lora_r",) if name in asked}
    recipe = read_config(RECIPES / "pets-vit-base.yaml")
    metrics = train(build_arguments({**recipe, **given, **asked, "num_train_epochs": 2, "disable_tqdm": True}))
    assert metrics["method"]["name"] == str(asked.get("method", "fourierft"))
    assert metrics["rows"] == {"train": 18, "validation": 2}
    if trained is not None:
        assert metrics["parameters"]["adapter"] == trained
    assert metrics["parameters"]["head"] == (2 * 64 if way == "DINOv2" else 64) * 2 + 2


def test_stand_in_trains_what_its_words_name(
    tiny_dinov2: Path, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FOURIERFT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setitem(sources.MODELS, "dinov2", lambda: tiny_dinov2)
    rows = Dataset.from_parquet(str(pictures)).cast_column("image", Image(decode=False))
    monkeypatch.setitem(sources.DATA, "digits", lambda: list(rows))
    given: dict[str, Any] = {
        **read_config(RECIPES.parent / "stand-ins" / "digits.yaml"),
        "train_rows": 12,
        "validation_rows": 8,
    }
    metrics = train(build_arguments({**given, "output_dir": str(tmp_path / "out"), "use_cpu": True}))
    assert metrics["rows"] == {"train": 12, "validation": 8}
    assert metrics["parameters"]["adapter"] == 2 * 6 * 340  # the linear layers of two blocks
    with pytest.raises(ConfigError, match="model_asset=vgg is unknown; use one of minilm, smollm2, dinov2"):
        build_arguments({**given, "model_asset": "vgg", "output_dir": "unused"})
    own = build_arguments({**given, "model_name_or_path": "mine", "train_file": "mine.csv", "output_dir": "unused"})
    assert (own.model.model_name_or_path, own.data.train_file) == ("mine", "mine.csv")


def test_head_of_a_recipe_names_all_rows_of_the_table() -> None:
    ways = documented()
    assert list(ways) == ["n=10,000", "LoRA r=16", "linear probe", "full"]
    assert ways["n=10,000"] == {"n_frequency": 10000}
