"""Conversations as tokens: what is learned is what the assistant says, whatever writes the rest."""

from __future__ import annotations

from itertools import groupby
from pathlib import Path
from typing import Any

import pytest
import trl
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoTokenizer, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from fourierft.errors import ConfigError
from fourierft.training.chat.conversation import Conversation
from fourierft.training.chat.template import (
    ALPACA_TEMPLATE,
    encode_conversation,
    encode_question,
    ensure_template,
    template_name,
)
from fourierft.training.labels import IGNORED

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


ASKED, ANSWERED, SYSTEM = TURNS[0], TURNS[1], {"role": "system", "content": "so"}
CALL: dict[str, Any] = {"role": "assistant", "content": "", "tool_calls": [
    {"type": "function", "function": {"name": "look", "arguments": {"at": "film"}}}
]}  # fmt: skip
FOUND = {"role": "tool", "content": "a book"}
TOOLS = [{"type": "function", "function": {"name": "look", "description": "see", "parameters": {}}}]


@pytest.fixture(scope="module")
def bytewise() -> PreTrainedTokenizerBase:
    """A tokenizer of single bytes, under which every template can be read back."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    model = Tokenizer(models.BPE(vocab={letter: index for index, letter in enumerate(letters)}, merges=[]))
    model.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    model.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=model, bos_token="<s>", eos_token="</s>")


def write(tokenizer: Any, template: str, talk: Conversation) -> tuple[str, list[str]]:
    """All that one of the templates that TRL carries makes of a conversation, and the parts of it that are learned."""
    tokenizer.chat_template = (Path(trl.__file__).parent / "chat_templates" / f"{template}.jinja").read_text("utf-8")
    tokens, labels = encode_conversation(talk, tokenizer)
    spans = groupby(zip(tokens, labels, strict=True), key=lambda pair: pair[1] != IGNORED)
    return tokenizer.decode(tokens), [
        tokenizer.decode([t for t, _ in span]) for is_learned, span in spans if is_learned
    ]


@pytest.fixture
def tokenizer(tiny_llama: Path) -> PreTrainedTokenizerBase:
    return AutoTokenizer.from_pretrained(tiny_llama)


def learned(tokenizer: Any, turns: list[dict[str, str]]) -> tuple[str, str]:
    """All of a conversation, and what of it is learned, a bar where something is left out between."""
    tokens, labels = encode_conversation(Conversation(turns), tokenizer)
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
    tokens, labels = encode_conversation(Conversation(TURNS), tokenizer)
    last = len(labels) - labels[::-1].index(IGNORED)
    assert encode_question(Conversation(TURNS[:3]), tokenizer) == tokens[:last]


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
    with pytest.raises(ConfigError, match=r"does not write the answer after the prompt.*one question and one answer"):
        encode_conversation(Conversation(TURNS), tokenizer)


def test_what_a_template_refuses_is_said(tokenizer: PreTrainedTokenizerBase) -> None:
    tokenizer.chat_template = "{{ raise_exception('no system role here') }}"
    with pytest.raises(ConfigError, match="refuses a conversation: no system role here"):
        encode_question(Conversation(TURNS[:1]), tokenizer)


@pytest.mark.parametrize(
    ("template", "messages", "learned"),
    [
        ("qwen2_5", TURNS, ["good<|im_end|>", "is dull<|im_end|>"]),
        ("qwen2_5", [ANSWERED, *TURNS], ["good<|im_end|>"] * 2 + ["is dull<|im_end|>"]),
        ("qwen2_5", [SYSTEM, ANSWERED, *TURNS], ["good<|im_end|>"] * 2 + ["is dull<|im_end|>"]),
        ("qwen2_5", [ASKED, ASKED, ANSWERED, ANSWERED], ["good<|im_end|>"] * 2),
        ("llama3", [ANSWERED, *TURNS[2:]], ["good<|eot_id|>", "is dull<|eot_id|>"]),
        ("qwen3", [ANSWERED, ASKED, ANSWERED], ["good<|im_end|>", "<think>\n\n</think>\n\ngood<|im_end|>"]),
        ("qwen3", [ASKED, {**ANSWERED, "reasoning_content": "well"}], ["<think>\nwell\n</think>\n\ngood<|im_end|>"]),
        ("qwen2_5", [ASKED, CALL, FOUND, ANSWERED],
         ['<tool_call>\n{"name": "look", "arguments": {"at": "film"}}\n</tool_call><|im_end|>', "good<|im_end|>"]),
        ("llama3_1", [ASKED, CALL, FOUND, ANSWERED],
         ['{"name": "look", "parameters": {"at": "film"}}<|eot_id|>', "good<|eot_id|>"]),
        ("gemma", TURNS, ["good<end_of_turn>", "is dull<end_of_turn>"]),
    ],
)  # fmt: skip
def test_models_own_templates_are_taught_their_answers(
    bytewise: PreTrainedTokenizerBase, template: str, messages: list[dict[str, Any]], learned: list[str]
) -> None:
    text, found = write(bytewise, template, Conversation(messages))
    assert [part.rstrip() for part in found] == learned
    if template != "qwen3":  # which writes earlier turns anew
        assert text.rstrip() == bytewise.apply_chat_template(messages, tokenize=False).rstrip()


def test_calls_have_the_form_that_the_template_wants(bytewise: Any) -> None:
    messages = [ASKED, CALL, FOUND, ANSWERED]
    text, learned = write(bytewise, "deepseekv3", Conversation(messages))
    function = {**CALL["tool_calls"][0], "function": {"name": "look", "arguments": '{"at": "film"}'}}
    wanted = [ASKED, {**CALL, "tool_calls": [function]}, FOUND, ANSWERED]
    with pytest.raises(TypeError, match="can only concatenate str"):
        bytewise.apply_chat_template(messages, tokenize=False)
    assert text == bytewise.apply_chat_template(wanted, tokenize=False)
    assert 'look\n```json\n{"at": "film"}\n```' in learned[0]
    assert "a book" not in "".join(learned)


@pytest.mark.parametrize("template", ["qwen2_5", "qwen3", "deepseekv3", "gptoss"])
def test_answers_of_no_weight_are_read_and_not_learned(bytewise: PreTrainedTokenizerBase, template: str) -> None:
    whole, (first, second) = write(bytewise, template, Conversation(TURNS))
    assert ("good" in first, "is dull" in second) == (True, True)
    assert write(bytewise, template, Conversation(TURNS, unlearned=frozenset([1]))) == (whole, [second])
    assert write(bytewise, template, Conversation(TURNS, unlearned=frozenset([3]))) == (whole, [first])


def test_answers_that_can_not_be_told_apart_are_refused(bytewise: PreTrainedTokenizerBase) -> None:
    talk = Conversation([ASKED, ANSWERED, ANSWERED], unlearned=frozenset([1]))
    with pytest.raises(ConfigError, match="does not mark single answers, so some cannot be left out of training"):
        write(bytewise, "deepseekv3", talk)


def test_tools_and_options_are_given_to_the_template(bytewise: Any) -> None:
    text, learned = write(bytewise, "qwen2_5", Conversation([ASKED, CALL], TOOLS))
    assert text.rstrip() == bytewise.apply_chat_template([ASKED, CALL], tools=TOOLS, tokenize=False).rstrip()
    assert '"description": "see"' in text
    assert len(learned) == 1
    question = encode_question(Conversation([ASKED], TOOLS), bytewise)
    assert text.startswith(bytewise.decode(question))
    write(bytewise, "qwen3", Conversation([ASKED, ANSWERED]))  # sets the template
    thinking = encode_question(Conversation([ASKED], options={"enable_thinking": False}), bytewise)
    assert bytewise.decode(thinking).endswith("<|im_start|>assistant\n<think>\n\n</think>\n\n")


@pytest.mark.parametrize(
    ("template", "talk", "message"),
    [
        ("gemma", Conversation([SYSTEM, ASKED, ANSWERED]), "refuses a conversation: System role not supported"),
        ("gemma", Conversation([ANSWERED, ASKED, ANSWERED]), "refuses a conversation: .* roles must alternate"),
        ("llama3", Conversation([ASKED, ANSWERED], TOOLS), "leaves out tools; remove it, or use"),
        ("llama3", Conversation([ASKED, CALL]), "leaves out the tool_calls of an answer"),
        ("llama3_1", Conversation([ASKED, {**CALL, "content": "I look."}]), "leaves out some of the text of an answer"),
        ("qwen2_5", Conversation([ASKED, {**ANSWERED, "reasoning_content": "well"}]), "the reasoning_content of"),
        ("deepseekv3", Conversation([ASKED, {**ANSWERED, "content": "<think>well</think>good"}]), "some of the text"),
        ("deepseekv3", Conversation([ASKED, CALL], TOOLS), "leaves out tools"),
        ("qwen2_5", Conversation([ASKED, {**ANSWERED, "content": "", "refusal": "No."}]), "the refusal of an answer"),
    ],
)  # fmt: skip
def test_what_a_template_leaves_out_is_said(
    bytewise: PreTrainedTokenizerBase, template: str, talk: Conversation, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        write(bytewise, template, talk)


def test_messages_that_a_template_has_no_place_for_are_said(tokenizer: PreTrainedTokenizerBase) -> None:
    ensure_template(tokenizer)
    cases: tuple[tuple[list[dict[str, Any]], str], ...] = (
        ([ASKED, FOUND, ANSWERED], "the Alpaca prompt used instead has no place for a message of role tool"),
        ([ASKED, ASKED, ANSWERED], "has no place for two questions in a row"),
        ([ASKED, CALL], "leaves out the tool_calls of an answer"),
    )
    for messages, message in cases:
        with pytest.raises(ConfigError, match=message):
            encode_conversation(Conversation(messages), tokenizer)
    tokenizer.chat_template = (
        "{% for m in messages if m.role in ('user', 'assistant') %}[BOS] {{ m.content }} [EOS] {% endfor %}"
    )
    for messages, message in (
        ([SYSTEM, ASKED, ANSWERED], "role system"),
        ([ASKED, ANSWERED, FOUND, ANSWERED], "role tool"),
    ):
        with pytest.raises(ConfigError, match=f"leaves out a message of {message}"):
            encode_conversation(Conversation(messages), tokenizer)


def test_the_alpaca_prompt_may_begin_with_an_answer(tokenizer: PreTrainedTokenizerBase) -> None:
    ensure_template(tokenizer)
    _, answers = learned(tokenizer, [ANSWERED, *TURNS])
    assert answers == "good [EOS] good [EOS] is dull [EOS]"
