"""One file through every door: dW of each layer is what the file says, whatever scaling a door works with."""

from __future__ import annotations

import copy
import functools
import json
import shutil
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import peft
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import AutoModelForCausalLM

import fourierft
from fourierft import delta_weight, uniform_entries
from fourierft.adapters.attachment import attach
from fourierft.adapters.merge import merge_model
from fourierft.adapters.report import layer_update
from fourierft.errors import FourierFTError
from fourierft.fleet import AdapterBank
from fourierft.fleet.served import ServedRows
from fourierft.format.checkpoint import read_checkpoint
from fourierft.serving.batch import Batch, Place, StaticBatch
from fourierft.serving.residents import Residents
from fourierft.spectral.reference import reference_delta_weight
from fourierft.store import AdapterStore, blend
from fourierft.store.alignment import align_rows, common_layers
from fourierft.store.study.stats import block_norms
from fourierft.tuner import FourierFTConfig, FourierFTLayer
from fourierft.tuner.hotswap import hotswap_adapter

TARGETS = ["q_proj", "v_proj", "down_proj"]  # three shapes: with "auto", three scalings
CPU = torch.device("cpu")
Updates = Mapping[str, Tensor]
Door = Callable[["Adapted"], Updates]


class Adapted:
    """An adapter's file, what it says, the base that it is for, and a folder to write into."""

    work: Path

    def __init__(self, base: Any, file: Path) -> None:
        self._base, self.file = base, file

    @functools.cached_property
    def expected(self) -> dict[str, Tensor]:
        return read_truth(self.file)

    def model(self) -> Any:
        return copy.deepcopy(self._base)

    def loaded(self) -> Any:
        return peft.PeftModel.from_pretrained(self.model(), self.file)

    def store(self) -> AdapterStore:
        store = AdapterStore(self.work / "fleet.db")
        store.add("it", self.file)
        return store


def read_truth(file: Path) -> dict[str, Tensor]:
    """dW of each layer by the cosine sum, from nothing but the two files."""
    config = json.loads((file / "adapter_config.json").read_text())
    found = {}
    for key, values in load_file(file / "adapter_model.safetensors").items():
        name = key.removeprefix("base_model.model.").removesuffix(".fourierft_spectrum")
        shape = {"q_proj": (32, 32), "v_proj": (16, 32), "down_proj": (32, 64)}[name.rpartition(".")[2]]
        entries = uniform_entries(*shape, len(values), config["random_loc_seed"])
        found[name] = reference_delta_weight(values.double(), entries, *shape, config.get("scaling", 150.0))
    return found


@pytest.fixture(autouse=True)
def enabled() -> Iterator[None]:
    fourierft.enable()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="`is_gradient_checkpointing`", category=FutureWarning)
        yield
    fourierft.disable()


@pytest.fixture(scope="module", params=["stock", "stock, unsaid", "auto", "auto, other scaling", "auto, bfloat16"])
def made(request: pytest.FixtureRequest, tiny_llama: Path, tmp_path_factory: pytest.TempPathFactory) -> Adapted:
    folder = tmp_path_factory.mktemp("adapter")
    adapted = Adapted(AutoModelForCausalLM.from_pretrained(tiny_llama), folder)
    settings: dict[str, Any] = {"n_frequency": 40, "target_modules": TARGETS, "init_weights": False}
    torch.manual_seed(0)
    config, weights = folder / "adapter_config.json", folder / "adapter_model.safetensors"
    if request.param.startswith("stock"):
        scaling = 47.0 if request.param == "stock" else 150.0
        peft.get_peft_model(adapted.model(), peft.FourierFTConfig(scaling=scaling, **settings)).save_pretrained(
            str(folder)
        )
        if request.param == "stock, unsaid":
            content = json.loads(config.read_text())
            del content["scaling"]
            config.write_text(json.dumps(content))
        return adapted
    fourierft.enable()
    try:
        peft.get_peft_model(adapted.model(), FourierFTConfig(**settings)).save_pretrained(str(folder))
    finally:
        fourierft.disable()
    if request.param == "auto, other scaling":  # as after a change of the rule: that of no layer
        content = json.loads(config.read_text())
        config.write_text(json.dumps({**content, "scaling": content["scaling"] / 3.7}))
    if request.param == "auto, bfloat16":
        tensors = {name: tensor.bfloat16() for name, tensor in load_file(weights).items()}
        save_file(tensors, weights, metadata={"format": "pt"})
    return adapted


@pytest.fixture
def adapted(made: Adapted, tmp_path: Path) -> Adapted:
    made.work = tmp_path
    return made


def in_layers(model: nn.Module, adapter: str = "default") -> Updates:
    return {
        layer.path: layer.get_delta_weight(adapter)
        for layer in model.modules()
        if isinstance(layer, FourierFTLayer) and adapter in layer.fourierft_scaling
    }


def by_peft(adapted: Adapted) -> Updates:
    return in_layers(adapted.loaded())


def by_a_loader_of_single_parameters(adapted: Adapted) -> Updates:
    """As transformers' `load_adapter` does it, since its release 5."""
    model = peft.get_peft_model(adapted.model(), peft.PeftConfig.from_pretrained(str(adapted.file)))
    values = load_file(adapted.file / "adapter_model.safetensors")
    for layer in model.modules():
        if isinstance(layer, FourierFTLayer):
            key = f"base_model.model.{layer.path}.fourierft_spectrum"
            layer.fourierft_spectrum.default = nn.Parameter(values[key])
    return in_layers(model)


def by_hot_swap(adapted: Adapted) -> Updates:
    config = FourierFTConfig(n_frequency=40, target_modules=TARGETS, scaling=9.0)
    model = peft.get_peft_model(adapted.model(), config)
    hotswap_adapter(model, adapted.file)
    return in_layers(model)


def by_a_sum_of_one(adapted: Adapted) -> Updates:
    model = adapted.loaded()
    model.add_adapter("first", FourierFTConfig(n_frequency=40, target_modules=TARGETS, scaling=9.0))
    model.base_model.add_weighted_adapter(["first", "default"], [0.0, 1.0], "sum")
    return in_layers(model, "sum")


def by_saving_with_peft(adapted: Adapted) -> Updates:
    adapted.loaded().save_pretrained(str(adapted.work / "again"))
    return read_truth(adapted.work / "again")


def by_attaching(adapted: Adapted) -> Updates:
    return in_layers(attach(adapted.model(), read_checkpoint(adapted.file)))


def by_merging(adapted: Adapted) -> Updates:
    model, _ = merge_model(adapted.model(), read_checkpoint(adapted.file))
    before, after = adapted.model().state_dict(), model.state_dict()
    return {name: after[f"{name}.weight"] - before[f"{name}.weight"] for name in adapted.expected}


def shape_of(update: torch.Tensor) -> tuple[int, int]:
    rows, columns = update.shape
    return rows, columns


def by_the_report(adapted: Adapted) -> Updates:
    checkpoint = read_checkpoint(adapted.file)
    return {name: layer_update(checkpoint, name, shape_of(update)) for name, update in adapted.expected.items()}


def by_the_store(adapted: Adapted) -> Updates:
    kept = adapted.store().get("it")
    assert kept.layout.bases
    return {name: delta_weight(c, kept.layout.bases[name], kept.scaling) for name, c in kept.coefficients.items()}


def by_exporting(adapted: Adapted) -> Updates:
    adapted.store().get("it").write(adapted.work / "again")
    return read_truth(adapted.work / "again")


def by_blending(adapted: Adapted) -> Updates:
    store = adapted.store()
    blend(store, {"it": 1.0}, "same")
    store.get("same").write(adapted.work / "again")
    return read_truth(adapted.work / "again")


def by_the_common_space(adapted: Adapted) -> Updates:
    kept = adapted.store().get("it")
    layers = common_layers([kept.layout])
    parts = kept.layout.split(align_rows(kept.values[None], kept.layout, layers)[0])
    assert kept.layout.bases
    return {name: delta_weight(part, kept.layout.bases[name], 1.0) for name, part in parts.items()}


def by_the_fleet(adapted: Adapted) -> Updates:
    rows, base, found = ServedRows(AdapterBank(adapted.store()).gather(["it"])), adapted.model(), {}
    for name, update in adapted.expected.items():
        out_features, in_features = update.shape
        x, y = torch.eye(in_features)[None], torch.zeros(1, in_features, out_features)
        found[name] = rows.output(name, base.get_submodule(name), x, y)[0].T
    return found


def by_the_bank_alone(adapted: Adapted) -> Updates:
    bank = AdapterBank()
    bank.add("it", adapted.file)
    (part,) = bank.gather(["it"]).parts
    return {
        name: delta_weight(c[0], part.draw.basis(*shape_of(adapted.expected[name]), c.shape[1]), 1.0)
        for name, c in part.coefficients.items()
    }


def by_vllm(adapted: Adapted) -> Updates:
    """As a step of the engine takes it, in which every input is a token."""
    return _by_steps(adapted, lambda residents, _: Batch(np.full(64, 5), residents.find))


def by_vllm_in_graphs(adapted: Adapted) -> Updates:
    def make(residents: Residents, places: list[Place]) -> StaticBatch:
        batch = StaticBatch(residents.draws, places, 64, CPU)
        batch.fill(np.full(64, 5), residents.find)
        return batch

    return _by_steps(adapted, make)


def _by_steps(adapted: Adapted, make: Callable[[Residents, list[Place]], Batch | StaticBatch]) -> Updates:
    store, residents = adapted.store(), Residents(1, "float32", CPU)
    residents.bring([5], lambda _: store.get("it"))
    sizes: dict[str, Any] = {name: tuple(update.shape) for name, update in adapted.expected.items()}
    places = {
        name: Place(name, shape, slice(0, shape[1]), [(slice(0, shape[0]), slice(0, shape[0]))])
        for name, shape in sizes.items()
    }
    batch, found = make(residents, list(places.values())), {}
    for name, (out_features, in_features) in sizes.items():
        x = torch.eye(64)[:, :in_features].contiguous()
        y = torch.zeros(64, out_features)
        batch.add(places[name], x, y)
        found[name] = y[:in_features].T
    return found


DOORS: list[Door] = [
    by_peft,
    by_a_loader_of_single_parameters,
    by_hot_swap,
    by_a_sum_of_one,
    by_saving_with_peft,
    by_attaching,
    by_merging,
    by_the_report,
    by_the_store,
    by_exporting,
    by_blending,
    by_the_common_space,
    by_the_fleet,
    by_the_bank_alone,
    by_vllm,
    by_vllm_in_graphs,
]


@pytest.mark.parametrize("door", DOORS, ids=lambda door: door.__name__)
def test_every_door_gives_the_update_that_the_file_says(adapted: Adapted, door: Door) -> None:
    found = door(adapted)
    assert set(found) == set(adapted.expected)
    for name, update in adapted.expected.items():
        assert found[name].shape == update.shape
        error = (found[name].detach().double() - update).abs().max()
        assert error <= 1e-5 * update.abs().max(), name


def test_norms_of_a_store_are_those_of_the_updates(adapted: Adapted) -> None:
    (block,) = adapted.store().blocks(["it"])
    for name, norms in block_norms(block).items():
        assert norms.item() == pytest.approx(float(adapted.expected[name].norm()), rel=1e-6)


def test_a_file_that_says_auto_and_has_the_scaling_0_is_refused_at_every_door(made: Adapted, tmp_path: Path) -> None:
    file = shutil.copytree(made.file, tmp_path / "adapter")
    content = json.loads((file / "adapter_config.json").read_text())
    record = {"format": 2, "required": ["scaling"], "scaling": "auto"}
    (file / "adapter_config.json").write_text(json.dumps({**content, "scaling": 0.0, "fourierft": record}))
    with pytest.raises(FourierFTError, match=r"scaling=0\.0 beside .* needs a number other than 0 there"):
        peft.PeftModel.from_pretrained(made.model(), file)
    with pytest.raises(FourierFTError, match=r"scaling=0\.0 beside .* needs a number other than 0 there"):
        read_checkpoint(file)
