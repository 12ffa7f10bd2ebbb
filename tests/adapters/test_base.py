"""The base model behind an adapter: class, shapes without weights, weights one by one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from fourierft.adapters.base import BaseSource, find_layer, find_shape
from fourierft.adapters.base_weights import BaseWeights, check_matrices
from fourierft.errors import CheckpointError, ConfigError
from fourierft.format.checkpoint import read_checkpoint

QUERY = "bert.encoder.layer.0.attention.self.query"


def weights_of(source: BaseSource) -> BaseWeights:
    return BaseWeights(source, source.build_meta())


def test_meta_model_has_the_adapters_labels_and_no_weights(adapter: Path) -> None:
    model = BaseSource(read_checkpoint(adapter)).build_meta()
    assert model.classifier.weight.shape == (3, 32)
    assert {parameter.device.type for parameter in model.parameters()} == {"meta"}


def test_weight_is_found_with_and_without_the_prefix(adapter: Path, tiny_bert: Path) -> None:
    weights = weights_of(BaseSource(read_checkpoint(adapter)))
    expected = load_file(tiny_bert / "model.safetensors")[f"{QUERY.removeprefix('bert.')}.weight"]
    for name in (QUERY, QUERY.removeprefix("bert.")):
        found = weights.read(name)
        assert found is not None
        assert torch.equal(found, expected)
    assert weights.read("bert.no.such.layer") is None


def test_sharded_weights_are_read(adapter: Path, tiny_bert: Path, tmp_path: Path) -> None:
    model = BaseSource(read_checkpoint(adapter)).load()
    model.save_pretrained(tmp_path / "sharded", max_shard_size="20KB")
    assert not (tmp_path / "sharded" / "model.safetensors").exists()
    weights = weights_of(BaseSource(read_checkpoint(adapter), base=str(tmp_path / "sharded")))
    found = weights.read(QUERY)
    assert found is not None
    assert torch.equal(found, model.get_submodule(QUERY).weight.detach())


def test_damaged_base_is_named(adapter: Path, tiny_bert: Path, tmp_path: Path) -> None:
    for file in ("config.json", "model.safetensors"):
        (tmp_path / file).write_bytes((tiny_bert / file).read_bytes()[: 5000 if file != "config.json" else None])
    with pytest.raises(CheckpointError, match="are damaged"):
        weights_of(BaseSource(read_checkpoint(adapter), base=str(tmp_path)))


@pytest.mark.parametrize(
    ("mapping", "expected"),
    [(None, "BertModel"), ({"base_model_class": "BertForMaskedLM", "parent_library": "x"}, "BertForMaskedLM")],
)
def test_class_without_a_task_is_the_one_that_is_named(
    edit_config: Callable[..., Path], mapping: dict[str, str] | None, expected: str
) -> None:
    checkpoint = read_checkpoint(edit_config(task_type=None, auto_mapping=mapping))
    assert type(BaseSource(checkpoint).build_meta()).__name__ == expected


def test_class_that_transformers_has_not_is_refused(edit_config: Callable[..., Path]) -> None:
    adapter = edit_config(task_type=None, auto_mapping={"base_model_class": "os", "parent_library": "os"})
    with pytest.raises(ConfigError, match="which transformers does not have"):
        BaseSource(read_checkpoint(adapter))


def test_layer_that_no_adapter_changes_is_refused() -> None:
    with pytest.raises(CheckpointError, match="is a LayerNorm; adapters change only linear layers, convolutions"):
        find_layer(nn.ModuleDict({"norm": nn.LayerNorm(3)}), "norm", "tiny")


@pytest.mark.parametrize(("layer", "shape"), [(nn.Embedding(3, 2), (3, 2)), (nn.Conv2d(4, 6, (2, 3)), (6, 24))])
def test_shape_of_a_reshaped_layer_is_that_of_its_matrix(layer: nn.Module, shape: tuple[int, int]) -> None:
    assert find_shape(nn.ModuleDict({"layer": layer}), "layer", "tiny") == shape


def test_weight_of_a_tied_head_is_that_of_its_embedding(make_headed: Callable[..., Path], tied_llama: Path) -> None:
    weights = weights_of(BaseSource(read_checkpoint(make_headed())))
    found, expected = weights.read("lm_head"), load_file(tied_llama / "model.safetensors")
    assert "lm_head.weight" not in expected
    assert found is not None
    assert torch.equal(found, expected["model.embed_tokens.weight"])


@pytest.mark.filterwarnings("ignore:Setting `save_embedding_layers` to `True`")
def test_a_matrix_of_a_base_that_is_not_here_is_not_taken_on_trust(
    make_headed: Callable[..., Path], tied_llama: Path
) -> None:
    checkpoint = read_checkpoint(make_headed(save_embedding_layers=True))
    check_matrices(checkpoint)
    (tied_llama / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"cannot be compared with the base's, because the weights of .* are not"):
        check_matrices(checkpoint)
