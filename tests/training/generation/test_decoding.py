"""Beam search against an exhaustive search, and what may be repeated."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from fourierft.errors import ConfigError
from fourierft.training.generation.decoding import Decoding, NoRepeatedNgrams, end_tokens, generate_texts


@pytest.fixture
def gpt2(tiny_gpt2: Path) -> tuple[Any, Any]:
    tokenizer = AutoTokenizer.from_pretrained(tiny_gpt2)
    tokenizer.pad_token = tokenizer.eos_token
    return AutoModelForCausalLM.from_pretrained(tiny_gpt2).eval(), tokenizer


def all_texts(model: Any, prompt: list[int], end: int) -> dict[tuple[int, ...], float]:
    """Log probabilities of all texts of one token that ends them, or of two."""
    words = range(model.config.vocab_size)
    with torch.no_grad():
        logits = model(torch.tensor([[*prompt, first] for first in words])).logits.log_softmax(-1)
    before, after = logits[0, len(prompt) - 1], logits[:, len(prompt)]
    pairs = {(first, second): float(before[first] + after[first, second]) for first in words for second in words}
    return {(end,): float(before[end]), **{pair: chance for pair, chance in pairs.items() if pair[0] != end}}


@pytest.mark.parametrize("power", [0.0, 0.8, 2.0])
def test_wide_beams_find_the_best_of_all_texts(gpt2: tuple[Any, Any], power: float) -> None:
    model, tokenizer = gpt2
    prompts = [tokenizer("name [ Aromi ]").input_ids, tokenizer("price").input_ids]  # padded to one length
    wide = Decoding(model.config.vocab_size, power, no_repeat_ngram_size=0, max_new_tokens=2)
    found = generate_texts(model, tokenizer, prompts, wide)
    for prompt, text in zip(prompts, found, strict=True):
        chances = all_texts(model, prompt, tokenizer.eos_token_id)
        best = max(chances, key=lambda answer: chances[answer] / len(answer) ** power)
        assert text == tokenizer.decode(best, skip_special_tokens=True).strip()


def test_ngrams_of_the_prompt_may_be_repeated_those_of_the_text_may_not() -> None:
    forbid: Callable[..., torch.Tensor] = NoRepeatedNgrams(size=2, prompt_length=2)
    scores = forbid(torch.tensor([[5, 6, 5], [1, 2, 3]]), torch.zeros(2, 8))
    assert torch.isfinite(scores).all()  # 5 6 is in the prompt alone
    scores = forbid(torch.tensor([[0, 0, 5, 6, 5]]), torch.zeros(1, 8))
    assert torch.isinf(scores).nonzero().tolist() == [[0, 6]]


def test_one_beam_takes_the_likeliest_token(gpt2: tuple[Any, Any]) -> None:
    model, tokenizer = gpt2
    prompt = tokenizer("name [ Zizzi ]").input_ids
    tokens = list(prompt)
    while len(tokens) < len(prompt) + 5 and tokens[-1] != tokenizer.eos_token_id:
        with torch.no_grad():
            tokens.append(int(model(torch.tensor([tokens])).logits[0, -1].argmax()))
    text = generate_texts(model, tokenizer, [prompt], Decoding(1, no_repeat_ngram_size=0, max_new_tokens=5))[0]
    assert text == tokenizer.decode(tokens[len(prompt) :], skip_special_tokens=True)


def test_text_ends_where_the_chat_template_ends_it(tiny_llama: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny_llama)
    assert end_tokens(tokenizer) == [tokenizer.eos_token_id]
    tokenizer.chat_template = "{% for m in messages %}{{ m['content'] }} [BOS] {% endfor %}"
    assert end_tokens(tokenizer) == sorted([tokenizer.eos_token_id, tokenizer.bos_token_id])


@pytest.mark.parametrize(
    ("name", "value"), [("num_beams", 0), ("no_repeat_ngram_size", -1), ("max_new_tokens", 0), ("num_beams", True)]
)
def test_search_out_of_range_is_refused(name: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=f"{name}={value} is not a whole number of at least"):
        Decoding(**{name: value})
