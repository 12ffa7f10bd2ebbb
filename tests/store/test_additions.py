"""What is added: any text is a name, and what cannot be kept is refused before anything is written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from fourierft.errors import CheckpointError, ConfigError, ShapeError, StoreError
from fourierft.fleet import AdapterBank
from fourierft.store import AdapterStore, Layout

HOSTILE = [
    "../../etc/passwd",
    "/etc/passwd",
    "..",
    " ",
    "a\nb\tc",
    "x'; DROP TABLE fourierft_adapters; --",
    'quo"te',
    "%s :name ? %",
    "müller/テナント 🎈",
    "e\u0301",
    "\u00e9",
    "-rf",
    "n" * 500,
    "\U0010ffff" * 500,
]


def test_record_and_metrics_of_the_training_come_along(store: AdapterStore, adapter: Path, tmp_path: Path) -> None:
    (adapter / "fourierft.json").write_text('{"labels": ["bad", "fine", "good"]}')
    (adapter / "metrics.json").write_text('{"accuracy": 0.82}')
    store.add("reviews", adapter)
    assert store.get("reviews").metrics == {"accuracy": 0.82}
    store.export("reviews", tmp_path / "out")
    assert (tmp_path / "out/fourierft.json").read_text() == '{"labels": ["bad", "fine", "good"]}'
    store.add("reviews", adapter, metrics={"f1": 0.5})
    assert store.get("reviews").metrics == {"f1": 0.5}


@pytest.mark.parametrize("name", HOSTILE)
def test_any_text_is_a_name(store: AdapterStore, layout: Layout, row: Any, name: str, tmp_path: Path) -> None:
    store.put(name, layout, row(0), metrics={name: name})
    store.put("other", layout, row(1))
    assert torch.equal(store.get(name).values, row(0))
    assert set(store.names()) == {name, "other"}
    assert [listed.name for listed in store.list(prefix=name)] == [name]
    assert store.remove(name) == 1
    assert list(store.names()) == ["other"]
    assert not [path for path in tmp_path.rglob("*") if not path.name.startswith("fleet.db")]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("", "the name has 0 characters; use 1 to 500"),
        ("n" * 501, "the name has 501 characters; use 1 to 500"),
        ("a\0b", r"the name 'a\\x00b' has a character that is not valid text"),
        ("\udc80", "has a character that is not valid text"),
        ("__base__", "the name '__base__' means the base without an adapter"),
    ],
)
def test_what_is_no_name_is_refused(store: AdapterStore, layout: Layout, row: Any, name: str, message: str) -> None:
    with pytest.raises(StoreError, match=message):
        store.put(name, layout, row(0))
    assert len(store) == 0


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_numbers_that_are_not_finite_are_refused(store: AdapterStore, layout: Layout, row: Any, value: float) -> None:
    with pytest.raises(ShapeError, match="hold NaN or infinity"):
        store.put("a", layout, row(0).index_fill(0, torch.tensor(3), value))


def test_adapter_without_a_base_is_refused(store: AdapterStore, edit_config: Any) -> None:
    with pytest.raises(StoreError, match="names no base model"):
        store.add("a", edit_config(base_model_name_or_path=None))


def test_unknown_dtype_is_refused_before_anything_is_read(store: AdapterStore, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="dtype=int4"):
        store.add("a", tmp_path / "gone", "int4")


def test_damaged_adapter_adds_nothing(store: AdapterStore, adapter: Path) -> None:
    tensors = load_file(adapter / "adapter_model.safetensors")
    tensors[next(key for key in tensors if "spectrum" in key)][0] = float("nan")
    save_file(tensors, adapter / "adapter_model.safetensors")
    with pytest.raises(ValueError, match="holds NaN"):
        store.add("a", adapter)
    assert len(store) == 0


@pytest.mark.filterwarnings("ignore:Setting `save_embedding_layers` to `True`", "ignore:`is_gradient_checkpointing`")
def test_a_matrix_that_is_the_bases_is_not_kept_and_another_is_refused(store: AdapterStore, make_headed: Any) -> None:
    whole = make_headed("whole", save_embedding_layers=True)
    assert len(load_file(whole / "adapter_model.safetensors")) == 4
    store.add("whole", whole)
    assert store.get("whole").heads == {}
    resized = make_headed("resized", tokens=41)
    with pytest.raises(
        CheckpointError,
        match=r"contains the whole matrix lm_head.weight \[41, 16\], which differs from that of the base",
    ):
        store.add("resized", resized)
    assert list(store.names()) == ["whole"]


def test_adapters_of_parameters_are_refused(store: AdapterStore, expert_adapter: Path) -> None:
    with pytest.raises(CheckpointError, match="adapts parameters, such as the weights of fused experts, which stores"):
        store.add("experts", expert_adapter)
    with pytest.raises(CheckpointError, match="adapts parameters"):
        AdapterBank().add("experts", expert_adapter)
