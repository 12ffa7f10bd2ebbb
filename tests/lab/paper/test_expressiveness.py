"""Figure 7: the points, the adapted layer, and who gets all points right."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from fourierft.spectral.reference import reference_delta_weight
from lab.paper import expressiveness


def test_points_are_centres_and_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    points, classes = expressiveness.draw_points(3)
    centres = torch.tensor(expressiveness.CENTERS, dtype=torch.float32)
    assert torch.equal(classes.bincount(), torch.full((8,), expressiveness.POINTS))
    noise = points - centres[classes]
    assert float(noise.std()) == pytest.approx(expressiveness.NOISE, rel=0.05)
    monkeypatch.setattr(expressiveness, "NOISE", 0.0)
    assert torch.equal(expressiveness.draw_points(3)[0], centres[classes])


@pytest.mark.parametrize("method", ["lora", "fourierft"])
def test_128_numbers_of_the_hidden_layer_are_trained(method: str) -> None:
    trained = {name: p for name, p in expressiveness.build(method, 0).named_parameters() if p.requires_grad}
    assert sum(parameter.numel() for parameter in trained.values()) == 128
    assert all(".hidden." in name for name in trained)


def test_layer_is_the_cosine_sum_on_a_frozen_weight() -> None:
    model = expressiveness.build("fourierft", 5)
    network: Any = model.base_model.model
    layer = network.hidden
    coefficients = torch.randn(128)
    layer.fourierft_spectrum["default"].data.copy_(coefficients)
    entries, scaling = layer.fourierft_basis["default"].entries, layer.fourierft_scaling["default"]
    delta = reference_delta_weight(coefficients, entries, 64, 64, scaling)
    points = torch.randn(7, 2)
    inside = F.relu(network.enter(points)).double()
    weight, bias = layer.base_layer.weight.double(), layer.base_layer.bias.double()
    expected = network.leave.double()(F.relu(inside @ (weight + delta).T + bias))
    network.leave.float()
    torch.testing.assert_close(model(points).double(), expected, rtol=1e-4, atol=1e-5)


def test_fourierft_gets_all_points_right_where_lora_does_not() -> None:
    found = expressiveness.fit("fourierft", 3e-2, 0, epochs=400)
    assert found["epochs_to_all"] is not None
    assert found["curve"][-1] == (found["epochs_to_all"], 1.0)
    stalled = expressiveness.fit("lora", 3e-2, 0, epochs=400)
    assert stalled["epochs_to_all"] is None
    assert 0.3 < stalled["best"] < 0.9


def test_page_counts_the_seeds_that_got_there(tmp_path: Path) -> None:
    def row(method: str, seed: int, reached: int | None) -> dict:
        found = {"parameters": 128, "best": 1.0 if reached else 0.7, "epochs_to_all": reached}
        curve = [(0, 0.1), (20, 0.5), (reached, 1.0)] if reached else [(0, 0.1), (20, 0.5)]
        return {"method": method, "learning_rate": 3e-2, "seed": seed, "curve": curve, **found}

    rows = [row("LoRA r=1", 0, None), row("FourierFT n=128", 0, 40), row("FourierFT n=128", 1, None)]
    text = "\n".join(expressiveness.page(rows, tmp_path))
    assert "| LoRA r=1 | 0.03 | 128 | 1 | 0 of 1 | never | 0.7000 |" in text
    assert "| FourierFT n=128 | 0.03 | 128 | 2 | 1 of 2 | 40 | 0.8500 |" in text
    assert (tmp_path / "fig7.png").exists()
