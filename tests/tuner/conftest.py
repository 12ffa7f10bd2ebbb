"""Small models, and the switch between this package's tuner and stock PEFT's."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from importlib.metadata import version
from typing import Any

import pytest
import torch
import transformers.integrations.peft
from packaging.version import Version
from peft import PeftModel, get_peft_model
from torch import nn
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
)
from transformers.pytorch_utils import Conv1D

from fourierft.extras import release
from fourierft.spectral.reference import reference_delta_weight
from fourierft.tuner import FourierFTConfig, FourierFTLayer, disable, enable


class Mlp(nn.Module):
    """Layers of three shapes: square, tall and wide."""

    def __init__(self) -> None:
        super().__init__()
        self.square = nn.Linear(16, 16)
        self.tall = nn.Linear(16, 24, bias=False)
        self.wide = nn.Linear(24, 10)
        self.head = nn.Linear(10, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x [..., 16] to [..., 3]."""
        return self.head(torch.tanh(self.wide(torch.tanh(self.tall(torch.tanh(self.square(x)))))))


@pytest.fixture(autouse=True)
def enabled() -> Iterator[None]:
    """Run each test with this package's tuner in place, and leave stock PEFT's behind."""
    enable()
    yield
    disable()


@pytest.fixture
def stock() -> Callable[[], AbstractContextManager[None]]:
    """A context in which stock PEFT's tuner is in place."""

    @contextmanager
    def in_place() -> Iterator[None]:
        disable()
        try:
            yield
        finally:
            enable()

    return in_place


@pytest.fixture
def transformers_own() -> AbstractContextManager[Any]:
    """Around transformers' own `add_adapter`, and what goes with it: it stops if PEFT is older than it asks for."""
    if Version(version("peft")) >= Version(transformers.integrations.peft.MIN_PEFT_VERSION):
        return nullcontext()
    return pytest.raises(ValueError, match="version of PEFT you are using")


@pytest.fixture
def transformers_loader() -> AbstractContextManager[Any]:
    """Around transformers' own `load_adapter`, which asks for no release: PEFT 0.18 lacks a name that it imports."""
    if release("peft") >= (0, 19):
        return nullcontext()
    return pytest.raises(ImportError, match="_maybe_shard_state_dict_for_tp")


@pytest.fixture
def update() -> Callable[..., torch.Tensor]:
    """dW of an adapter of a layer, by the cosine sum: float64 [out, in]."""

    def compute(layer: FourierFTLayer, name: str = "default") -> torch.Tensor:
        coefficients, basis = layer.fourierft_spectrum[name].detach(), layer.fourierft_basis[name]
        shape = (layer.out_features, layer.in_features)
        return reference_delta_weight(coefficients, basis.entries, *shape, layer.fourierft_scaling[name])

    return compute


@pytest.fixture
def expected(update) -> Callable[..., torch.Tensor]:
    """Output of a layer with some of its adapters, by the cosine sum: float64."""

    def compute(layer: FourierFTLayer, x: torch.Tensor, names: Sequence[str] = ("default",)) -> torch.Tensor:
        base = layer.get_base_layer()
        weight = base.weight.detach().double()
        weight = weight.T if isinstance(base, Conv1D) else weight
        weight = weight + sum(update(layer, name) for name in names)
        return x.double() @ weight.T + base.bias.detach().double()

    return compute


@pytest.fixture
def several() -> FourierFTLayer:
    """A layer with the adapters default and short, of one draw but different n, and other, of another seed."""
    torch.manual_seed(2)
    layer = FourierFTLayer(nn.Linear(9, 14), "default", 20, FourierFTConfig(scaling=30.0, init_weights=False))
    layer.update_layer("short", 7, FourierFTConfig(scaling=50.0, init_weights=False))
    layer.update_layer("other", 11, FourierFTConfig(scaling=20.0, init_weights=False, random_loc_seed=1))
    return layer


@pytest.fixture
def adapters(make_llama, randomise) -> PeftModel:
    """A small LLaMA with the adapters default, short (fewer coefficients) and other (another seed and scaling)."""
    settings: dict[str, Any] = {"n_frequency": 40, "target_modules": ["q_proj", "v_proj"]}
    model = get_peft_model(make_llama(), FourierFTConfig(**settings))
    model.add_adapter("short", FourierFTConfig(**settings | {"n_frequency": 15}))
    model.add_adapter("other", FourierFTConfig(**settings, random_loc_seed=1, scaling=20.0))
    for name in ("default", "short", "other"):
        randomise(model, name)
    return model.eval()


@pytest.fixture
def make_mlp() -> Callable[[], Mlp]:
    """The same `Mlp` at every call."""

    def make() -> Mlp:
        torch.manual_seed(0)
        return Mlp()

    return make


@pytest.fixture
def make_bert() -> Callable[[], BertForSequenceClassification]:
    """The same small BERT classifier at every call, in evaluation mode."""

    def make() -> BertForSequenceClassification:
        torch.manual_seed(0)
        labels: dict[str, Any] = {"num_labels": 3}
        config = BertConfig(
            **labels,
            hidden_size=32,
            intermediate_size=48,
            num_hidden_layers=2,
            num_attention_heads=2,
            vocab_size=60,
        )
        return BertForSequenceClassification(config).eval()

    return make


@pytest.fixture
def make_llama() -> Callable[[], LlamaForCausalLM]:
    """The same small LLaMA with fewer key and value heads, so that its v is wide, in evaluation mode."""

    def make() -> LlamaForCausalLM:
        torch.manual_seed(0)
        config = LlamaConfig(
            hidden_size=32,
            intermediate_size=48,
            num_hidden_layers=3,
            num_attention_heads=4,
            num_key_value_heads=2,
            vocab_size=60,
            bos_token_id=1,
            eos_token_id=2,
            pad_token_id=0,
        )
        return LlamaForCausalLM(config).eval()

    return make


@pytest.fixture
def make_gpt2() -> Callable[[], GPT2LMHeadModel]:
    """The same small GPT-2, whose layers are `Conv1D`, at every call, in evaluation mode."""

    def make() -> GPT2LMHeadModel:
        torch.manual_seed(0)
        config = GPT2Config(
            n_embd=32, n_layer=2, n_head=2, vocab_size=60, n_positions=32, bos_token_id=1, eos_token_id=2
        )
        return GPT2LMHeadModel(config).eval()

    return make


@pytest.fixture
def randomise() -> Callable[[nn.Module, str], None]:
    """Fill an adapter's coefficients from N(0, 1), the same for equal models."""

    def fill(model: nn.Module, adapter_name: str = "default") -> None:
        generator = torch.Generator().manual_seed(sum(adapter_name.encode()))
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if name.endswith(f"fourierft_coefficients.{adapter_name}.weight"):
                    parameter.copy_(torch.randn(parameter.shape, generator=generator))

    return fill
