"""The recipes of E2E say what the paper's Table 10 says, and Conv1D's layer gets as many numbers as its two."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from peft import get_peft_model
from transformers import GPT2Config, GPT2LMHeadModel

from fourierft.training.settings import build_arguments, read_config
from fourierft.tuner import FourierFTConfig, enable
from fourierft.tuner.paper import SEED, paper_run

RECIPES = Path(__file__).parents[2] / "recipes" / "e2e"
SIZES = {"gpt2-medium": (24, 1024, 48_000), "gpt2-large": (36, 1280, 72_000)}


@pytest.mark.parametrize("model", SIZES)
def test_recipe_is_the_paper_s(model: str) -> None:
    arguments = build_arguments({**read_config(RECIPES / f"{model}.yaml"), "output_dir": "out"})
    run, training, method = paper_run("e2e", model), arguments.training, arguments.method
    assert Path(str(arguments.model.model_name_or_path)).name == model
    assert training.per_device_train_batch_size * training.gradient_accumulation_steps == run.batch_size
    assert (training.learning_rate, training.weight_decay) == (run.learning_rate, run.weight_decay)
    assert (training.num_train_epochs, training.label_smoothing_factor) == (run.epochs, run.label_smoothing)
    assert (training.lr_scheduler_type, training.warmup_steps) == ("linear", 0)
    assert (method.random_loc_seed, method.init_weights, method.method) == (SEED, False, "fourierft")
    # An entry of a fused update is as large as one of the paper's: alpha sqrt(n / 2) / (out in) is the same.
    width = SIZES[model][1]
    paper = run.scaling * (run.n_frequency / 2) ** 0.5 / width**2
    assert float(method.scaling) * (method.n_frequency / 2) ** 0.5 / (3 * width**2) == pytest.approx(paper, rel=1e-4)


@pytest.mark.parametrize("model", SIZES)
def test_recipe_trains_as_many_numbers_as_the_paper(model: str) -> None:
    method = build_arguments({**read_config(RECIPES / f"{model}.yaml"), "output_dir": "out"}).method
    layers, width, parameters = SIZES[model]
    enable()
    with torch.device("meta"):
        base = GPT2LMHeadModel(GPT2Config(n_embd=width, n_layer=1, n_head=16, vocab_size=8))
    assert method.n_frequency is not None
    config = FourierFTConfig(n_frequency=method.n_frequency, target_modules=method.target_modules)
    adapted = get_peft_model(base, config)
    assert layers * sum(p.numel() for p in adapted.parameters() if p.requires_grad) == parameters
