"""LLaMA-Factory's own command trains an adapter that is there, and merges it, with `FOURIERFT_ENABLE=1` alone."""

from __future__ import annotations

import json
from pathlib import Path

import torch

from .conftest import Logits, Run, assert_stock_reads_it

START = Path(__file__).with_name("start.py")
TAGS = {"role_tag": "role", "content_tag": "content", "user_tag": "user", "assistant_tag": "assistant"}


def test_five_steps_train_an_adapter_that_stock_peft_reads_and_export_merges(
    run: Run, logits: Logits, base: Path, chats: Path, tmp_path: Path
) -> None:
    data = {"file_name": chats.name, "formatting": "sharegpt", "columns": {"messages": "messages"}, "tags": TAGS}
    (tmp_path / "dataset_info.json").write_text(json.dumps({"chats": data}))
    run("python", START, base, tmp_path / "start")
    own = ["--model_name_or_path", base, "--finetuning_type", "lora", "--template", "default"]
    words = ["--stage", "sft", "--do_train", "true", "--adapter_name_or_path", "start", "--dataset", "chats"]
    words += ["--dataset_dir", ".", "--cutoff_len", "64", "--output_dir", "out", "--max_steps", "5"]
    words += ["--learning_rate", "1e-2", "--per_device_train_batch_size", "2", "--report_to", "none"]
    run("llamafactory-cli", "train", *own, *words, FOURIERFT_ENABLE="1")
    config = json.loads((tmp_path / "out" / "adapter_config.json").read_text())
    assert config["fourierft"]["scaling"] == "auto"
    assert_stock_reads_it(logits, tmp_path / "out")

    merged = ["--adapter_name_or_path", "out", "--export_dir", "merged"]
    run("llamafactory-cli", "export", *own, *merged, FOURIERFT_ENABLE="1")
    adapted = logits(tmp_path / "out")
    torch.testing.assert_close(logits(None, base=tmp_path / "merged"), adapted, rtol=1e-4, atol=1e-4)
