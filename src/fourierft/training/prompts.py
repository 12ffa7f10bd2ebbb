"""A prompt and its answer as tokens."""

from __future__ import annotations

from transformers import PreTrainedTokenizerBase

from fourierft.training.chat.conversation import Conversation
from fourierft.training.chat.template import encode_conversation
from fourierft.training.labels import IGNORED


def join(parts: list[str | None]) -> str:
    """A prompt of its parts, a line each, those that are empty left out."""
    return "\n".join(part for part in parts if part)


def encode_pair(prompt: str, answer: str, tokenizer: PreTrainedTokenizerBase) -> tuple[list[int], list[int]]:
    """Tokens of a prompt and of its answer: by the tokenizer's chat template, or else a line break between them.

    Raises: ConfigError, if the template writes the answer elsewhere than behind the prompt.
    """
    if tokenizer.chat_template is None:
        start = [] if tokenizer.bos_token_id is None else [tokenizer.bos_token_id]
        answered = [*tokenizer.encode(answer, add_special_tokens=False), int(tokenizer.eos_token_id)]
        return start + tokenizer.encode(f"{prompt}\n", add_special_tokens=False), answered
    messages = [{"role": "user", "content": prompt}, {"role": "assistant", "content": answer}]
    tokens, labels = encode_conversation(Conversation(messages), tokenizer)
    length = labels.count(IGNORED)
    return tokens[:length], tokens[length:]
