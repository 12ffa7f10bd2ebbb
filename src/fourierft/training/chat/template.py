"""Conversations as tokens: by the tokenizer's chat template, or the Alpaca prompt if it has none."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import groupby, pairwise, zip_longest
from typing import Any, TypeVar

from transformers import PreTrainedTokenizerBase

from fourierft.errors import ConfigError
from fourierft.extras import needs
from fourierft.training.chat.conversation import Conversation
from fourierft.training.chat.forms import LeftOutError, check_answer, check_written, forms_of
from fourierft.training.labels import IGNORED

_T = TypeVar("_T")
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


def encode_question(talk: Conversation, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Tokens of a conversation up to where the model is to answer.

    Raises: ConfigError, if the template refuses it, or leaves out what it says.
    """

    def encode(form: Conversation) -> list[int]:
        asked = _render(form, tokenizer, ask=True)
        check_written(form, asked, partial(_render, tokenizer=tokenizer))
        return tokenizer.encode(asked, add_special_tokens=False)

    return _first_that_works(talk, encode)


def encode_conversation(talk: Conversation, tokenizer: PreTrainedTokenizerBase) -> tuple[list[int], list[int]]:
    """Tokens of a conversation, and its labels: IGNORED but for the answers that are to be learned and what ends them.

    What stands behind the last answer is left out.

    Raises: ConfigError, if the template writes an answer elsewhere than behind what was said before, refuses the
        conversation, or leaves out what it says.
    """
    whole = talk.until(talk.answers[-1] + 1)
    found = _first_that_works(whole, lambda form: _encode(form, tokenizer))
    return found or _first_that_works(whole, lambda form: _encode_marked(form, tokenizer))


def _first_that_works(talk: Conversation, encode: Callable[[Conversation], _T]) -> _T:
    """What is made of the first form of a conversation that the template takes.

    Raises: ConfigError, if it takes none: what it leaves out of one, or else why it refuses the first.
    """
    errors: list[ConfigError] = []
    for form in forms_of(talk):
        try:
            return encode(form)
        except ConfigError as error:
            errors.append(error)
    raise next((error for error in errors if isinstance(error, LeftOutError)), errors[0])


def _encode(talk: Conversation, tokenizer: PreTrainedTokenizerBase) -> tuple[list[int], list[int]] | None:
    """Tokens and labels; None, if an answer does not stand behind what was said before."""
    tokens: list[int] = []
    labels: list[int] = []
    written = ""
    render = partial(_render, tokenizer=tokenizer)
    for place in talk.answers:
        answered = render(talk.until(place + 1)).rstrip()
        asked = _ask(talk, place, answered, tokenizer)
        if asked is None or not (asked.startswith(written) and answered.startswith(asked)):
            return None
        check_answer(talk, place, answered, render)
        for text, is_learned in ((asked[len(written) :], False), (answered[len(asked) :], place not in talk.unlearned)):
            part = tokenizer.encode(text, add_special_tokens=False)
            tokens += part
            labels += part if is_learned else [IGNORED] * len(part)
        written = answered
    check_written(talk, written, render)
    return tokens, labels


def _ask(talk: Conversation, place: int, answered: str, tokenizer: PreTrainedTokenizerBase) -> str | None:
    """A conversation up to where the answer at a place begins; None if that can't be told.

    Args:
        answered: the same with the answer. If nobody has asked before, as many templates refuse to ask then, it is
            looked into for what they ask with elsewhere, or for the answer itself.
    """
    if any(message["role"] != "system" for message in talk.messages[:place]):
        return _render(talk.until(place), tokenizer, ask=True)
    probe = Conversation([{"role": "user", "content": "a"}], options=talk.options)
    prompt = _render(probe, tokenizer, ask=True).removeprefix(_render(probe, tokenizer))
    if not prompt.strip():
        begin = answered.rfind(talk.messages[place]["content"].strip())
        return answered[:begin] if begin >= 0 else None
    begin = answered.rfind(prompt)
    return answered[: begin + len(prompt)] if begin >= 0 else None


def _render(
    talk: Conversation, tokenizer: PreTrainedTokenizerBase, ask: bool = False, template: str | None = None
) -> str:
    from jinja2 import TemplateError

    if is_alpaca(tokenizer):
        _check_alpaca(talk)
    try:
        text = tokenizer.apply_chat_template(
            talk.messages,
            tools=list(talk.tools) or None,
            chat_template=template,
            tokenize=False,
            add_generation_prompt=ask,
            **talk.options,
        )
    except (TemplateError, TypeError, ValueError, LookupError, AttributeError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ConfigError(f"the tokenizer's chat template refuses a conversation: {reason}") from error
    return str(text)


def _check_alpaca(talk: Conversation) -> None:
    """Raise ConfigError, if a conversation has something that the Alpaca prompt has no place for."""
    roles = [message["role"] for message in talk.messages]
    if "tool" in roles or ("user", "user") in pairwise(roles):
        odd = "a message of role tool" if "tool" in roles else "two questions in a row"
        raise ConfigError(
            "the model has no chat template, and the Alpaca prompt used instead has "
            f"no place for {odd}; use a model with a chat template, or remove the row"
        )


def _encode_marked(talk: Conversation, tokenizer: PreTrainedTokenizerBase) -> tuple[list[int], list[int]]:
    """The same for a template that writes earlier turns anew: by its marks of answers, or those that TRL knows."""
    template = _marked_template(tokenizer)
    render = partial(_render, tokenizer=tokenizer, template=template)
    for place in talk.answers:
        check_answer(talk, place, render(talk.until(place + 1)), render)
    check_written(talk, render(talk), render)
    encoded: Any = tokenizer.apply_chat_template(
        talk.messages,
        tools=list(talk.tools) or None,
        chat_template=template,
        tokenize=True,
        return_dict=True,
        return_assistant_tokens_mask=True,
        **talk.options,
    )
    tokens, marks = encoded["input_ids"], encoded["assistant_masks"]
    spans = [list(group) for is_answer, group in groupby(range(len(tokens)), key=lambda k: marks[k]) if is_answer]
    if talk.unlearned and len(spans) != len(talk.answers):
        raise ConfigError(
            "the tokenizer's chat template does not mark single answers, so some cannot "
            "be left out of training; use another model, or train on all answers"
        )
    labels = [IGNORED] * len(tokens)
    for place, span in zip_longest(talk.answers, spans):
        if span and place not in talk.unlearned:
            labels[span[0] : span[-1] + 1] = tokens[span[0] : span[-1] + 1]
    return tokens, labels


def _marked_template(tokenizer: PreTrainedTokenizerBase) -> str | None:
    with needs("chat", "this chat template"):
        from trl.chat_template_utils import get_training_chat_template
    try:
        return get_training_chat_template(tokenizer)
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigError(
            "the tokenizer's chat template does not write the answer after the prompt, "
            "and TRL does not know the template; use another model, or conversations "
            "with one question and one answer"
        ) from error
