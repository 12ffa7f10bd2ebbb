"""Conversations as tokens: by the tokenizer's chat template, or the Alpaca prompt if it has none."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from transformers import PreTrainedTokenizerBase

from fourierft.errors import ConfigError
from fourierft.extras import needs
from fourierft.training.tasks import IGNORED

Messages = Sequence[dict[str, str]]
INPUT_HEADING = "\n\n### Input:\n"  # between an instruction and its input, in the Alpaca prompt
ALPACA_TEMPLATE = """\
{{ bos_token }}{% for message in messages %}\
{% if message['role'] == 'system' %}{{ message['content'] + '\n\n' }}\
{% elif message['role'] == 'user' %}\
{% if loop.first %}Below is an instruction that describes a task\
{% if '\n\n### Input:\n' in message['content'] %}, paired with an input that provides further context{% endif %}\
{{ '. Write a response that appropriately completes the request.\n\n' }}{% endif %}\
{{ '### Instruction:\n' + message['content'] + '\n\n### Response:\n' }}\
{% else %}{{ message['content'] + eos_token }}{% if not loop.last %}{{ '\n\n' }}{% endif %}{% endif %}{% endfor %}"""


def ensure_template(tokenizer: PreTrainedTokenizerBase) -> None:
    """Give a tokenizer without a chat template that of the Alpaca prompt; it is saved with the tokenizer."""
    if tokenizer.chat_template is None:
        tokenizer.chat_template = ALPACA_TEMPLATE


def template_name(tokenizer: PreTrainedTokenizerBase) -> str:
    """Which template a tokenizer has, in words."""
    return "the Alpaca prompt, as the model has none" if is_alpaca(tokenizer) else "the model's"


def is_alpaca(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether a tokenizer has the template of the Alpaca prompt."""
    return tokenizer.chat_template == ALPACA_TEMPLATE


def encode_question(messages: Messages, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Tokens of a conversation up to where the model is to answer.

    Raises: ConfigError, if the template refuses it.
    """
    return tokenizer.encode(_render(messages, tokenizer, True), add_special_tokens=False)


def encode_conversation(messages: Messages, tokenizer: PreTrainedTokenizerBase) -> tuple[list[int], list[int]]:
    """Tokens of a conversation, and its labels: IGNORED but for the assistant's answers and what ends them.

    Raises: ConfigError, if the template writes an answer elsewhere than behind what was said before, or refuses it.
    """
    tokens: list[int] = []
    labels: list[int] = []
    written = ""
    for place, message in enumerate(messages):
        if message["role"] != "assistant":
            continue
        asked = _render(messages[:place], tokenizer, True)
        answered = _render(messages[: place + 1], tokenizer, False).rstrip()
        if not (asked.startswith(written) and answered.startswith(asked)):
            return _encode_marked(messages, tokenizer)
        for text, is_answer in ((asked[len(written) :], False), (answered[len(asked) :], True)):
            part = tokenizer.encode(text, add_special_tokens=False)
            tokens += part
            labels += part if is_answer else [IGNORED] * len(part)
        written = answered
    return tokens, labels


def _render(messages: Messages, tokenizer: PreTrainedTokenizerBase, ask: bool) -> str:
    from jinja2 import TemplateError

    try:
        return str(tokenizer.apply_chat_template(list(messages), tokenize=False, add_generation_prompt=ask))
    except TemplateError as error:
        raise ConfigError(f"the tokenizer's chat template refuses a conversation: {error}") from error


def _encode_marked(messages: Messages, tokenizer: PreTrainedTokenizerBase) -> tuple[list[int], list[int]]:
    """The same for a template that writes earlier turns anew: by its marks of answers, or those that TRL knows."""
    encoded: Any = tokenizer.apply_chat_template(
        list(messages),
        chat_template=_marked_template(tokenizer),
        tokenize=True,
        return_dict=True,
        return_assistant_tokens_mask=True,
    )
    pairs = zip(encoded["input_ids"], encoded["assistant_masks"], strict=True)
    return encoded["input_ids"], [token if is_answer else IGNORED for token, is_answer in pairs]


def _marked_template(tokenizer: PreTrainedTokenizerBase) -> str | None:
    with needs("chat", "this chat template"):
        from trl.chat_template_utils import get_training_chat_template
    try:
        return get_training_chat_template(tokenizer)
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigError(
            "the tokenizer's chat template does not put the answer behind the prompt, nor does TRL know it; use "
            "another model, or conversations of one question and one answer"
        ) from error
