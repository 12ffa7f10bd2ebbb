"""Shapes of many layers in few words, and back."""

from __future__ import annotations

import json
import random

import pytest

from fourierft.format.shapes import compact, find_shape

LLAMA = {
    **{f"model.layers.{k}.self_attn.{name}_proj": (4096, 4096) for k in range(32) for name in "qkvo"},
    **{f"model.layers.{k}.mlp.{name}_proj": (11008, 4096) for k in range(32) for name in ("gate", "up")},
    **{f"model.layers.{k}.mlp.down_proj": (4096, 11008) for k in range(32)},
}


def test_all_layers_of_a_large_model_are_seven_entries() -> None:
    ends = compact(LLAMA)
    assert len(LLAMA) == 224
    assert ends == {
        **{f"{name}_proj": (4096, 4096) for name in "qkvo"},
        "gate_proj": (11008, 4096),
        "up_proj": (11008, 4096),
        "down_proj": (4096, 11008),
    }
    assert len(json.dumps(ends)) < 200


def test_ends_grow_only_where_they_must() -> None:
    encoder = "roberta.encoder.layer"
    shapes = {f"{encoder}.{k}.attention.output.dense": (32, 32) for k in range(24)}
    shapes |= {f"{encoder}.{k}.intermediate.dense": (48, 32) for k in range(24)}
    shapes |= {f"{encoder}.{k}.output.dense": (32, 48) for k in range(24)}
    ends = compact(shapes)
    assert {name: find_shape(ends, name) for name in shapes} == shapes
    assert len(ends) == 4


def test_a_layer_of_another_shape_is_named_in_full() -> None:
    shapes = LLAMA | {"model.layers.5.self_attn.q_proj": (2048, 4096)}
    ends = compact(shapes)
    assert ends["5.self_attn.q_proj"] == (2048, 4096)
    assert len(ends) == 8
    assert {name: find_shape(ends, name) for name in shapes} == shapes


@pytest.mark.parametrize("seed", range(5))
def test_every_layer_gets_its_own_shape_back(seed: int) -> None:
    rng = random.Random(seed)
    names = {".".join(rng.choices("abc", k=rng.randint(1, 5))) for _ in range(60)}  # many are ends of others
    shapes = {name: (rng.randint(1, 3), 4) for name in names}
    ends = compact(shapes)
    assert {name: find_shape(ends, name) for name in shapes} == shapes


def test_a_layer_that_was_not_told_of_has_no_shape() -> None:
    assert find_shape({"q": (2, 3)}, "a.b.k") is None
    assert find_shape({"q": (2, 3)}, "a.bq") is None
    assert compact({}) == {}
