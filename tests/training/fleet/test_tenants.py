"""The rows of an adapter, and their order, depend on nothing but that adapter."""

from __future__ import annotations

import pytest

from fourierft.errors import DataError
from fourierft.training.fleet.settings import FleetSettings
from fourierft.training.fleet.tenants import make_tenants, pad_batch

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


def test_shorter_batches_are_filled_up_with_rows_that_do_not_count() -> None:
    assert pad_batch([[4, 5, 6], [8]], 3) == ([4, 5, 6, 8, 8, 8], [1.0, 1.0, 1.0, 1.0, 0.0, 0.0])


def test_steps_may_be_limited() -> None:
    settings = FleetSettings(rows=3, epochs=5, max_steps=4)
    assert make_tenants(NAMES, settings)["a"].total_steps(settings) == 4


@pytest.mark.parametrize("name", [None, " ", ""])
def test_a_row_without_a_name_is_counted_out(name: str | None) -> None:
    with pytest.raises(DataError, match="column adapter is empty in row 13"):
        make_tenants([*NAMES, name], FleetSettings())
