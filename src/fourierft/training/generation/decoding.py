"""Beam search: prompts in, texts out, a batch at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import (
    GenerationConfig,
    LogitsProcessor,
    LogitsProcessorList,
    NoRepeatNGramLogitsProcessor,
    PreTrainedTokenizerBase,
)

from fourierft.errors import ConfigError
from fourierft.training.prompts import encode_pair


@dataclass(frozen=True)
class Decoding:
    """How texts are searched for. The defaults are those of the command that the LoRA paper's code gives for E2E.

    Attributes:
        num_beams: texts searched at once; 1 takes the likeliest token each time.
        length_penalty: a text's log probability is divided by its number of tokens to this power.
        no_repeat_ngram_size: no n-gram of so many tokens comes twice in a text; 0 allows all.
        max_new_tokens: longest text.
    """

    num_beams: int = 10
    length_penalty: float = 0.8
    no_repeat_ngram_size: int = 4
    max_new_tokens: int = 64

    def __post_init__(self) -> None:
        for name, least in (("num_beams", 1), ("no_repeat_ngram_size", 0), ("max_new_tokens", 1)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise ConfigError(
                    f"{name}={value} is not a whole number of at least {least}; use, for example, {least}"
                )


class NoRepeatedNgrams(LogitsProcessor):
    """Forbids n-grams that a text has already; those of its prompt do not count, as names must be copied from it."""

    def __init__(self, size: int, prompt_length: int) -> None:
        self._forbid = NoRepeatNGramLogitsProcessor(size)
        self._prompt_length = prompt_length

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor) -> torch.FloatTensor:
        """Scores [rows, words] with forbidden words at minus infinity, for input_ids [rows, tokens]."""
        answer: Any = input_ids[:, self._prompt_length :]
        return self._forbid(answer, scores)


def generate_texts(
    model: Any, tokenizer: PreTrainedTokenizerBase, prompts: Sequence[list[int]], decoding: Decoding
) -> list[str]:
    """What the model writes after each prompt, without special tokens and surrounding blanks.

    Args:
        model: a causal language model, wrapped by PEFT or not, in evaluation mode.
        prompts: their tokens, one batch.
    """
    batch = tokenizer.pad({"input_ids": list(prompts)}, padding_side="left", return_tensors="pt").to(model.device)
    length = batch["input_ids"].shape[1]
    beams: dict[str, Any] = {"length_penalty": decoding.length_penalty, "early_stopping": "never"}
    settings = GenerationConfig(
        max_new_tokens=decoding.max_new_tokens,
        num_beams=decoding.num_beams,
        do_sample=False,
        eos_token_id=end_tokens(tokenizer),
        pad_token_id=tokenizer.pad_token_id,
        **(beams if decoding.num_beams > 1 else {}),
    )
    size = decoding.no_repeat_ngram_size
    processors = LogitsProcessorList([NoRepeatedNgrams(size, length)] if size else [])
    with torch.inference_mode():
        tokens = model.generate(**batch, generation_config=settings, logits_processor=processors)
    return [text.strip() for text in tokenizer.batch_decode(tokens[:, length:], skip_special_tokens=True)]


def end_tokens(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """The tokens that end an answer: the tokenizer's own, and the last special one that its chat template writes."""
    last = encode_pair("a", "a", tokenizer)[1][-1]
    ends = {tokenizer.eos_token_id, *([last] if last in tokenizer.all_special_ids else [])}
    return sorted(end for end in ends if isinstance(end, int))
