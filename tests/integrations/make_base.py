"""Writes a random LLaMA of 2 layers x 32, with a tokenizer of whole words and a chat template, into a folder.

python make_base.py OUTPUT
"""

from __future__ import annotations

import sys

import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

SPECIAL = {"unk_token": "[UNK]", "bos_token": "[BOS]", "eos_token": "[EOS]", "pad_token": "[PAD]"}
WORDS = [*SPECIAL.values(), "user", "assistant", "is", "the", "film", "book", "a", "it", "good", "bad", "dull"]
TEMPLATE = (
    "{% for message in messages %}{{ message['role'] }} {{ message['content'] }}{{ eos_token }} {% endfor %}"
    "{% if add_generation_prompt %}assistant {% endif %}"
)

model = Tokenizer(WordLevel({word: place for place, word in enumerate(WORDS)}, unk_token="[UNK]"))
model.pre_tokenizer = Whitespace()
tokenizer = PreTrainedTokenizerFast(tokenizer_object=model, **SPECIAL, model_max_length=64)
tokenizer.chat_template = TEMPLATE
tokenizer.save_pretrained(sys.argv[1])
torch.manual_seed(0)
config = LlamaConfig(
    vocab_size=len(WORDS),
    hidden_size=32,
    intermediate_size=64,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    max_position_embeddings=64,
    bos_token_id=1,
    eos_token_id=2,
    pad_token_id=3,
    initializer_range=0.2,
)
LlamaForCausalLM(config).save_pretrained(sys.argv[1])
