"""Rows of a table come back as they were written, and never as another's."""

from __future__ import annotations

import pytest
import torch

from fourierft.errors import ConfigError, ShapeError
from fourierft.rows.tables import DrawTables, LayerTable
from fourierft.spectral import Draw
from fourierft.store import Layout

SHAPES = {"a.query": (16, 12), "a.value": (12, 16)}


def make_layout(n_frequency: int = 20, shapes=SHAPES, **fields: object) -> Layout:
    config = {"peft_type": "FOURIERFT", "n_frequency": n_frequency, "random_loc_seed": 5, "scaling": 8.0, **fields}
    return Layout.make(config, shapes)


def make_tables(dtype: str = "float32") -> DrawTables:
    return DrawTables(Draw(5), dtype, torch.device("cpu"))


def add(tables: DrawTables, layout: Layout, count: int = 1) -> tuple[list[int], torch.Tensor]:
    slots, values = [tables.take() for _ in range(count)], torch.randn(count, layout.total)
    tables.write(slots, layout, values)
    return slots, values


def test_rows_come_back_with_the_scaling_folded_in() -> None:
    tables, layout = make_tables(), make_layout()
    slots, values = add(tables, layout, 3)
    found = tables.gather([slots[2], 0, slots[0], slots[2]])
    expected = 8 * torch.stack([values[2], torch.zeros(40), values[0], values[2]])
    assert torch.equal(torch.cat([found["a.query"], found["a.value"]], 1), expected)


def test_fewer_coefficients_and_missing_layers_are_zeros_also_in_a_slot_that_was_used() -> None:
    tables, wide = make_tables(), make_layout()
    (slot,), _ = add(tables, wide)
    tables.give(slot)
    narrow = make_layout(5, {"a.value": (12, 16)})
    (again,), values = add(tables, narrow)
    assert again == slot
    found = tables.gather([slot])
    assert not found["a.query"].any()
    assert torch.equal(found["a.value"][0], torch.cat([8 * values[0], torch.zeros(15)]))


def test_a_larger_n_and_another_layer_leave_the_others_as_they_are() -> None:
    tables, small = make_tables(), make_layout(5, {"a.value": (12, 16)})
    (slot,), values = add(tables, small)
    add(tables, make_layout(), 50)
    found = tables.gather([slot])
    assert torch.equal(found["a.value"][0], torch.cat([8 * values[0], torch.zeros(15)]))
    assert not found["a.query"].any()


def test_what_was_gathered_does_not_change_afterwards() -> None:
    tables, layout = make_tables(), make_layout()
    (slot,), _ = add(tables, layout)
    before = tables.gather([slot])["a.query"]
    copy = before.clone()
    tables.write([slot], layout, torch.randn(1, 40))
    assert torch.equal(before, copy)


@pytest.mark.parametrize(("dtype", "bytes_each"), [("float32", 4), ("bfloat16", 2), ("int8", 1)])
def test_errors_are_within_what_is_stated(dtype: str, bytes_each: int) -> None:
    table, values = LayerTable(dtype, torch.device("cpu")), torch.randn(6, 50)
    values[3] = 0
    table.resize(10, 50)
    table.write(torch.arange(1, 7), values)
    error = (table.gather(torch.arange(1, 7)) - values).abs()
    allowed = {
        "float32": torch.zeros_like(values),
        "bfloat16": values.abs() / 256,
        "int8": values.abs().amax(1, keepdim=True) / 253.9 * torch.ones_like(values),
    }[dtype]
    assert bool((error <= allowed).all())
    assert table.nbytes == 10 * 50 * bytes_each + (40 if dtype == "int8" else 0)


def test_room_reserved_is_not_made_again() -> None:
    tables, layout = make_tables(), make_layout()
    tables.reserve(100)
    add(tables, layout, 100)
    assert tables.nbytes == 101 * 40 * 4


def test_a_layer_of_another_shape_is_refused() -> None:
    tables = make_tables()
    add(tables, make_layout())
    with pytest.raises(ShapeError, match=r"a\.query is a 8 x 12 weight in this adapter, but 16 x 12 in earlier ones"):
        tables.check(make_layout(shapes={"a.query": (8, 12)}))


def test_an_unknown_dtype_is_refused() -> None:
    with pytest.raises(ConfigError, match="dtype=int4 is unknown"):
        make_tables("int4")
