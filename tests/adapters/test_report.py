"""Looking into adapters: every number compared with one computed another way."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import PreTrainedModel

from fourierft.adapters.report import inspect_adapter, natural_order, spectral_norm
from fourierft.errors import CheckpointError, ConfigError
from fourierft.spectral.reference import reference_delta_weight

QUERY = "bert.encoder.layer.0.attention.self.query"


def test_norms_are_those_of_the_dense_update(adapter: Path, load_base: Callable[..., PreTrainedModel]) -> None:
    report = inspect_adapter(adapter)
    layer = next(layer for layer in report.layers if layer.name == QUERY)
    coefficients = load_file(adapter / "adapter_model.safetensors")[f"base_model.model.{QUERY}.fourierft_spectrum"]
    flat = torch.randperm(32 * 32, generator=torch.Generator().manual_seed(5))[:40]
    delta = torch.fft.ifft2(torch.zeros(1024).index_put((flat,), coefficients).reshape(32, 32)).real * 25.0
    weight = load_base().get_submodule(QUERY).weight.detach()
    assert layer.shape == (32, 32)
    assert (layer.n_frequency, layer.n_bytes) == (40, 160)
    assert layer.coefficient_norm == pytest.approx(float(coefficients.norm()), rel=1e-5)
    assert layer.frobenius_norm == pytest.approx(float(delta.norm()), rel=1e-5)
    assert layer.spectral_norm == pytest.approx(float(torch.linalg.matrix_norm(delta, 2)), rel=1e-5)
    assert layer.relative_norm == pytest.approx(float(delta.norm() / weight.norm()), rel=1e-5)


def test_totals_add_up(adapter: Path) -> None:
    report = inspect_adapter(adapter)
    assert (report.coefficients, report.coefficient_bytes, report.dense_parameters) == (160, 640, 4 * 1024)
    assert (report.saved_parameters, report.saved_bytes) == (3 * 32 + 3, 4 * 99)
    assert report.file_bytes == (adapter / "adapter_model.safetensors").stat().st_size


def test_unreachable_base_costs_shapes_only(edit_config: Callable[..., Path], tmp_path: Path) -> None:
    report = inspect_adapter(edit_config(base_model_name_or_path=str(tmp_path / "gone")))
    assert "gone cannot be loaded" in (report.base_problem or "")
    assert [layer.n_frequency for layer in report.layers] == [40] * 4
    assert {layer.shape for layer in report.layers} == {None}
    assert report.dense_parameters is None


def test_base_asked_for_must_be_reachable(adapter: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="gone cannot be loaded"):
        inspect_adapter(adapter, base=str(tmp_path / "gone"))


def test_base_without_weights_costs_the_relative_norm_only(
    edit_config: Callable[..., Path], tiny_bert: Path, tmp_path: Path
) -> None:
    (tmp_path / "config.json").write_text((tiny_bert / "config.json").read_text())
    report = inspect_adapter(edit_config(base_model_name_or_path=str(tmp_path)))
    assert all(layer.frobenius_norm and layer.relative_norm is None for layer in report.layers)


def test_layers_are_found_by_the_end_of_their_name(adapter: Path) -> None:
    assert [layer.name for layer in inspect_adapter(adapter, layers=["0.attention.self.query"]).layers] == [QUERY]
    assert len(inspect_adapter(adapter, layers=["query"]).layers) == 2


def test_unknown_layer_is_refused(adapter: Path) -> None:
    with pytest.raises(ConfigError, match="has no layer key; it has 4 layers, such as"):
        inspect_adapter(adapter, layers=["key"])


def test_report_is_json(adapter: Path) -> None:
    report = json.loads(json.dumps(inspect_adapter(adapter).to_dict(), allow_nan=False))
    assert report["totals"]["coefficients"] == 160
    assert report["layers"][0]["shape"] == [32, 32]


def test_layers_come_in_counting_order() -> None:
    names = ["layer.10.q", "layer.2.q", "layer.2.k", "head"]
    assert sorted(names, key=natural_order) == ["head", "layer.2.k", "layer.2.q", "layer.10.q"]


@pytest.mark.parametrize("shape", [(1, 7), (7, 1), (60, 60), (300, 40), (40, 300), (257, 263)])
def test_spectral_norm_is_the_largest_singular_value(shape: tuple[int, int]) -> None:
    matrix = torch.randn(shape)
    assert spectral_norm(matrix) == pytest.approx(float(torch.linalg.svdvals(matrix.double())[0]), rel=1e-4)


def test_spectral_norm_of_low_rank_and_zero_is_exact() -> None:
    matrix = torch.outer(torch.arange(1.0, 9.0), torch.ones(5))
    assert spectral_norm(matrix) == pytest.approx(float(matrix.norm()), rel=1e-5)
    assert spectral_norm(torch.zeros(8, 5)) == 0.0


def test_a_stack_is_measured_as_a_whole(expert_adapter: Path) -> None:
    report = inspect_adapter(expert_adapter)
    layer = next(layer for layer in report.layers if layer.name.endswith("down_proj"))
    checkpoint = report.checkpoint
    rows, basis = checkpoint.coefficients[layer.name], checkpoint.basis(16, 24, 20)
    updates = [reference_delta_weight(row, basis.entries, 16, 24, checkpoint.scaling) for row in rows]
    assert (layer.weights, layer.shape, layer.n_frequency) == (4, (16, 24), 80)
    assert layer.frobenius_norm == pytest.approx(float(torch.stack(updates).norm()), rel=1e-4)
    assert layer.spectral_norm == pytest.approx(max(float(torch.linalg.matrix_norm(u, 2)) for u in updates), rel=1e-4)
    assert report.dense_parameters == 4 * (16 * 24 + 48 * 16) + 16 * 16
