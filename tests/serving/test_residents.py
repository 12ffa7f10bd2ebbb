from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from fourierft.errors import ConfigError, ShapeError
from fourierft.serving.residents import Residents
from fourierft.store import Adapter

CPU = torch.device("cpu")
Make = Callable[..., Adapter]


def row_of(residents: Residents, key: int, layer: str = "q_proj") -> torch.Tensor:
    slot = residents.find(key)
    return slot.tables.gather([slot.row])[layer][0]


def test_the_row_of_a_slot_is_scaling_times_the_coefficients(make_adapter: Make) -> None:
    residents = Residents(2, "float32", CPU)
    assert residents.bring([3], make_adapter)
    assert torch.equal(row_of(residents, 3), 60.0 * make_adapter(3).coefficients["q_proj"])


def test_the_one_used_longest_ago_makes_room(make_adapter: Make) -> None:
    residents = Residents(3, "float32", CPU)
    for keys in ([1, 2, 3], [1], [4], [5, 1]):
        residents.bring(keys, make_adapter)
    assert set(residents.keys) == {1, 4, 5}
    assert (residents.loads, residents.evictions) == (5, 2)
    for key in residents.keys:
        assert torch.equal(row_of(residents, key), 60.0 * make_adapter(key).coefficients["q_proj"])


def test_adapters_that_are_wanted_together_do_not_evict_each_other(make_adapter: Make) -> None:
    residents = Residents(3, "float32", CPU)
    residents.bring([1, 2, 3], make_adapter)
    residents.bring([1, 4, 5], make_adapter)
    assert set(residents.keys) == {1, 4, 5}


def test_more_adapters_at_once_than_slots_are_refused(make_adapter: Make) -> None:
    with pytest.raises(ConfigError, match="3 adapters are needed at once, but there are 2 slots"):
        Residents(2, "float32", CPU).bring([1, 2, 3], make_adapter)


def test_nothing_is_loaded_for_a_slot_that_has_it_or_an_adapter_that_is_held(make_adapter: Make) -> None:
    def refuse(key: int) -> Adapter:
        raise AssertionError(key)

    residents = Residents(1, "float32", CPU)
    residents.hold(1, make_adapter(1))
    assert residents.bring([1], refuse)
    assert not residents.bring([1], refuse)
    residents.bring([2], make_adapter)
    assert residents.bring([1], refuse)
    residents.release(1)
    residents.bring([2], make_adapter)
    with pytest.raises(AssertionError):
        residents.bring([1], refuse)


def test_an_adapter_of_another_draw_or_of_more_coefficients_gets_tables_of_its_own_or_wider_ones(
    make_adapter: Make,
) -> None:
    residents = Residents(4, "float32", CPU)
    residents.bring([1], make_adapter)
    residents.bring([2], lambda key: make_adapter(key, n_frequency=20))
    residents.bring([3], lambda key: make_adapter(key, random_loc_seed=1))
    assert residents.find(1).tables is residents.find(2).tables is not residents.find(3).tables
    assert torch.equal(row_of(residents, 1)[:12], 60.0 * make_adapter(1).coefficients["q_proj"])
    assert not row_of(residents, 1)[12:].any()


def test_memory_is_what_the_coefficients_take_in_all_slots(make_adapter: Make) -> None:
    layout = make_adapter(1).layout
    assert Residents(10, "float32", CPU, [layout]).nbytes == 11 * 24 * 4
    assert Residents(10, "bfloat16", CPU, [layout]).nbytes == 11 * 24 * 2
    assert Residents(10, "int8", CPU, [layout]).nbytes == 11 * (24 + 2 * 4)


def test_tables_on_an_accelerator_do_not_grow(make_adapter: Make) -> None:
    residents = Residents(2, "float32", torch.device("meta"), [make_adapter(1).layout])
    residents.hold(1, make_adapter(1))
    for strange in (make_adapter(2, n_frequency=20), make_adapter(2, random_loc_seed=1)):
        with pytest.raises(ShapeError, match="restart the server"):
            residents.hold(2, strange)


def test_an_adapter_with_a_head_is_refused(make_adapter: Make) -> None:
    plain = make_adapter(1)
    headed = Adapter("a", 1, plain.layout, plain.values, "float32", heads={"lm_head.weight": torch.zeros(2, 2)})
    with pytest.raises(ConfigError, match=r"'a' replaces lm_head\.weight"):
        Residents(2, "float32", CPU).hold(1, headed)
