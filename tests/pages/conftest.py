"""A hub on this disk, in which the names that pages use stand for small random models."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.conftest import WORDS, SaveTokenizer

from .brought import link_files, write_cache

REVISION = "0" * 40
TEMPLATE = (
    "{% for m in messages %}[BOS] {{ m['content'] }} [EOS]\n{% endfor %}{% if add_generation_prompt %}[BOS] {% endif %}"
)


@pytest.fixture(scope="session")
def tiny_gpt2(tmp_path_factory: pytest.TempPathFactory, save_tokenizer: SaveTokenizer) -> Path:
    """Directory of a random GPT-2, 2 layers x 32, whose layers keep their weights transposed."""
    from transformers import GPT2Config, GPT2LMHeadModel

    directory = tmp_path_factory.mktemp("tiny_gpt2")
    size = save_tokenizer(directory, ["[UNK]", "[EOS]", *WORDS], unk_token="[UNK]", eos_token="[EOS]")
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=size, n_embd=32, n_layer=2, n_head=2, n_positions=128, bos_token_id=1, eos_token_id=1
    )
    GPT2LMHeadModel(config).save_pretrained(directory)
    return directory


@pytest.fixture(scope="session")
def long_bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Directory of a random BERT body, 2 layers x 32, that takes 512 tokens."""
    from transformers import BertConfig, BertModel, BertTokenizer

    directory = tmp_path_factory.mktemp("long_bert")
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *WORDS]
    BertTokenizer(vocab={word: place for place, word in enumerate(words)}).save_pretrained(directory)
    torch.manual_seed(0)
    shape: dict[str, Any] = {
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 64,
    }
    BertModel(BertConfig(vocab_size=len(words), initializer_range=0.3, **shape)).save_pretrained(directory)
    return directory


@pytest.fixture(scope="session")
def talking_llama(tmp_path_factory: pytest.TempPathFactory, tiny_llama: Path) -> Path:
    """tiny_llama with a chat template, for 512 tokens."""
    folder = tmp_path_factory.mktemp("talking") / "llama"
    link_files(folder, tiny_llama)
    for name, field in (("config.json", "max_position_embeddings"), ("tokenizer_config.json", "model_max_length")):
        changed = {**json.loads((folder / name).read_text()), field: 512}
        (folder / name).unlink()  # the link
        (folder / name).write_text(json.dumps(changed))
    (folder / "chat_template.jinja").write_text(TEMPLATE)
    return folder


@pytest.fixture
def hub_folder(
    long_bert: Path,
    talking_llama: Path,
    tiny_gpt2: Path,
    tiny_dinov2: Path,
    tiny_clip: Path,
    tiny_sd: Path,
    tmp_path: Path,
) -> Path:
    """A folder for HF_HUB_CACHE."""
    folder = tmp_path / "hub"
    models = {
        "FacebookAI/roberta-base": long_bert,
        "HuggingFaceTB/SmolLM2-135M-Instruct": talking_llama,
        "org/base": talking_llama,
        "openai-community/gpt2-medium": tiny_gpt2,
        "facebook/dinov2-small": tiny_dinov2,
        "facebook/dino-vits16": tiny_dinov2,
        "openai/clip-vit-base-patch32": tiny_clip,
        "google/vit-base-patch16-224-in21k": tiny_dinov2,
        "stable-diffusion-v1-5/stable-diffusion-v1-5": tiny_sd,
    }
    for name, model in models.items():
        place = folder / f"models--{name.replace('/', '--')}"
        link_files(place / "snapshots" / REVISION, model)
        (place / "refs").mkdir()
        (place / "refs" / "main").write_text(REVISION)
    return folder


@pytest.fixture
def cache_folder(long_bert: Path, talking_llama: Path, tiny_dinov2: Path, tmp_path: Path) -> Path:
    """A folder for FOURIERFT_CACHE."""
    write_cache(tmp_path / "cache", long_bert, talking_llama, tiny_dinov2)
    return tmp_path / "cache"
