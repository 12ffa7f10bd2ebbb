"""What adapters of one recipe share: read from a checkpoint, made by hand, the same in every process."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from fourierft import delta_weight
from fourierft.errors import CheckpointError, ShapeError
from fourierft.format.checkpoint import read_checkpoint
from fourierft.format.layout import Layout, read_layout
from fourierft.store.layouts import base_shapes


def test_order_of_target_modules_does_not_matter(make_layout: Callable[..., Layout]) -> None:
    assert make_layout(target_modules={"value", "query"}).digest == make_layout().digest
    assert make_layout(scaling=9.0).digest != make_layout().digest


def test_layout_comes_back_from_its_texts(layout: Layout) -> None:
    again = read_layout(layout.config_text, layout.layers_text, layout.shapes_text)
    assert (again.layers, again.config, again.digest) == (layout.layers, layout.config, layout.digest)


def test_bases_are_those_of_the_checkpoint(adapter: Path) -> None:
    checkpoint = read_checkpoint(adapter)
    layout = Layout.of(checkpoint)
    shapes = base_shapes(checkpoint)
    assert shapes is not None
    bases = layout.with_shapes(shapes).bases
    assert bases is not None
    for name, coefficients in checkpoint.coefficients.items():
        expected = delta_weight(coefficients, checkpoint.basis(32, 32, 40), checkpoint.scaling)
        assert torch.equal(delta_weight(coefficients, bases[name], layout.scaling), expected)


def test_band_pass_bases_are_those_of_the_band(make_layout: Callable[..., Layout]) -> None:
    record = {"entries": "bandpass", "center": 3.0, "width": 2.0, "task_type": None}
    layout = make_layout(fourierft=record)
    assert layout.draw_key == "bandpass(3,2):5"
    assert layout.bases
    assert layout.bases["a.query"] is layout.bases["b.query"]
    assert layout.bases["a.query"] is not make_layout().bases["a.query"]


def test_pattern_gives_layers_their_own_count(make_layout: Callable[..., Layout]) -> None:
    assert make_layout(n_frequency_pattern={"value": 7}).sizes == (20, 7, 20)


def test_base_that_is_gone_costs_the_shapes_alone(edit_config: Callable[..., Path]) -> None:
    checkpoint = read_checkpoint(edit_config(base_model_name_or_path="nowhere/nothing"))
    assert base_shapes(checkpoint) is None
    assert Layout.of(checkpoint).bases is None


def test_layer_too_small_for_its_coefficients_is_named(make_layout: Callable[..., Layout]) -> None:
    with pytest.raises(
        ShapeError, match=r"a\.query is 3 x 4 in the base, which has 12 entries, but the adapter has 20"
    ):
        make_layout(shapes={"a.query": (3, 4)})


def test_config_of_another_method_is_refused(make_layout: Callable[..., Layout]) -> None:
    with pytest.raises(CheckpointError, match="peft_type='LORA'"):
        make_layout(peft_type="LORA")


def test_layers_are_joined_and_split_in_order(layout: Layout) -> None:
    parts = {name: torch.full((20,), float(k)) for k, name in enumerate(["b.query", "a.value", "a.query"])}
    row = layout.join(parts)
    assert row.tolist() == [2.0] * 20 + [1.0] * 20 + [0.0] * 20
    assert all(torch.equal(part, parts[name]) for name, part in layout.split(row).items())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda parts: parts.pop("a.value"), r"differ in 1 layers, such as a\.value"),
        (lambda parts: parts.update({"c.query": torch.zeros(20)}), r"such as c\.query"),
        (lambda parts: parts.update({"a.value": torch.zeros(21)}), r"a\.value got coefficients of shape \[21\]"),
    ],
)
def test_layers_that_do_not_fit_are_named(layout: Layout, change: Callable, message: str) -> None:
    parts = {layer.name: torch.zeros(20) for layer in layout.layers}
    change(parts)
    with pytest.raises(ShapeError, match=message):
        layout.join(parts)
