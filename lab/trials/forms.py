"""Other forms of the adapter, for comparison alone: factored, in another basis, with numbers or gains of other kinds.

A config {"peft_type": "FOURIERFT", "form": "factored", ...} makes such an adapter while `forms_enabled` lasts. Its
checkpoints open nowhere else: this package and stock PEFT both stop and say why.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass, field, fields
from typing import Any

import torch
from torch import Tensor, nn

from fourierft.errors import ConfigError
from fourierft.format.record import FORMAT
from fourierft.spectral import delta_weight
from fourierft.tuner.config import FourierFTConfig
from fourierft.tuner.layer import FourierFTLayer
from fourierft.tuner.model import FourierFTModel
from fourierft.tuner.registration import substituted
from lab.trials.cosine import Cosines
from lab.trials.factors import Factors
from lab.trials.pool import Share, share_out_pool

FORMS = ("plain", "factored", "cosine")


@dataclass
class FormConfig(FourierFTConfig):
    """A FourierFT config with another form.

    Args:
        form: "plain"; "factored": the n numbers are coefficients of the factors of a low-rank update (factors.py);
            "cosine": they are coefficients in a cosine basis (cosine.py).
        rank: of a factored update.
        ratio: learning rate of the factor B over that of A.
        gain: whether each layer also trains one number that its update is multiplied with.
        tie: names of layers that share their coefficients within a block.
        whiten: an update sees its input features divided by this power of their root mean square, taken from the first
            batch.
        pool: numbers that all layers share, each layer's n coefficients being drawn from them (pool.py); 0 for none.

    Raises: ConfigError, if the form is unknown, or factors have no coefficients.
    """

    form: str = "plain"
    rank: int = 1
    ratio: float = 1.0
    gain: bool = False
    tie: list[str] = field(default_factory=list)
    whiten: float = 0.0
    pool: int = 0

    def __post_init__(self, fourierft: dict[str, Any] | None) -> None:
        super().__post_init__(fourierft)
        if self.form not in FORMS:
            raise ConfigError(f"form={self.form!r} is unknown; use one of {', '.join(FORMS)}")
        if self.form == "factored" and not 0 < 2 * self.rank <= self.n_frequency:
            raise ConfigError(f"rank={self.rank} with n_frequency={self.n_frequency}; use a rank from 1 to n / 2")
        if self.pool < 0 or (self.pool and self.form == "factored"):
            raise ConfigError(
                f"pool={self.pool} with form={self.form}; use a pool of at least 1 number, and no factors"
            )

    def to_dict(self) -> dict[str, Any]:
        """The fields of adapter_config.json, which no loader takes for those of FourierFT."""
        content = super().to_dict()
        own = {name: content.pop(name) for name in OWN_FIELDS}
        content["fourierft"] = {"format": FORMAT, **content.get("fourierft", {}), **own, "required": sorted(own)}
        content["task_type"] = "trained by an experiment with another form of FourierFT, which is for comparison alone"
        return content


OWN_FIELDS = tuple(item.name for item in fields(FormConfig) if item.name not in FourierFTConfig.__dataclass_fields__)


class FormLayer(FourierFTLayer):
    """A layer whose adapter has the form of its config; it trains and evaluates, and does nothing else."""

    adapter_layer_names = ("fourierft_coefficients", "fourierft_gain")

    def update_layer(self, adapter_name: str, n_frequency: int, config: Any) -> None:
        """Add an adapter, or replace the one of that name."""
        if not hasattr(self, "fourierft_gain"):
            self.fourierft_gain = nn.ParameterDict()
            self.factors: dict[str, Factors | Cosines] = {}
            self.shares: dict[str, Share] = {}
            self.powers: dict[str, float] = {}
            self.input_scales: dict[str, Tensor] = {}
        if config.gain:
            self.fourierft_gain[adapter_name] = nn.Parameter(torch.ones(1))
        super().update_layer(adapter_name, n_frequency, config)
        self.powers[adapter_name] = config.whiten
        shape = (self.out_features, self.in_features)
        if config.form == "cosine":
            scaling = self.fourierft_scaling[adapter_name]
            self.factors[adapter_name] = Cosines(*shape, self.fourierft_basis[adapter_name].entries, scaling)
        if config.form == "factored":
            made = Factors(*shape, n_frequency, config.rank, config.ratio, config.random_loc_seed)
            self.factors[adapter_name] = made
            with torch.no_grad():
                made.start(self.fourierft_coefficients[adapter_name].weight)

    def coefficients(self, name: str) -> Tensor:
        """The coefficients [n] of an adapter; those that a pool gives, if it has one."""
        numbers = super().coefficients(name)
        return self.shares[name].of(numbers) if name in self.shares else numbers

    def get_delta_weight(self, adapter: str) -> Tensor:
        """dW of an adapter, [out, in], as it meets inputs that are whitened."""
        numbers = self.coefficients(adapter)
        if adapter in self.factors:
            delta = self.factors[adapter].delta_weight(numbers)
        else:
            delta = delta_weight(numbers, self.fourierft_basis[adapter], self.fourierft_scaling[adapter])
        return delta * self.fourierft_gain[adapter] if adapter in self.fourierft_gain else delta

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """The base layer's output plus x dW^T."""
        result = self.base_layer(x, *args, **kwargs)
        for name in self.active_adapters:
            if name in self.fourierft_coefficients and not self.disable_adapters:
                whitened = self._whiten(x.to(torch.float32), name)
                result = result + (whitened @ self.get_delta_weight(name).T).to(result.dtype)
        return result

    def merge(self, safe_merge: bool = False, adapter_names: list[str] | None = None) -> None:
        """Refuse.

        Raises: ConfigError.
        """
        raise ConfigError("another form of FourierFT is for comparison alone and does not merge; train form plain")

    def _whiten(self, x: Tensor, name: str) -> Tensor:
        power = self.powers[name]
        if not power:
            return x
        if name not in self.input_scales:
            rms = x.detach().flatten(0, -2).square().mean(0).sqrt().clamp_min(1e-6)  # [in]
            scales = rms**-power
            self.input_scales[name] = scales * (rms.norm() / (scales * rms).norm())  # the input keeps its norm
        return x * self.input_scales[name]


class FormModel(FourierFTModel):
    """The tuner that puts FormLayers into a model."""

    linear_layer_cls = FormLayer

    def inject_adapter(self, model: nn.Module, adapter_name: str, *args: Any, **kwargs: Any) -> None:
        """Add an adapter; tied layers of a block take the coefficients of the first, all layers those of the pool."""
        super().inject_adapter(model, adapter_name, *args, **kwargs)
        tied: dict[str, nn.Parameter] = {}
        config: Any = self.peft_config[adapter_name]
        for path, module in model.named_modules():
            block, _, leaf = path.rpartition(".")
            if isinstance(module, FormLayer) and leaf in config.tie:
                first = tied.setdefault(block, module.fourierft_coefficients[adapter_name].weight)
                module.fourierft_coefficients[adapter_name].weight = first
        if config.pool:
            layers = [module for module in model.modules() if isinstance(module, FormLayer)]
            pool = nn.Parameter(torch.zeros(config.pool))
            shares = share_out_pool(config.pool, len(layers), config.n_frequency, config.random_loc_seed)
            for layer, share in zip(layers, shares, strict=True):
                layer.shares[adapter_name] = share
                layer.fourierft_coefficients[adapter_name].weight = pool


def forms_enabled() -> AbstractContextManager[None]:
    """PEFT's FourierFT takes configs of other forms while this lasts."""
    return substituted(FormConfig, FormModel)
