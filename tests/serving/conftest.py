"""Adapters in stores, made from seeds, for tests that need no vLLM."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from fourierft.adapters.store import Adapter, Layout

SHAPES = {"q_proj": (24, 16), "down_proj": (16, 40)}


@pytest.fixture
def make_adapter() -> Callable[..., Adapter]:
    """An adapter of two layers, its numbers drawn from its key."""

    def make(key: int, n_frequency: int = 12, random_loc_seed: int = 777, scaling: float = 60.0) -> Adapter:
        config = {
            "peft_type": "FOURIERFT",
            "base_model_name_or_path": "base",
            "n_frequency": n_frequency,
            "random_loc_seed": random_loc_seed,
            "scaling": scaling,
            "target_modules": sorted(SHAPES),
        }
        layout = Layout.make(config, SHAPES)
        values = torch.randn(layout.total, generator=torch.Generator().manual_seed(key))
        return Adapter(f"adapter-{key}", 1, layout, values, "float32")

    return make
