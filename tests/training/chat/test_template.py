"""Conversations as tokens: what is learned is what the assistant says, whatever writes the rest."""

from __future__ import annotations

from pathlib import Path

import pytest
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from fourierft.errors import ConfigError
from fourierft.training.chat.template import (
    ALPACA_TEMPLATE,
    encode_conversation,
    encode_question,
    ensure_template,
    template_name,
)
from fourierft.training.tasks import IGNORED

TURNS = [
    {"role": "user", "content": "the film is"},
    {"role": "assistant", "content": "good"},
    {"role": "user", "content": "but the book"},
    {"role": "assistant", "content": "is dull"},
]
MARKED = (
    "{% for m in messages %}{% if m.role == 'assistant' %}[BOS] {% generation %}{{ m.content }} [EOS]"
    "{% endgeneration %} {% else %}[BOS] {{ m.content }} {% if loop.first and messages|length > 2 %}so {% endif %}"
    "[EOS] {% endif %}{% endfor %}{% if add_generation_prompt %}[BOS] {% endif %}"
)


@pytest.fixture
def tokenizer(tiny_llama: Path) -> PreTrainedTokenizerBase:
    return AutoTokenizer.from_pretrained(tiny_llama)


def learned(tokenizer: PreTrainedTokenizerBase, turns: list[dict[str, str]]) -> tuple[str, str]:
    """All of a conversation, and what of it is learned, a bar where something is left out between."""
    tokens, labels = encode_conversation(turns, tokenizer)
    assert all(label in (token, IGNORED) for token, label in zip(tokens, labels, strict=True))
    words = ["|" if label == IGNORED else tokenizer.decode([label]) for label in labels]
    return tokenizer.decode(tokens), " ".join(" ".join(words).replace("| ", "").split())


def test_every_answer_is_learned_and_what_ends_it(chat_llama: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(chat_llama)
    whole, answers = learned(tokenizer, TURNS)
    assert whole == "[BOS] the film is [EOS] [BOS] good [EOS] [BOS] but the book [EOS] [BOS] is dull [EOS]"
    assert answers == "good [EOS] is dull [EOS]"
    assert template_name(tokenizer) == "the model's"


def test_question_is_what_stands_before_the_answer_in_training(chat_llama: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(chat_llama)
    tokens, labels = encode_conversation(TURNS, tokenizer)
    last = len(labels) - labels[::-1].index(IGNORED)
    assert encode_question(TURNS[:3], tokenizer) == tokens[:last]


@pytest.mark.parametrize(
    ("content", "header"),
    [
        ("Name a film.", "Below is an instruction that describes a task. Write a response that appropriately completes "
         "the request.\n\n### Instruction:\nName a film."),
        ("Shorten.\n\n### Input:\nA very long film.", "Below is an instruction that describes a task, paired with an "
         "input that provides further context. Write a response that appropriately completes the request.\n\n"
         "### Instruction:\nShorten.\n\n### Input:\nA very long film."),
    ],
)  # fmt: skip
def test_fallback_is_the_alpaca_prompt(tokenizer: PreTrainedTokenizerBase, content: str, header: str) -> None:
    ensure_template(tokenizer)
    turns = [{"role": "user", "content": content}, {"role": "assistant", "content": "Yes."}]
    asked = tokenizer.apply_chat_template(turns[:1], tokenize=False, add_generation_prompt=True)
    assert asked == f"[BOS]{header}\n\n### Response:\n"
    assert tokenizer.apply_chat_template(turns, tokenize=False) == f"{asked}Yes.[EOS]"
    more = [*turns, {"role": "user", "content": "And?"}]
    assert tokenizer.apply_chat_template(more, tokenize=False, add_generation_prompt=True) == (
        f"{asked}Yes.[EOS]\n\n### Instruction:\nAnd?\n\n### Response:\n"
    )
    assert template_name(tokenizer).startswith("the Alpaca prompt")


def test_tokenizer_with_a_template_keeps_it(chat_llama: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(chat_llama)
    before = tokenizer.chat_template
    ensure_template(tokenizer)
    assert tokenizer.chat_template == before != ALPACA_TEMPLATE


def test_template_that_writes_earlier_turns_anew_is_read_by_its_marks(tokenizer: PreTrainedTokenizerBase) -> None:
    tokenizer.chat_template = MARKED
    whole, answers = learned(tokenizer, TURNS)
    assert whole == "[BOS] the film is so [EOS] [BOS] good [EOS] [BOS] but the book [EOS] [BOS] is dull [EOS]"
    assert answers == "good [EOS] is dull [EOS]"


def test_template_that_nobody_can_read_is_refused(tokenizer: PreTrainedTokenizerBase) -> None:
    tokenizer.chat_template = "{% for m in messages|reverse %}{{ m['content'] }}{% endfor %}!"
    with pytest.raises(ConfigError, match=r"does not put the answer behind the prompt.*one question and one answer"):
        encode_conversation(TURNS, tokenizer)


def test_what_a_template_refuses_is_said(tokenizer: PreTrainedTokenizerBase) -> None:
    tokenizer.chat_template = "{{ raise_exception('no system role here') }}"
    with pytest.raises(ConfigError, match="refuses a conversation: no system role here"):
        encode_question(TURNS[:1], tokenizer)
