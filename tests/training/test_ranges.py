"""Numbers that a training can't use are told before anything is loaded."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from fourierft.errors import ConfigError
from fourierft.training.arguments import Arguments
from fourierft.training.run import train


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        ("learning_rate", -1.0, "a number from 0 on"),
        ("learning_rate", float("nan"), "a number from 0 on"),
        ("head_learning_rate", float("inf"), "a number from 0 on"),
        ("per_device_train_batch_size", 0, "1 or more"),
        ("gradient_accumulation_steps", 0, "1 or more"),
        ("save_total_limit", 0, "1 or more"),
        ("save_steps", 0, "1 or more"),
        ("dataloader_num_workers", -1, "a number from 0 on"),
        ("label_smoothing_factor", 1.0, "a number from 0 on, below 1"),
        ("max_steps", 0, "1 or more, or -1 to go by num_train_epochs"),
    ],
)
def test_a_number_out_of_range_is_refused(
    build: Callable[..., Arguments], name: str, value: float, allowed: str
) -> None:
    with pytest.raises(ConfigError, match=f"^{name}={value:g} is out of range; use {allowed}$"):
        build(**{name: value})


def test_epochs_count_where_steps_do_not(build: Callable[..., Arguments]) -> None:
    with pytest.raises(ConfigError, match=r"num_train_epochs=0 is out of range; use more than 0"):
        build(max_steps=-1, num_train_epochs=0)
    assert build(max_steps=1, num_train_epochs=0, save_steps=0.5, learning_rate=0.0).training.max_steps == 1


def test_what_a_trainer_can_t_be_made_with_is_one_sentence(
    build: Callable[..., Arguments],
) -> None:
    with pytest.raises(
        ConfigError, match=r"drops batches of fewer than 64 rows, and so all 48 rows; .* smaller batches"
    ):
        train(build(dataloader_drop_last=True, per_device_train_batch_size=64))
