"""Adapters made by stock PEFT on tiny models, and what stock PEFT answers with each of them alone."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, PreTrainedModel

from fourierft.fleet import BASE, AdapterBank
from fourierft.store import AdapterStore
from tests.adapters.conftest import expert_adapter, headed_logits, make_headed, stock_logits, tied_llama  # noqa: F401

SETTINGS: dict[str, dict[str, Any]] = {
    "long": {"n_frequency": 40, "scaling": 60.0},
    "short": {"n_frequency": 15, "scaling": 90.0},
    "value": {"n_frequency": 40, "scaling": 80.0, "only_value": True},
    "other": {"n_frequency": 30, "scaling": 70.0, "random_loc_seed": 1},
}
NAMES = (*SETTINGS, BASE)


@pytest.fixture(autouse=True)
def peft_quiet() -> Iterator[None]:
    """PEFT itself uses what transformers has deprecated."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="`is_gradient_checkpointing`", category=FutureWarning)
        yield


class Family:
    """Four adapters of one base: two of a draw, one that changes fewer layers, one of another draw."""

    def __init__(self, load: Callable[[], PreTrainedModel], targets: list[str], folder: Path, **settings: Any) -> None:
        self.load, self.folder = load, folder
        for k, (name, own) in enumerate(SETTINGS.items()):
            own = dict(own)
            chosen = targets[1:] if own.pop("only_value", False) else targets
            torch.manual_seed(k)  # a normal start, and another head for each
            model = peft.get_peft_model(load(), peft.FourierFTConfig(target_modules=chosen, **own, **settings))
            for key, parameter in model.named_parameters():
                if "modules_to_save" in key:
                    torch.nn.init.normal_(parameter)
            model.save_pretrained(str(folder / name))

    def alone(self, name: str) -> torch.nn.Module:
        """The base with one adapter, in stock PEFT."""
        model = self.load()
        return model if name == BASE else peft.PeftModel.from_pretrained(model, self.folder / name).eval()

    def bank(self) -> AdapterBank:
        """A bank with all four."""
        bank = AdapterBank()
        for name in SETTINGS:
            bank.add(name, self.folder / name)
        return bank

    def store(self, path: Path) -> AdapterStore:
        """A store with all four."""
        store = AdapterStore(path)
        for name in SETTINGS:
            store.add(name, self.folder / name)
        return store


@pytest.fixture
def make_family() -> type[Family]:
    """Makes a family: (load, targets, folder, **settings)."""
    return Family


@pytest.fixture(scope="session")
def decoders(tiny_llama: Path, tmp_path_factory: pytest.TempPathFactory) -> Family:
    def load() -> PreTrainedModel:
        return AutoModelForCausalLM.from_pretrained(tiny_llama).eval()

    return Family(load, ["q_proj", "v_proj"], tmp_path_factory.mktemp("decoders"))


@pytest.fixture(scope="session")
def encoders(tiny_bert: Path, tmp_path_factory: pytest.TempPathFactory) -> Family:
    """With a head of three classes each."""

    def load() -> PreTrainedModel:
        torch.manual_seed(9)
        return AutoModelForSequenceClassification.from_pretrained(tiny_bert, num_labels=3).eval()

    return Family(load, ["query", "value"], tmp_path_factory.mktemp("encoders"), task_type="SEQ_CLS")


@pytest.fixture
def pick() -> Callable[[str, int], list[str]]:
    """Names of rows by popularity."""

    def pick(popularity: str, rows: int) -> list[str]:
        if popularity == "identical":
            return ["short"] * rows
        if popularity == "distinct":
            return [NAMES[i % len(NAMES)] for i in range(rows)]
        weights = torch.ones(len(NAMES)) if popularity == "uniform" else 1 / torch.arange(1, len(NAMES) + 1)
        drawn = torch.multinomial(weights, rows, replacement=True, generator=torch.Generator().manual_seed(4))
        return [NAMES[i] for i in drawn.tolist()]

    return pick
