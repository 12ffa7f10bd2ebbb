"""What the engine lets in: an adapter that it could not run is refused before a step needs it."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest
import torch
from torch import nn

from fourierft.errors import ShapeError
from fourierft.serving import vllm_internals, worker
from fourierft.serving.batch import Place
from fourierft.spectral.reference import reference_delta_weight
from fourierft.store import AdapterStore, Layer, Layout

CONFIG = {"peft_type": "FOURIERFT", "base_model_name_or_path": "org/base", "scaling": 8.0, "random_loc_seed": 5}
BAND = {"format": 2, "entries": "bandpass", "center": 2.0, "width": 1.0}


class Request(NamedTuple):
    lora_int_id: int
    name: str


class Engine:
    """A store whose adapters were added without their base at hand, and the manager of a model of 12 x 8."""

    def __init__(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.store = AdapterStore(path / "fleet.db")
        monkeypatch.setenv(worker.STORE, str(path / "fleet.db"))
        place = Place("q", (12, 8), slice(0, 8), [(slice(0, 12), slice(0, 12))])
        monkeypatch.setattr(vllm_internals, "find_places", lambda model: {"q": (model, place)})
        monkeypatch.setattr(vllm_internals, "rename_layers", lambda model: lambda name: name)
        monkeypatch.setattr(vllm_internals, "find_absent", lambda model: [])
        monkeypatch.setattr(vllm_internals, "adapt", lambda module, add: None)

    def add(self, name: str, n: int, shape: tuple[int, int] | None = None, layer: str = "q", **config: Any) -> None:
        layout = Layout({**CONFIG, "n_frequency": n, **config}, (Layer(layer, n, shape),))
        self.store.put(name, layout, torch.ones(n))

    def start(self) -> worker.FleetManager:
        settings = SimpleNamespace(max_num_batched_tokens=16)
        config = SimpleNamespace(lora_config=SimpleNamespace(max_loras=4), scheduler_config=settings)
        manager = worker.FleetManager(config, torch.device("cpu"))
        manager.create_lora_manager(nn.Linear(8, 12))
        return manager


@pytest.fixture
def engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Engine:
    return Engine(tmp_path, monkeypatch)


def test_an_adapter_that_would_raise_in_a_step_is_not_held(engine: Engine) -> None:
    engine.add("good", 20)
    manager = engine.start()
    engine.add("many", 97)
    engine.add("all in a band", 96, fourierft=BAND)
    engine.add("other", 20, (8, 12), fourierft={"format": 2, "shapes": {"q": [8, 12]}, "layers": 1})
    engine.add("elsewhere", 20, layer="k")
    engine.add("band", 20, fourierft=BAND)
    for key, (name, word) in enumerate(
        {
            "many": "which has 96 entries, but the adapter has 97 coefficients there",
            "all in a band": "exceeds the 95 entries that a band around 2.0 gives a positive probability",
            "other": "q is 12 x 8 in the model that is served, but the adapter was made for 8 x 12",
            "elsewhere": "the adapters change k, but only linear layers other than head and embedding can be served",
        }.items(),
        start=1,
    ):
        fault = manager.hold(key, name, 1)
        assert fault is not None
        assert word in fault
    assert manager.hold(8, "good", 1) is None
    assert manager.hold(9, "band", 1) is None
    assert manager.residents.bring([8, 9], lambda key: pytest.fail("it is held"))


def test_an_adapter_that_does_not_fit_keeps_no_other_from_being_served(engine: Engine) -> None:
    engine.add("many", 97)
    with pytest.raises(ShapeError, match="but the adapter has 97 coefficients there"):
        engine.start()
    engine.add("good", 20)
    assert engine.start().hold(1, "good", 1) is None


def test_a_key_that_comes_back_with_another_adapter_is_not_the_one_before(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between two steps with the same tokens; the truth is the cosine sum."""
    layout = Layout({**CONFIG, "n_frequency": 20}, (Layer("q", 20, None),))
    numbers = torch.randn(2, 20)
    for name, own in zip("ab", numbers, strict=True):
        engine.store.put(name, layout, own)
    monkeypatch.setattr(vllm_internals, "read_request", lambda request: (request.name, 1))
    manager = engine.start()
    _, place = vllm_internals.find_places(torch.nn.Module())["q"]
    entries = layout.settings.draw.basis(12, 8, 20).entries
    x, mapping = torch.randn(3, 8), SimpleNamespace(index_mapping=[7, 0, 7])

    def step(name: str) -> torch.Tensor:
        request: Any = Request(7, name)
        manager.add_adapter(request)
        manager.set_active_adapters({request}, mapping)
        y = torch.zeros(3, 12)
        manager._batch.add(place, x, y)
        return y

    for name, own in zip("abab", numbers.repeat(2, 1), strict=True):
        for _ in range(2):
            expected = x.double() @ reference_delta_weight(own, entries, 12, 8, 8.0).T
            expected[1] = 0.0
            torch.testing.assert_close(step(name).double(), expected, rtol=1e-5, atol=1e-6)
        manager.remove_adapter(7)
