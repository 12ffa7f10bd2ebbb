"""A head that all adapters share: the one that the base was trained with, as it is."""

from __future__ import annotations

import re
from dataclasses import replace

from transformers import AutoConfig

from fourierft.errors import ConfigError
from fourierft.training.groundwork import Groundwork
from fourierft.training.models import explained, required_name


def share_head(ground: Groundwork) -> Groundwork:
    """The groundwork with the head of the base for all, none of an adapter's own; classes in the order of the base.

    Raises: ConfigError, if the base has no trained head, or one for other classes.
    """
    name = required_name(ground.model)
    if ground.base.fresh:
        raise ConfigError(
            f"{name} has no trained head that adapters could share ({ground.base.fresh[0]} is not in its files, or of "
            "another shape); use a base that was trained for this task, or leave out --shared_head"
        )
    shared = replace(
        ground, base=replace(ground.base, heads=(), task_type=None if ground.base.heads else ground.base.task_type)
    )
    return _order_labels(shared, name) if ground.family.labels else shared


def _order_labels(ground: Groundwork, name: str) -> Groundwork:
    """The groundwork with the numbers of the labels that the base's config gives them, if it names them."""
    with explained(name):
        config = AutoConfig.from_pretrained(
            name, revision=ground.model.model_revision, trust_remote_code=ground.model.trust_remote_code
        )
    known, found = tuple(config.id2label[k] for k in sorted(config.id2label)), ground.family.labels
    if all(re.fullmatch(r"LABEL_\d+", label) for label in known):
        return ground
    if set(known) != set(found):
        raise ConfigError(
            f"the head of {name} tells {', '.join(known)} apart, but the data has the labels {', '.join(found)}; "
            "rename the labels, or leave out --shared_head"
        )
    family = replace(ground.family, labels=known)
    ground.base.model.config.update(family.model_settings())
    shown = {split: [ground.family.shown(label) for label in own] for split, own in ground.labels.items()}
    return replace(ground, family=family, labels={split: family.encode_labels(own) for split, own in shown.items()})
