"""ms-swift's own command trains this package's adapter through `--external_plugins`."""

from __future__ import annotations

import json
from pathlib import Path

from .conftest import Logits, Run, assert_stock_reads_it


def sft(run: Run, base: Path, chats: Path, tmp_path: Path, *more: str) -> Path:
    """Five steps; the adapter."""
    (tmp_path / "plugin.py").write_text("import fourierft.integrations.swift\n")
    words = [
        "--model",
        base,
        "--model_type",
        "llama",
        "--template",
        "chatml",
        "--dataset",
        chats,
        "--output_dir",
        "out",
    ]
    words += ["--external_plugins", "plugin.py", "--tuner_type", "fourierft", "--fourier_n_frequency", "50"]
    words += ["--max_steps", "5", "--save_steps", "5", "--logging_steps", "1", "--learning_rate", "1e-2"]
    words += ["--per_device_train_batch_size", "2", "--torch_dtype", "float32", "--report_to", "none"]
    words += ["--split_dataset_ratio", "0", "--add_version", "false", "--max_length", "64", "--use_hf", "true"]
    run("swift", "sft", *words, *more)
    return tmp_path / "out" / "checkpoint-5"


def test_five_steps_train_an_adapter_that_stock_peft_reads(
    run: Run, logits: Logits, base: Path, chats: Path, tmp_path: Path
) -> None:
    adapter = sft(run, base, chats, tmp_path)
    config = json.loads((adapter / "adapter_config.json").read_text())
    assert config["fourierft"]["scaling"] == "auto"
    assert config["n_frequency"] == 50
    assert_stock_reads_it(logits, adapter)
