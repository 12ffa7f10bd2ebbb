"""The recipes of instruction tuning say what the paper's Table 11 says, and train as written but for model and data."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from fourierft.training.run import train
from fourierft.training.settings import build_arguments, read_config
from fourierft.tuner.paper import SEED, paper_run

FOLDER = Path(__file__).parents[2] / "recipes" / "instructions"
PAPER = {
    "llama-7b": ("llama-1-7b", "huggyllama/llama-7b"),
    "llama-13b": ("llama-1-13b", "huggyllama/llama-13b"),
    "llama2-7b": ("llama-2-7b", "meta-llama/Llama-2-7b-hf"),
    "llama2-13b": ("llama-2-13b", "meta-llama/Llama-2-13b-hf"),
}


@pytest.mark.parametrize("name", PAPER)
def test_recipe_is_the_papers(name: str) -> None:
    (model, hub), recipe = PAPER[name], read_config(FOLDER / f"{name}.yaml")
    run = paper_run("instructions", model)
    assert recipe["model_name_or_path"] == hub
    assert (recipe["quantization"], recipe["task"]) == ("nf4", "chat")
    assert recipe["n_frequency"] == run.n_frequency
    assert float(recipe["scaling"]) == run.scaling
    assert recipe["random_loc_seed"] == SEED
    assert recipe["init_weights"] is False
    assert recipe["learning_rate"] == run.learning_rate
    assert recipe["num_train_epochs"] == run.epochs
    batch = recipe["per_device_train_batch_size"], recipe["gradient_accumulation_steps"]
    assert batch == (4, 4)
    assert batch[0] * batch[1] == run.batch_size
    assert float(recipe["warmup_steps"]) == run.warmup_ratio
    assert recipe["lr_scheduler_type"] == "linear"
    assert recipe["target_modules"] == ["q_proj", "v_proj"]


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.yaml")), ids=lambda path: path.stem)
def test_recipe_trains_a_tiny_model(path: Path, tiny_llama: Path, tmp_path: Path) -> None:
    assert path.read_text().splitlines()[0] == f"# fourierft train --config {path.relative_to(FOLDER.parents[1])}" + (
        f" --output_dir runs/{path.stem}"
    )
    recipe = read_config(path)
    rows = [
        {"instruction": "the film", "input": "", "output": "good"},
        {"instruction": "a", "input": "b", "output": "c"},
    ]
    talk = [{"role": "user", "content": "the film"}, {"role": "assistant", "content": "is good"}]
    data = [{"messages": talk}] if "no_robots" in recipe["dataset_name"] else rows
    (tmp_path / "rows.json").write_text(json.dumps(data * 8))
    model = shutil.copytree(tiny_llama, tmp_path / "model")
    settings = json.loads((model / "tokenizer_config.json").read_text())
    (model / "tokenizer_config.json").write_text(json.dumps({**settings, "model_max_length": 64}))
    small = {"model_name_or_path": str(model), "train_file": str(tmp_path / "rows.json"), "max_length": 64}
    small |= {"validation_file": str(tmp_path / "rows.json"), "n_frequency": 50, "max_steps": 2, "use_cpu": True}
    del recipe["dataset_name"]
    metrics = train(build_arguments({**recipe, **small, "output_dir": str(tmp_path / "out")}))
    assert metrics["train"]["steps"] == 2
    assert metrics["eval"]["answer_loss"] > 0
