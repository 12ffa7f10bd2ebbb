"""Weights that stand at several places of a model, as that of a head that is tied to its embedding.

An update belongs to one of these places. While it is not merged it leaves the others alone anyway; a merge gives its
layer a weight of its own, and then config, weights and file of the model must say that the two have parted, or the
model is another one when it is loaded again.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Iterator
from operator import attrgetter

from torch import nn
from transformers import PretrainedConfig, PreTrainedModel

_FLAG = "tie_word_embeddings"


def shared_weights(model: nn.Module) -> set[int]:
    """`id` of each parameter that stands at several places of the model."""
    seen: set[int] = set()
    shared: set[int] = set()
    for _, parameter in model.named_parameters(remove_duplicate=False):
        (shared if id(parameter) in seen else seen).add(id(parameter))
    return shared


def tie_flags(model: nn.Module) -> list[tuple[PretrainedConfig, bool]]:
    """The configs in a model that say whether weights are tied, and what they say."""
    models = [part for part in model.modules() if isinstance(part, PreTrainedModel)]
    configs = {id(config): config for part in models for config in _configs(part.config)}
    return [(config, getattr(config, _FLAG)) for config in configs.values()]


def record_parting(model: nn.Module) -> None:
    """Make a model of transformers, parts of whose tied weights a merge has parted, come back so when it is reloaded.

    Its config says `tie_word_embeddings=False`, and whatever else that flag tied gets a copy of its own, to be saved.
    Where the flag means more than that, as in T5, whose outputs it scales, it stays: weights that are in the file and
    differ are not tied when they are loaded.
    """
    ties = list(_ties(model))
    for part, pairs in ties:
        if all(_is_tied(model, pair) for pair in pairs) or not _ties_alone(part):
            continue
        for config in _configs(part.config):
            setattr(config, _FLAG, False)
    for part, pairs in ties:
        for pair in pairs:
            if not getattr(part.config, _FLAG) and _is_tied(model, pair):
                holder, _, name = pair[0].rpartition(".")
                weight = attrgetter(pair[1])(model)
                setattr(model.get_submodule(holder), name, nn.Parameter(weight.detach().clone(), weight.requires_grad))
    if isinstance(model, PreTrainedModel):
        kept = {
            target: source
            for target, source in model.all_tied_weights_keys.items()
            if _is_tied(model, (target, source))
        }
        model.all_tied_weights_keys = kept


def _ties(model: nn.Module) -> Iterator[tuple[PreTrainedModel, list[tuple[str, str]]]]:
    """Each model of transformers in a model, with the pairs of weights that its config ties, by their names."""
    for prefix, part in model.named_modules():
        if isinstance(part, PreTrainedModel):
            start = f"{prefix}." if prefix else ""
            pairs = part.get_expanded_tied_weights_keys(all_submodels=False).items()
            yield part, [(start + target, start + source) for target, source in pairs]


def _configs(config: PretrainedConfig) -> list[PretrainedConfig]:
    """A config and that of the text model inside, which other programs read, if they have the flag."""
    return [own for own in (config, config.get_text_config()) if isinstance(getattr(own, _FLAG, None), bool)]


def _is_tied(model: nn.Module, pair: tuple[str, str]) -> bool:
    return attrgetter(pair[0])(model) is attrgetter(pair[1])(model)


def _ties_alone(part: PreTrainedModel) -> bool:
    """Whether the flag does nothing in this model but tie weights."""
    if _FLAG in inspect.unwrap(type(part).forward).__code__.co_names:
        return False
    config = copy.deepcopy(part.config)
    for own in _configs(config):
        setattr(own, _FLAG, False)
    return type(config).from_dict(config.to_dict()).to_dict() == config.to_dict()
