"""Who stays in the tables, and what stands in their rows."""

from __future__ import annotations

import pytest
import torch

from fourierft.format.layout import Layout
from fourierft.rows.slots import Slots

CPU = torch.device("cpu")


def layout(seed: int = 5) -> Layout:
    config = {"peft_type": "FOURIERFT", "n_frequency": 4, "scaling": 2.0, "random_loc_seed": seed}
    return Layout.make(config | {"target_modules": ["q"]}, {"q": (6, 9)})


def row_of(slots: Slots[str], key: str) -> list[float]:
    slot = slots.find(key)
    return slot.tables.gather([slot.row])["q"][0].tolist()


def test_adapters_of_one_draw_share_tables_and_keep_their_numbers() -> None:
    slots: Slots[str] = Slots("float32", CPU)
    values = torch.arange(8.0).view(2, 4)
    slots.write(["a", "b"], layout(), values)
    slots.write(["c"], layout(seed=6), values[:1])
    assert slots.find("a").tables is slots.find("b").tables is not slots.find("c").tables
    assert [row_of(slots, key) for key in "abc"] == [[0, 2, 4, 6], [8, 10, 12, 14], [0, 2, 4, 6]]
    assert {draw.seed for draw in slots.draws} == {5, 6}


def test_who_was_used_longest_ago_goes_first_unless_it_may_not() -> None:
    slots: Slots[str] = Slots("float32", CPU)
    slots.write(["a", "b", "c"], layout(), torch.zeros(3, 4))
    slots.use("a")
    assert slots.keys == ["b", "c", "a"]
    assert slots.idle(3) == []
    assert slots.idle(1) == ["b", "c"]
    assert slots.idle(1, lambda key: key != "b") == ["c", "a"]
    assert slots.idle(0, lambda key: key == "a") == ["a"]


def test_a_slot_that_was_emptied_is_taken_again() -> None:
    slots: Slots[str] = Slots("float32", CPU)
    slots.write(["a"], layout(), torch.ones(1, 4))
    row = slots.find("a").row
    slots.drop("a")
    assert "a" not in slots
    assert len(slots) == 0
    with pytest.raises(KeyError):
        slots.find("a")
    slots.write(["b"], layout(), torch.full((1, 4), 3.0))
    assert slots.find("b").row == row
    assert row_of(slots, "b") == [6.0] * 4


def test_room_from_the_start_keeps_the_tables_where_they_are() -> None:
    slots: Slots[int] = Slots("float32", CPU, room=3)
    slots.write([1], layout(), torch.zeros(1, 4))
    size = slots.nbytes
    slots.write([2, 3], layout(), torch.zeros(2, 4))
    assert slots.nbytes == size == 4 * 4 * 4  # three and the base, four numbers of four bytes
