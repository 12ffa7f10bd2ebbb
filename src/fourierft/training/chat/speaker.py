"""A model that answers: what `fourierft train` wrote, or any causal language model, with or without an adapter."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import GenerationConfig, PreTrainedTokenizerBase, TextStreamer

from fourierft.errors import ConfigError, DataError
from fourierft.training import output
from fourierft.training.arguments import DataArguments, ModelArguments
from fourierft.training.assets import hash_file
from fourierft.training.chat.conversation import Conversation
from fourierft.training.chat.messages import Message
from fourierft.training.chat.template import encode_question
from fourierft.training.devices import find_device
from fourierft.training.evaluation import load_trained
from fourierft.training.families.chats import Chats
from fourierft.training.families.registry import family_of
from fourierft.training.generation.decoding import end_tokens
from fourierft.training.models import context_length, load_model
from fourierft.training.prompts import encode_pair
from fourierft.training.resuming import describe_base
from fourierft.training.starting import load_adapter


@dataclass(frozen=True)
class Sampling:
    """How words are chosen.

    Attributes:
        temperature: 0 takes the likeliest word each time; 1 draws with the model's own probabilities.
        top_p: words are drawn among the likeliest that have this share of the probability.
        max_new_tokens: longest answer; less where the context ends before.
        seed: of what is drawn.
    """

    temperature: float = 0.0
    top_p: float = 1.0
    max_new_tokens: int = 512
    seed: int = 42

    def __post_init__(self) -> None:
        if not 0 <= self.temperature < float("inf"):
            raise ConfigError(
                f"temperature={self.temperature} is not a number of at least 0; use 0, or for example 0.7"
            )
        if not 0 < self.top_p <= 1:
            raise ConfigError(f"top_p={self.top_p} is not between 0 and 1; use 1 to allow every token")
        if self.max_new_tokens < 1:
            raise ConfigError(f"max_new_tokens={self.max_new_tokens} leaves no room for an answer; use at least 1")


@dataclass(frozen=True)
class Speaker:
    """A model ready to answer, with its tokenizer.

    Attributes:
        origin: digest of the weights that it was loaded from.
    """

    model: Any
    tokenizer: PreTrainedTokenizerBase
    origin: str = ""

    def sign(self, sampling: Sampling) -> str:
        """A digest that tells its answers, sampled so, from those of another model or another sampling."""
        return _digest(self.origin, asdict(sampling))

    def encode(self, talk: Conversation, where: str) -> list[int]:
        """Tokens of a conversation up to the answer, as the training wrote them.

        Args:
            where: names the prompt, for errors.

        Raises: DataError, if they leave no room in the model's context, or the template refuses them.
        """
        if self.tokenizer.chat_template is None:  # trained on pairs of prompt and answer, without a template
            tokens = encode_pair("\n".join(message["content"] for message in talk.messages), "a", self.tokenizer)[0]
        else:
            try:
                tokens = encode_question(talk, self.tokenizer)
            except ConfigError as error:
                raise DataError(f"{where}: {error}") from error
        limit = context_length(self.model, self.tokenizer)
        if len(tokens) >= limit:
            raise DataError(
                f"{where} has {len(tokens)} tokens, which leaves no room for an answer within "
                f"the model's {limit} tokens; shorten it"
            )
        return tokens

    def answer(self, prompts: Sequence[list[int]], sampling: Sampling, streamer: Any = None) -> list[str]:
        """The answers to prompts of one batch, without special tokens and surrounding blanks.

        Args:
            prompts: from `encode`.
            streamer: of transformers, to be given the words of a single prompt as they come.
        """
        batch = self.tokenizer.pad({"input_ids": list(prompts)}, padding_side="left", return_tensors="pt")
        length = batch["input_ids"].shape[1]
        room = context_length(self.model, self.tokenizer) - length
        drawn = {"do_sample": True, "temperature": sampling.temperature, "top_p": sampling.top_p, "top_k": 0}
        settings = GenerationConfig(
            max_new_tokens=min(sampling.max_new_tokens, room),
            eos_token_id=self._ends(),
            pad_token_id=self.tokenizer.pad_token_id,
            **(drawn if sampling.temperature else {"do_sample": False}),
        )
        torch.manual_seed(sampling.seed)
        with torch.inference_mode():
            tokens = self.model.generate(**batch.to(self.model.device), generation_config=settings, streamer=streamer)
        return [text.strip() for text in self.tokenizer.batch_decode(tokens[:, length:], skip_special_tokens=True)]

    def speak(self, messages: Sequence[Message], sampling: Sampling) -> str:
        """Answer one conversation, its words printed as they come."""
        streamer = TextStreamer(self.tokenizer, skip_prompt=True, skip_special_tokens=True)
        return self.answer([self.encode(Conversation(list(messages)), "the prompt")], sampling, streamer)[0]

    def _ends(self) -> list[int]:
        known = self.model.generation_config.eos_token_id
        return sorted({*end_tokens(self.tokenizer), *([known] if isinstance(known, int) else known or [])})


def load_speaker(
    source: str,
    adapter: str | None = None,
    *,
    base_model: str | None = None,
    dtype: str | None = None,
    quantization: str | None = None,
    trust_remote_code: bool = False,
    use_cpu: bool = False,
    allow_other_base: bool = False,
) -> Speaker:
    """Load what is to answer.

    Args:
        source: output directory of `fourierft train`, or hub id or folder of a causal language model.
        adapter: folder of a PEFT adapter for that model.
        base_model: where the base of an output directory is, if it moved since.
        allow_other_base: take a base of the same shapes that the adapter was not made for.
        dtype, quantization: of a model; an output directory knows its own. float32 if no dtype is given.

    Raises: FourierFTError, if something is missing, damaged, or does not fit.
    """
    if (Path(source) / output.RECORD).is_file():
        chosen = {"adapter": adapter, "dtype": dtype, "quantization": quantization}
        given = [name for name, value in chosen.items() if value is not None]
        if given:
            raise ConfigError(f"{source} records its own {given[0]}; leave --{given[0]} out, or name a model instead")
        record = output.read_record(source)
        if not family_of(record).writes:
            raise ConfigError(f"{source} was trained for {record['task']} and cannot answer; name a language model")
        trained = load_trained(source, base_model, allow_other_base)
        model, tokenizer = trained.model, trained.processor
        base = base_model or record["base_model"], record["revision"], record["dtype"], record.get("quantization")
        folder: str | None = source
    else:
        if base_model is not None:
            raise ConfigError(
                f"{source} is a model, not a training's folder with a base; give {base_model} "
                "alone, or a training's folder before it"
            )
        arguments = ModelArguments(
            model_name_or_path=source,
            dtype=dtype or "float32",
            quantization=quantization,
            trust_remote_code=trust_remote_code,
        )
        tokenizer = Chats().load_processor(arguments, DataArguments())
        model = load_model(arguments, Chats(), 0).model
        if adapter is not None:
            model = load_adapter(model, Path(adapter), allow_other_base=allow_other_base)
        base, folder = (source, None, arguments.dtype, quantization), adapter
    is_placed = getattr(model, "quantization_method", None) is not None  # where it was quantised
    if not is_placed:
        model = model.to(find_device(use_cpu))
    weights = sorted(Path(folder).glob("*.safetensors")) if folder else []
    origin = _digest(describe_base(*base[:2]), *base[2:], *map(hash_file, weights))
    return Speaker(model.eval(), tokenizer, origin)


def _digest(*parts: Any) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]
