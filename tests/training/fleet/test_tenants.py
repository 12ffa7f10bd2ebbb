"""The rows of an adapter, and their order, depend on nothing but that adapter."""

from __future__ import annotations

import random

import pytest

from fourierft.errors import DataError
from fourierft.training.fleet.settings import FleetSettings
from fourierft.training.fleet.tenants import divide_batch, make_tenants

NAMES = ["a"] * 7 + ["b"] * 4 + ["c"]


def test_every_row_is_seen_once_an_epoch() -> None:
    settings = FleetSettings(rows=3, epochs=2, validation_fraction=0.0)
    tenant = make_tenants(NAMES, settings)["a"]
    assert tenant.total_steps(settings) == 6
    epochs = [[row for step in range(3 * e, 3 * e + 3) for row in tenant.batch(step, settings)] for e in (0, 1)]
    assert [sorted(epoch) for epoch in epochs] == [list(range(7))] * 2
    assert epochs[0] != epochs[1]


def test_the_order_is_the_same_whoever_else_is_there() -> None:
    settings = FleetSettings()
    together, alone = make_tenants(NAMES, settings)["a"], make_tenants(NAMES[:7], settings)["a"]
    assert together == alone
    assert [together.batch(k, settings) for k in range(8)] == [alone.batch(k, settings) for k in range(8)]
    assert make_tenants(NAMES, FleetSettings(seed=7))["a"].batch(0, FleetSettings(seed=7)) != together.batch(
        0, settings
    )


def test_rows_held_out_are_not_trained_on_and_one_row_is_always_left() -> None:
    tenants = make_tenants(NAMES, FleetSettings(validation_fraction=0.5))
    assert {name: len(tenant.held_out) for name, tenant in tenants.items()} == {"a": 4, "b": 2, "c": 0}
    for tenant in tenants.values():
        assert not set(tenant.train) & set(tenant.held_out)
        assert tenant.train


def test_classes_of_an_adapter_keep_their_shares_and_a_row_to_train_on() -> None:
    classes = [0, 1, 0, 0, 1, 0, 2, 1, 1, 0, 1, 0]
    for seed in range(6):
        settings = FleetSettings(validation_fraction=0.5, seed=seed)
        tenants = make_tenants(NAMES, settings, first=100, classes=classes)
        held_out = {name: sorted(classes[row - 100] for row in tenant.held_out) for name, tenant in tenants.items()}
        assert held_out == {"a": [0, 0, 0, 1], "b": [1, 1], "c": []}  # of 4: 2.3, 1.1, 0.6; class 2 has one row
        assert {classes[row - 100] for row in tenants["a"].train} == {0, 1, 2}
    plain = make_tenants(NAMES, FleetSettings(validation_fraction=0.5))
    assert [len(tenant.held_out) for tenant in plain.values()] == [4, 2, 0]


def test_rows_of_a_pass_are_about_as_long() -> None:
    assert divide_batch([12, 90, 12, 88, 11]) == [[1, 3], [0, 2, 4]]
    assert divide_batch([5] * 4) == [[0, 1, 2, 3]], "nothing is padded, so one pass"
    lengths = [random.Random(0).randrange(8, 60) for _ in range(128)]
    passes = divide_batch(lengths)
    assert sorted(place for own in passes for place in own) == list(range(128))
    assert sum(lengths[own[0]] * len(own) for own in passes) <= 1.1 * sum(lengths)
    assert len(passes) <= 16


def test_a_pass_has_no_more_tokens_than_memory_is_meant_for() -> None:
    passes = divide_batch([512] * 9 + [3000])
    assert [len(own) for own in passes] == [1, 4, 4, 1]


def test_an_empty_batch_has_no_pass() -> None:
    assert divide_batch([]) == []


def test_steps_may_be_limited() -> None:
    settings = FleetSettings(rows=3, epochs=5, max_steps=4)
    assert make_tenants(NAMES, settings)["a"].total_steps(settings) == 4


@pytest.mark.parametrize("name", [None, " ", ""])
def test_a_row_without_a_name_is_counted_out(name: str | None) -> None:
    with pytest.raises(DataError, match="column adapter is empty in row 13"):
        make_tenants([*NAMES, name], FleetSettings())
