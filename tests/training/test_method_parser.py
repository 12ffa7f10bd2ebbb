"""Short names of methods: what they stand for, that PEFT trains it on every kind of model, and what is no name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from fourierft.errors import ConfigError
from fourierft.training.arguments import MethodArguments, ModelArguments
from fourierft.training.families.answers import Answers
from fourierft.training.families.classes import Classification
from fourierft.training.families.images import ImageClasses
from fourierft.training.method_parser import parse_method
from fourierft.training.methods import attach
from fourierft.training.models import BaseModel, load_model

TARGETS = {"bert": ["query", "value"], "llama": ["q_proj", "v_proj"], "dinov2": ["q_proj", "v_proj"]}
FEEDFORWARD = {"bert": "output.dense", "llama": "down_proj", "dinov2": "fc2"}


@pytest.fixture(params=sorted(TARGETS))
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def base(kind: str, tiny_bert: Path, tiny_llama: Path, tiny_dinov2: Path) -> BaseModel:
    """Each tiny model as its task loads it."""
    labels = ("n", "y")
    if kind == "bert":
        return load_model(ModelArguments(str(tiny_bert)), Classification(labels), 0)
    if kind == "llama":
        return load_model(ModelArguments(str(tiny_llama)), Answers(), 0)
    return load_model(ModelArguments(str(tiny_dinov2)), ImageClasses(labels), 0)


def batch(kind: str) -> dict[str, torch.Tensor]:
    if kind == "dinov2":
        return {"pixel_values": torch.randn(2, 3, 28, 28), "labels": torch.tensor([0, 1])}
    tokens = torch.tensor([[2, 5, 6, 3], [2, 9, 8, 3]])
    return {"input_ids": tokens, "labels": tokens if kind == "llama" else torch.tensor([0, 1])}


@pytest.mark.parametrize(
    "spec",
    ["lora:2", "vera:16", "waveft:40", "c3a:16", "ia3", "road:16", "unilora:60", "fourierft:40", "adalora:2", "hra:2"],
)
def test_every_adapter_trains_in_every_kind_of_model(base: BaseModel, kind: str, spec: str, tmp_path: Path) -> None:
    if spec == "ia3":
        names = [*TARGETS[kind], FEEDFORWARD[kind]]
        spec = f"ia3,target_modules={'+'.join(names)},feedforward_modules={FEEDFORWARD[kind]}"
    arguments = MethodArguments(method=spec, target_modules=TARGETS[kind])
    trainable = attach(base, arguments, steps=10)
    parameters = {
        name: parameter
        for name, parameter in trainable.model.named_parameters()
        if parameter.requires_grad and "modules_to_save" not in name
    }
    assert trainable.adapter_parameters == sum(parameter.numel() for parameter in parameters.values()) > 0
    before = {name: parameter.detach().clone() for name, parameter in parameters.items()}
    optimizer = torch.optim.SGD(trainable.model.parameters(), lr=1.0)
    for _ in range(2):  # where one factor starts at zero, the other moves from the second step on
        optimizer.zero_grad()
        trainable.model(**batch(kind)).loss.backward()
        optimizer.step()
    assert any(not torch.equal(before[name], parameter) for name, parameter in parameters.items())


@pytest.mark.parametrize(
    ("spec", "title", "expected"),
    [
        ("lora:1", "LoRA r=1", {"peft_type": "LORA", "r": 1, "lora_alpha": 16}),
        ("lora:8,lora_alpha=32", "LoRA r=8, lora_alpha=32", {"r": 8, "lora_alpha": 32}),
        (
            "fourierft:1000,scaling=300,init_weights=false",
            "FourierFT n=1000, scaling=300, init_weights=false",
            {"n_frequency": 1000, "scaling": 300, "init_weights": False},
        ),
        ("c3a:128", "C3A b=128", {"block_size": 128}),
        ("ia3,target_modules=a+b", "IA3", {"target_modules": ["a", "b"]}),
        ("lora,target_modules=query", "LoRA r=8", {"target_modules": ["query"]}),
        ("hra:4,apply_GS=true", "HRA r=4, apply_GS=true", {"peft_type": "HRA", "r": 4, "apply_GS": True}),
        ("adalora:4", "AdaLoRA t=4", {"peft_type": "ADALORA", "target_r": 4}),
    ],
)
def test_name_stands_for_a_config(spec: str, title: str, expected: dict[str, Any]) -> None:
    method = parse_method(spec, ["query"])
    assert method.title == title
    assert method.config is not None
    assert {key: method.config[key] for key in expected} == expected
    assert method.config["target_modules"] == expected.get("target_modules", ["query"])


def test_path_of_a_config_is_a_method(tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text('{"peft_type": "LORA", "r": 3}')
    method = parse_method(str(tmp_path / "adapter_config.json"), ["query"])
    assert method.family == "config"
    assert method.config == {"peft_type": "LORA", "r": 3, "target_modules": ["query"]}


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("fourier:50", "method fourier:50 is unknown; did you mean fourierft"),
        ("xyz", "use one of head, bitfit, full, fourierft"),
        ("lora:big", "has the size 'big'; use lora:N, a r > 0"),
        ("lora:0", "has the size '0'"),
        ("ia3:4", "has the size '4'; use ia3"),
        ("head:1", "takes no size or settings; use head"),
        ("lora:8,alpha", "has the setting 'alpha'; write key=value"),
        ("lora:8,lora_alfa=4", "has the setting lora_alfa, which LoRA does not know; did you mean lora_alpha"),
        ("prompt_tuning", "method prompt_tuning is unknown"),
        ("none/adapter_config.json", "is not a readable PEFT adapter_config.json"),
    ],
)
def test_what_is_no_method_is_refused(spec: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_method(spec)


def test_all_linear_layers_are_meant_by_their_name_wherever_it_stands(tmp_path: Path) -> None:
    """A recipe's key, a setting of the method, a set of layers, a config of PEFT: a list of the name is the name."""
    file = tmp_path / "adapter_config.json"
    file.write_text('{"peft_type": "LORA", "r": 1, "target_modules": ["all-linear"]}')
    for method in (
        parse_method("lora:1", ["all-linear"]),
        parse_method("lora:1,target_modules=all-linear", ["query"]),
        parse_method("lora:1,layers=all", ["query"], {"all": ["all-linear"]}),
        parse_method(str(file), ["query"]),
    ):
        assert method.config is not None
        assert method.config["target_modules"] == "all-linear"


def test_method_may_name_a_set_of_layers() -> None:
    method = parse_method("fourierft:340,layers=all", ["query"], {"all": ["query", "key"]})
    assert method.config == {"peft_type": "FOURIERFT", "n_frequency": 340, "target_modules": ["query", "key"]}
    assert method.title == "FourierFT n=340, layers=all"


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ({"all": ["query"], "dense": ["fc1"]}, "'some', which are unknown; use one of all, dense"),
        ({}, "has no `layers`"),
    ],
)
def test_unknown_set_of_layers_is_refused(layers: dict[str, list[str]], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_method("lora:8,layers=some", ["query"], layers)
