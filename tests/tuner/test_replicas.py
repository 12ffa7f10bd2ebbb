"""A model in several hands at once: replicas of DataParallel, threads, forked and spawned processes, files.

No GPU is needed: `torch.nn.parallel.replicate` runs as it is, and only its copying between devices is put in.
"""

from __future__ import annotations

import copy
import io
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
import torch.multiprocessing as mp
import torch.nn.functional as F
import torch.nn.parallel
from peft import PeftModel, get_peft_model
from torch import Tensor, nn

import fourierft
from fourierft.errors import ConfigError
from fourierft.spectral.reference import reference_delta_weight
from fourierft.tuner.coefficients import Coefficients

KINDS: dict[str, dict[str, Any]] = {
    "linear": {"target_modules": ["head"]},
    "embedding": {"target_modules": ["tokens"]},
    "doubled": {"target_modules": ["doubled"]},
    "convolution": {"target_modules": ["mixing"]},
    "parameter": {"target_parameters": ["experts.stack"]},
}


class Doubled(nn.Embedding):
    def forward(self, ids: Tensor) -> Tensor:
        return 2 * F.embedding(ids, self.weight)


class Experts(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stack = nn.Parameter(0.3 * torch.randn(3, 8, 8))

    def forward(self, x: Tensor) -> Tensor:
        return torch.as_tensor(sum(F.linear(x, weight) for weight in self.stack))


class Small(nn.Module):
    """One layer of each kind that can be adapted."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens, self.doubled, self.mixing = nn.Embedding(20, 8), Doubled(20, 8), nn.Conv1d(8, 8, 3, padding=1)
        self.experts, self.head = Experts(), nn.Linear(8, 8)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.tokens(ids) + self.doubled(ids)
        return self.head(self.experts(self.mixing(x.transpose(1, 2)).transpose(1, 2)))


IDS = torch.arange(24).view(4, 6) % 20


def make(kind: str) -> PeftModel:
    torch.manual_seed(0)
    settings: dict[str, Any] = {"n_frequency": 10, "init_weights": False, "scaling": 20.0}
    return get_peft_model(Small(), fourierft.FourierFTConfig(**settings, **KINDS[kind])).eval()


@torch.no_grad()
def truth(model: PeftModel, ids: Tensor = IDS) -> Tensor:
    """What the plain base gives, once the update, by the cosine sum, was added to its weight."""
    torch.manual_seed(0)
    plain = Small().double()
    for layer in model.modules():
        if not isinstance(layer, fourierft.tuner.FourierFTLayer):
            continue
        path = layer.path if layer.path.endswith("stack") else f"{layer.path}.weight"
        weight = plain.get_parameter(path)
        size = (layer.out_features, layer.in_features)
        rows = layer.coefficients("default").detach().reshape(-1, 10)
        basis, scaling = layer.fourierft_basis["default"], layer.fourierft_scaling["default"]
        deltas = torch.stack([reference_delta_weight(row, basis.entries, *size, scaling) for row in rows])
        weight.add_(deltas.view(weight.shape))
    return plain(ids)


def check(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found.double(), expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))


@pytest.fixture
def replicate(monkeypatch: pytest.MonkeyPatch) -> Callable[[nn.Module], list[nn.Module]]:
    """Two replicas of a model, as DataParallel makes them: shallow copies with tensors of their own."""
    module = sys.modules["torch.nn.parallel.replicate"]  # which the package hides behind its function of that name

    def copies(tensors: list[Tensor], devices: list[int], detach: bool = False) -> list[list[Tensor]]:
        return [[t.detach().clone() if detach else t.clone() for t in tensors] for _ in devices]

    monkeypatch.setattr(module, "_broadcast_coalesced_reshape", copies)
    return lambda model: module.replicate(model, [0, 1], not torch.is_grad_enabled())


@pytest.fixture
def hasty() -> Iterator[None]:
    """Threads take turns as often as Python lets them."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def together(calls: list[Callable[[], Any]]) -> list[Any]:
    """What all calls give, each in a thread of its own."""
    results: list[Any] = [None] * len(calls)

    def run(place: int) -> None:
        results[place] = calls[place]()

    threads = [threading.Thread(target=run, args=(place,)) for place in range(len(calls))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


@pytest.mark.parametrize("kind", KINDS)
def test_replicas_compute_with_their_own_tensors(kind: str, replicate: Callable[[nn.Module], list[nn.Module]]) -> None:
    model = make(kind)
    expected = truth(model)
    with torch.no_grad():
        replicas = replicate(model)
        for parameter in model.parameters():  # on another device, where nothing may be read
            parameter.data.fill_(float("nan"))

    def call(place: int) -> Tensor:
        with torch.no_grad():
            return replicas[place](IDS.chunk(2)[place])

    check(torch.cat(together([lambda: call(0), lambda: call(1)])), expected)


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_of_replicas_are_those_of_the_whole_batch(
    kind: str, replicate: Callable[[nn.Module], list[nn.Module]]
) -> None:
    model = make(kind).train()
    (part,) = [parameter for parameter in model.parameters() if parameter.requires_grad]
    model(IDS).square().sum().backward()
    expected, part.grad = part.grad, None
    parts = [replica(ids) for replica, ids in zip(replicate(model), IDS.chunk(2), strict=True)]
    sum(y.square().sum() for y in parts).backward()
    assert part.grad is not None
    torch.testing.assert_close(part.grad, expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("mode", [torch.no_grad, torch.enable_grad])
def test_threads_may_call_one_model(kind: str, mode: Callable, hasty: None) -> None:
    model = make(kind)
    expected = truth(model)

    def call() -> list[Tensor]:
        with mode():
            return [model(IDS).detach() for _ in range(40)]

    for results in together([call] * 3):
        for found in results:
            check(found, expected)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("copied", ["deepcopy", "file"])
def test_a_copy_is_a_model_of_its_own(kind: str, copied: str) -> None:
    model = make(kind)
    with torch.no_grad():
        model(IDS)
    expected = truth(model)
    if copied == "deepcopy":
        other = copy.deepcopy(model)
    else:
        file = io.BytesIO()
        torch.save(model, file)
        file.seek(0)
        other = torch.load(file, weights_only=False)
    for parameter in model.parameters():
        parameter.data.mul_(2.0)
    with torch.no_grad():
        check(other(IDS), expected)


def _answer(model: nn.Module, ids: Tensor, answers: mp.Queue) -> None:
    torch.set_num_threads(1)
    with torch.no_grad():
        answers.put(model(ids).tolist())


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")  # Python 3.12 and later, of threads
@pytest.mark.parametrize("kind", KINDS)
def test_a_forked_process_gives_the_same(kind: str) -> None:
    _check_in_a_process("fork", make(kind))


def test_a_spawned_process_gives_the_same() -> None:
    _check_in_a_process("spawn", make("linear"))


def _check_in_a_process(method: str, model: PeftModel) -> None:
    with torch.no_grad():
        model(IDS)
    context: Any = mp.get_context(method)
    answers = context.Queue()
    process = context.Process(target=_answer, args=(model, IDS, answers))
    process.start()
    found = torch.tensor(answers.get(timeout=1800))
    process.join()
    assert process.exitcode == 0
    check(found, truth(model))


def test_threads_may_give_rows_other_adapters(adapters: PeftModel, hasty: None) -> None:
    """Each thread with names of its own, and one with none; `test_mixing.py` has the truth of each."""
    ids = torch.randint(3, 60, (3, 5))
    chosen = [None, ["other", "__base__", "short"], ["short", "default", "other"], ["other"] * 3]
    with torch.no_grad():
        expected = [adapters(input_ids=ids, **_named(names)).logits for names in chosen]

    def call(names: list[str] | None) -> list[Tensor]:
        with torch.no_grad():
            return [adapters(input_ids=ids, **_named(names)).logits for _ in range(15)]

    for results, right in zip(together([lambda n=n: call(n) for n in chosen]), expected, strict=True):
        for found in results:
            torch.testing.assert_close(found, right, rtol=1e-4, atol=1e-5)


class Partitioned(dict[str, Any]):
    """Parameters of a module as DeepSpeed's ZeRO-3 has them: empty until one is asked for by its name."""

    def __init__(self, parameters: dict[str, Any]) -> None:
        self.whole = {name: parameter.data for name, parameter in parameters.items()}
        super().__init__(parameters)
        for parameter in parameters.values():
            parameter.data = torch.empty(0)

    def __getitem__(self, name: str) -> nn.Parameter:
        parameter = super().__getitem__(name)
        parameter.data = self.whole[name]
        return parameter


@pytest.mark.parametrize("kind", ["linear", "embedding"])
@pytest.mark.parametrize("mode", [torch.no_grad, torch.enable_grad])
def test_partitioned_coefficients_are_asked_for(kind: str, mode: Callable) -> None:
    model = make(kind)
    expected = truth(model)
    for module in model.modules():
        if isinstance(module, Coefficients):
            vars(module)["_parameters"] = Partitioned(module._parameters)
            assert next(module.parameters()).numel() == 0
    with mode():
        check(model(IDS).detach(), expected)


def test_names_of_rows_in_a_replica_say_why_they_are_too_many(replicate: Callable) -> None:
    with (
        torch.no_grad(),
        pytest.raises(ConfigError, match=r"a replica got 4 adapter_names for 2 inputs, because torch.nn.D"),
    ):
        replicate(make("linear"))[1](IDS[2:], adapter_names=["default", "__base__", "default", "__base__"])


def test_adapted_parameters_that_are_partitioned_are_refused() -> None:
    model = make("parameter")
    experts = next(module for module in model.modules() if isinstance(module, Experts))
    vars(experts)["_parameters"] = Partitioned(experts._parameters)
    with pytest.raises(ConfigError, match=r"the parameters of Experts are partitioned.* or use ZeRO-2 or FSDP2"):
        model(IDS)


def _named(names: list[str] | None) -> dict[str, list[str]]:
    return {} if names is None else {"adapter_names": names}
