"""Answers are those of a greedy search by hand, alone or in a batch, of a run, a model, or a model with an adapter."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from fourierft.errors import CheckpointError, ConfigError, DataError
from fourierft.training.arguments import Arguments
from fourierft.training.chat.conversation import Conversation
from fourierft.training.chat.speaker import Sampling, Speaker, load_speaker
from fourierft.training.run import train

QUESTIONS = [[{"role": "user", "content": text}] for text in ("the film is", "a", "the book is very and not")]
GREEDY = Sampling(max_new_tokens=6)


@pytest.fixture
def speaker(chat_llama: Path) -> Speaker:
    return load_speaker(str(chat_llama), use_cpu=True)


def search(model: Any, tokens: list[int], count: int) -> list[int]:
    """The likeliest word each time, without a cache, until the end token."""
    found: list[int] = []
    with torch.no_grad():
        while len(found) < count and 2 not in found:
            found.append(int(model(input_ids=torch.tensor([tokens + found])).logits[0, -1].argmax()))
    return found


def test_batch_of_prompts_is_answered_as_each_alone(speaker: Speaker, chat_llama: Path) -> None:
    model, tokenizer = AutoModelForCausalLM.from_pretrained(chat_llama), AutoTokenizer.from_pretrained(chat_llama)
    prompts = [speaker.encode(Conversation(messages), "a prompt") for messages in QUESTIONS]
    assert tokenizer.decode(prompts[0]) == "[BOS] the film is [EOS] [BOS]"
    expected = [tokenizer.decode(search(model, prompt, 6), skip_special_tokens=True) for prompt in prompts]
    assert speaker.answer(prompts, GREEDY) == expected
    assert len({*expected}) > 1


def test_run_and_its_adapter_answer_alike(build: Callable[..., Arguments], chat_llama: Path, tmp_path: Path) -> None:
    train(build(learning_rate=5e-2, max_steps=20))
    answers, origins = [], []
    for speaker in (
        load_speaker(str(tmp_path / "out"), use_cpu=True),
        load_speaker(str(chat_llama), str(tmp_path / "out"), use_cpu=True),
        load_speaker(str(chat_llama), use_cpu=True),
    ):
        prompts = [speaker.encode(Conversation(messages), "a prompt") for messages in QUESTIONS]
        answers.append(speaker.answer(prompts, GREEDY))
        origins.append(speaker.origin)
    assert answers[0] == answers[1] != answers[2]
    assert len(set(origins)) == 2
    assert origins[0] == origins[1]
    with pytest.raises(ConfigError, match="is a model, not a training's folder with a base"):
        load_speaker(str(chat_llama), base_model="elsewhere")


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")  # PEFT's use of it
def test_run_over_four_bits_answers(build: Callable[..., Arguments], tmp_path: Path) -> None:
    train(build(quantization="nf4", max_steps=1))
    speaker = load_speaker(str(tmp_path / "out"), use_cpu=True)
    assert speaker.model.get_base_model().is_loaded_in_4bit
    assert isinstance(speaker.speak(QUESTIONS[0], GREEDY), str)


def test_run_on_pairs_is_asked_as_it_was_trained(
    build: Callable[..., Arguments], tiny_llama: Path, tmp_path: Path
) -> None:
    (tmp_path / "rows.csv").write_text("prompt,completion\n" + "the film,good\n" * 8)
    file = str(tmp_path / "rows.csv")
    train(build(model_name_or_path=str(tiny_llama), task="answers", train_file=file, validation_file=file))
    speaker = load_speaker(str(tmp_path / "out"), use_cpu=True)
    assert speaker.tokenizer.decode(speaker.encode(Conversation(QUESTIONS[0]), "a prompt")) == "[BOS] the film is"


def test_words_are_printed_as_they_come(speaker: Speaker, capsys: pytest.CaptureFixture[str]) -> None:
    text = speaker.speak(QUESTIONS[0], GREEDY)
    assert capsys.readouterr().out.split() == text.split()


def test_drawing_repeats_with_its_seed(speaker: Speaker) -> None:
    prompts = [speaker.encode(Conversation(QUESTIONS[0]), "a prompt")] * 4
    drawn = [speaker.answer(prompts, Sampling(2.0, seed=seed, max_new_tokens=8)) for seed in (1, 1, 2)]
    assert drawn[0] == drawn[1] != drawn[2]
    assert len({*drawn[0]}) > 1
    assert speaker.answer(prompts, Sampling(2.0, top_p=1e-6, max_new_tokens=8)) == speaker.answer(
        prompts, Sampling(max_new_tokens=8)
    )


def test_answer_ends_where_the_context_does(speaker: Speaker) -> None:
    prompt = speaker.encode(Conversation([{"role": "user", "content": "very " * 20}]), "a prompt")
    model = speaker.model
    assert len(prompt) < 32
    text = speaker.answer([prompt], Sampling(max_new_tokens=500))[0]
    assert len(text.split()) <= 32 - len(prompt)
    assert model.config.max_position_embeddings == 64


def test_prompt_longer_than_the_context_is_refused(speaker: Speaker) -> None:
    with pytest.raises(
        DataError, match=r"prompt 7 has 5\d tokens, which leaves no room for an answer within the model's 32 tokens"
    ):
        speaker.encode(Conversation([{"role": "user", "content": "very " * 50}]), "prompt 7")


@pytest.mark.parametrize(
    "values", [{"temperature": -1.0}, {"temperature": float("nan")}, {"top_p": 0.0}, {"max_new_tokens": 0}]
)
def test_impossible_settings_are_refused(values: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=f"{next(iter(values))}="):
        Sampling(**values)


def test_what_can_not_speak_is_named(build: Callable[..., Arguments], chat_llama: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="nobody can't be loaded"):
        load_speaker(str(tmp_path / "nobody"))
    with pytest.raises(CheckpointError, match=r"is not an adapter, because it has no adapter_config\.json"):
        load_speaker(str(chat_llama), str(tmp_path))
    train(build(max_steps=1))
    with pytest.raises(ConfigError, match="records its own quantization; leave --quantization out"):
        load_speaker(str(tmp_path / "out"), quantization="nf4")
