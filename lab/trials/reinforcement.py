"""Reinforcement with few numbers: how much reward do n coefficients a layer gain?

Trains SmolLM2-135M-Instruct with trl's GRPOTrainer, as it is, to answer sums of two digits with the number alone
(sums.py). Every linear layer has an adapter: FourierFT with n coefficients at `scaling="auto"`, or LoRA with alpha 16.
Before and after, the reward of answers to sums that were held out is taken.

Each run adds one line to runs.jsonl in --output_dir; a run that has a line is not repeated, so the same command
resumes where it stopped. Writes summary.md with its table and plot. A run takes some three minutes on one core, all of
them three quarters of an hour.

Examples:
  python -m lab trials reinforcement
  python -m lab trials reinforcement --methods fourierft:20 --learning_rates 1e-3 --max_runs 1
  python -m lab trials reinforcement --page
"""

from __future__ import annotations

import argparse
import contextlib
import io
import re
import tempfile
import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from statistics import mean
from typing import Any

import datasets
import peft
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, set_seed

import fourierft
from fourierft.adapters.base import quiet
from fourierft.errors import ConfigError
from fourierft.extras import needs
from fourierft.tables import align_columns
from fourierft.training.comparison.results import FILE
from fourierft.training.comparison.sources import find_asset_model
from fourierft.training.comparison.tasks import check_rates, check_seeds
from fourierft.training.output import check_directory
from fourierft.training.report import require_plotting
from lab.folders import QUALITY
from lab.ledger import Ledger, Row
from lab.trials.reinforcement_page import BEFORE, table_rows, write_page
from lab.trials.sums import MOST_TOKENS, grade, make_prompts, reward

OUTPUT = QUALITY / "reinforcement"
METHODS = (BEFORE, "fourierft:5", "fourierft:20", "fourierft:340", "lora:1")
RATES = (3e-4, 1e-3, 3e-3)
SAMPLES = 8  # answers to each sum that is held out
SETTINGS: dict[str, Any] = {
    "max_steps": 32,
    "per_device_train_batch_size": 16,
    "num_generations": 8,
    "max_completion_length": MOST_TOKENS,
    "lr_scheduler_type": "constant",
    "logging_steps": 1,
    "save_strategy": "no",
    "report_to": "none",
    "disable_tqdm": True,
    "bf16": False,
    "activation_checkpointing": False,
    "use_cpu": True,
}


def read_method(method: str) -> tuple[str, int]:
    """Family and size of fourierft:N or lora:R, and (BEFORE, 0) of the untrained model.

    Raises: ConfigError, if the method is another.
    """
    family, _, size = method.partition(":")
    if method == BEFORE:
        return BEFORE, 0
    if family not in ("fourierft", "lora") or not re.fullmatch(r"[1-9][0-9]{0,5}", size):
        raise ConfigError(f"method {method} is not tried here; use fourierft:N, lora:R or {BEFORE}")
    return family, int(size)


def make_adapter(method: str, model: torch.nn.Module) -> peft.PeftConfig:
    """The config of fourierft:N or lora:R on every linear layer."""
    family, size = read_method(method)
    if family == "lora":
        return peft.LoraConfig(r=size, lora_alpha=16, target_modules="all-linear", task_type="CAUSAL_LM")
    return fourierft.recommended(model, n_frequency=size, task_type="CAUSAL_LM")


def perform(folder: Path, method: str, learning_rate: float, seed: int) -> Row:
    """What a run leaves in its row: numbers trained, reward by step, reward held out, seconds.

    Args:
        folder: of the model.
        method: of METHODS, or of other sizes.
    """
    begin = time.perf_counter()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    with quiet():
        model: Any = AutoModelForCausalLM.from_pretrained(folder)
    trained, held_out = make_prompts(seed)
    curve: list[tuple[int, float]] = []
    if method != BEFORE:
        model, curve = reinforce(model, tokenizer, method, learning_rate, seed, trained)
    scores = rate_answers(model, tokenizer, held_out, seed)
    return {
        "parameters": sum(p.numel() for p in model.parameters() if p.requires_grad) if curve else 0,
        "curve": curve,
        "reward": mean(scores),
        "right": mean(score == 1 for score in scores),
        "answers": len(scores),
        "trl": version("trl"),
        "seconds": round(time.perf_counter() - begin, 1),
        "device": f"cpu, {torch.get_num_threads()} threads",
    }


def reinforce(
    model: Any, tokenizer: Any, method: str, learning_rate: float, seed: int, rows: list[dict[str, Any]]
) -> tuple[Any, list[tuple[int, float]]]:
    """The model with its trained adapter, and the mean reward of each step's samples."""
    with needs("chat", "reinforcement"):
        from trl import GRPOConfig, GRPOTrainer
    fourierft.enable()
    set_seed(seed)
    with tempfile.TemporaryDirectory() as scratch, contextlib.redirect_stdout(io.StringIO()):
        trainer = GRPOTrainer(
            model=model,
            reward_funcs=grade,
            args=GRPOConfig(output_dir=scratch, learning_rate=learning_rate, seed=seed, **SETTINGS),
            train_dataset=datasets.Dataset.from_list(rows),
            processing_class=tokenizer,
            peft_config=make_adapter(method, model),
        )
        trainer.train()
    return trainer.model, [(int(log["step"]), log["reward"]) for log in trainer.state.log_history if "reward" in log]


@torch.no_grad()
def rate_answers(model: Any, tokenizer: Any, rows: list[dict[str, Any]], seed: int) -> list[float]:
    """The rewards of SAMPLES answers to each row, sampled as in training."""
    set_seed(seed)
    model.eval()
    asked = tokenizer.apply_chat_template(
        [row["prompt"] for row in rows],
        add_generation_prompt=True,
        return_tensors="pt",
        return_dict=True,
        padding=True,
        processor_kwargs={"padding_side": "left"},
    )
    given = model.generate(**asked, max_new_tokens=MOST_TOKENS, do_sample=True, top_k=0, num_return_sequences=SAMPLES)
    texts = tokenizer.batch_decode(given[:, asked["input_ids"].shape[1] :], skip_special_tokens=True)
    answers = [row["answer"] for row in rows for _ in range(SAMPLES)]
    return [reward(text, answer) for text, answer in zip(texts, answers, strict=True)]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--methods", nargs="+", metavar="METHOD", default=METHODS, help=f"(default: {' '.join(METHODS)})"
    )
    parser.add_argument(
        "--learning_rates",
        nargs="+",
        type=float,
        metavar="LR",
        default=RATES,
        help=f"(default: {' '.join(f'{rate:g}' for rate in RATES)})",
    )
    parser.add_argument("--seeds", nargs="+", type=int, metavar="SEED", default=[0], help="(default: 0)")
    parser.add_argument("--max_runs", type=int, metavar="N", help="stop after N runs")
    parser.add_argument(
        "--output_dir",
        type=Path,
        metavar="DIR",
        default=OUTPUT,
        help="where results go (default: docs/quality/reinforcement)",
    )
    parser.add_argument("--page", action="store_true", help="run nothing, only make the table and the plot again")


def run(arguments: argparse.Namespace) -> int:
    """Run what is missing, print the table, write the page.

    Raises: ConfigError, if a choice is wrong.
    """
    directory: Path = arguments.output_dir
    datasets.disable_progress_bars()
    check_directory(directory)
    require_plotting()
    if arguments.max_runs is not None and arguments.max_runs < 0:
        raise ConfigError(f"--max_runs {arguments.max_runs} is negative; use --page to only make the page")
    ledger = Ledger(directory / FILE, {"settings": SETTINGS})
    if not arguments.page:
        rates = check_rates(arguments.learning_rates, "learning_rates")
        cells = make_cells(arguments.methods, rates, arguments.seeds)
        directory.mkdir(parents=True, exist_ok=True)
        folder = find_asset_model("smollm2")
        for cell in ledger.missing(cells, arguments.max_runs):
            row = perform(folder, **cell)
            ledger.add(cell, row)
            print(f"{cell['method']} at {cell['learning_rate']:g}: reward {row['reward']:.3f}", flush=True)
    rows = ledger.rows()
    if not rows:
        print("no run is finished")
        return 0
    print(f"\n{align_columns(table_rows(rows))}\n\nwritten to {write_page(rows, directory)}")
    return 0


def make_cells(methods: Sequence[str], rates: Sequence[float], seeds: Sequence[int]) -> list[Row]:
    """What tells each run from the others; the untrained model has no learning rate.

    Raises: ConfigError, if a method is not tried here, or a seed is wrong.
    """
    cells = [
        {"method": method, "learning_rate": 0.0 if read_method(method)[0] == BEFORE else rate, "seed": seed}
        for seed in check_seeds(list(seeds))
        for rate in rates
        for method in methods
    ]
    return [cell for place, cell in enumerate(cells) if cell not in cells[:place]]
