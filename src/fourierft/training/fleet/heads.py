"""A head that all adapters share: the one that the base was trained with, as it is."""

from __future__ import annotations

import re
from dataclasses import replace

from transformers import AutoConfig

from fourierft.errors import ConfigError
from fourierft.training.models import explained, required_name
from fourierft.training.setup import Setup


def share_head(setup: Setup) -> Setup:
    """The setup with the head of the base for all, none of an adapter's own; classes in the order of the base.

    Raises: ConfigError, if the base has no trained head, or one for other classes.
    """
    name = required_name(setup.model)
    if setup.base.fresh:
        raise ConfigError(
            f"{name} has no trained head that adapters could share ({setup.base.fresh[0]} "
            "is missing in its files, or has another shape); use a base that was trained "
            "for this task, or leave out --shared_head"
        )
    shared = replace(
        setup, base=replace(setup.base, heads=(), task_type=None if setup.base.heads else setup.base.task_type)
    )
    return _order_labels(shared, name) if setup.family.labels else shared


def _order_labels(setup: Setup, name: str) -> Setup:
    """The setup with the numbers of the labels that the base's config gives them, if it names them."""
    with explained(name):
        config = AutoConfig.from_pretrained(
            name, revision=setup.model.model_revision, trust_remote_code=setup.model.trust_remote_code
        )
    known, found = tuple(config.id2label[k] for k in sorted(config.id2label)), setup.family.labels
    if all(re.fullmatch(r"LABEL_\d+", label) for label in known):
        return setup
    if set(known) != set(found):
        raise ConfigError(
            f"the head of {name} has the labels {', '.join(known)}, but the data has "
            f"{', '.join(found)}; rename the labels, or leave out --shared_head"
        )
    family = replace(setup.family, labels=known)
    setup.base.model.config.update(family.model_settings())
    shown = {split: [setup.family.shown(label) for label in own] for split, own in setup.labels.items()}
    return replace(setup, family=family, labels={split: family.encode_labels(own) for split, own in shown.items()})
