"""The adapter's settings, in memory and in adapter_config.json.

On disk a config is stock PEFT's, field for field, so that stock PEFT reads what it can represent. What it cannot read
stands in one record more, "fourierft", which it ignores with a warning:

- scaling="auto": the record says so, and the field `scaling` holds the number that makes the saved coefficients right
  in stock PEFT too (see `FourierFTConfig.disk_scaling`).
- band-pass entries, adapted parameters, convolutions and embeddings, and layers whose weight the model reads: the
  record holds the band and the task, and the field `task_type` holds a sentence in place of the task, so that stock
  PEFT stops and prints it.
- what the adapter was made for: the shapes of its layers, and the base model (`fourierft.format.record`).
"""

from __future__ import annotations

import inspect
import re
from dataclasses import InitVar, dataclass, field, fields, replace
from typing import Any

from peft import FourierFTConfig as StockConfig
from peft import LoraConfig, PeftType
from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING

from fourierft.errors import ConfigError
from fourierft.format.config import MOST_SCALING
from fourierft.format.identity import BaseIdentity
from fourierft.format.json_file import is_number, shown
from fourierft.format.record import Record, made_for
from fourierft.format.shapes import Shape
from fourierft.spectral.entries import LEAST_SEED, LEAST_WIDTH, MOST_CENTER, MOST_SEED, MOST_WIDTH
from fourierft.tuner.paper import SEED, paper_run

ENTRIES = ("uniform", "bandpass")
_OWN_FIELDS = (
    *("entries", "center", "width", "rule", "disk_scaling", "from_disk", "reads_weights", "has_reshaped", "is_taken"),
    *("file_record", "layer_shapes", "base", "base_width", "layer_counts"),
)
_OF_LORA = {
    "r": "has n_frequency, coefficients a layer: 340 where LoRA has r=8, or as many numbers with like='lora:1' of "
    "fourierft.recommended",
    "lora_alpha": "has scaling, which is best left at 'auto'",
    "rank_pattern": "has n_frequency_pattern",
    "alpha_pattern": "has one scaling for all layers; leave it at 'auto'",
    "init_lora_weights": "has init_weights: True starts from zeros, as LoRA does",
    "trainable_token_indices": "trains no single tokens; name the embedding in target_modules, or in modules_to_save",
}
_OTHERS_OF_LORA = {field.name for field in fields(LoraConfig)} - {field.name for field in fields(StockConfig)}
RULES = (1, 2, 3)  # behind scaling="auto", of which the last is for adapters made today; see scaling.py


@dataclass
class FourierFTConfig(StockConfig):
    """Settings of a FourierFT adapter: the fields of `peft.FourierFTConfig`, with defaults that train well.

    Of the fields that PEFT has too, set target_modules (names, a regular expression or "all-linear") and n_frequency,
    the coefficients of each layer (1000 if not set; `recommended` picks it for a budget); n_frequency_pattern gives
    single layers another n, as rank_pattern does for LoRA. Adapters that share a batch need the same random_loc_seed.

    Args:
        scaling: "auto" picks a scaling per layer at which the learning rate of a LoRA run fits (`auto_scaling`); a
            number is one scaling for all layers, as in stock PEFT (the paper's alpha).
        init_weights: True starts from zeros, so that step 0 is the base model; False draws from N(0, 1), as stock PEFT
            does.
        target_parameters: names, or ends of names, of parameters that are matrices or stacks of matrices, such as the
            weights of fused experts: "mlp.experts.gate_up_proj". Each matrix gets n_frequency coefficients. Stock PEFT
            cannot load them.
        entries: "uniform" draws as stock PEFT does; "bandpass" favours a band of frequencies (paper Eq. 5), which stock
            PEFT cannot load.
        center: favoured distance from frequency 0, in entries (paper fc); for "bandpass" alone.
        width: bandwidth in entries (paper W), > 0; for "bandpass" alone.
        fourierft: record in the adapter_config.json of a checkpoint; do not pass it by hand.

    Attributes:
        rule: number of the rule of scaling="auto": the checkpoint's, or today's for a new adapter.
        disk_scaling: with scaling="auto", the `scaling` that checkpoints name: the scaling of the first adapted layer.
            Layers of the same shape save their coefficients unchanged. The others multiply them by the ratio of the two
            scalings. None until an adapter is made.
        from_disk: whether the config was read from a file, so that coefficients will be loaded next.
        file_record: what that file holds besides the settings, such as the shapes of the layers.
        layer_shapes: layer name -> (out_features, in_features) in the adapted model, to be saved.
        base: identity of that model, if it is known; to be saved.
        base_width: width of that model; None before an adapter is made, or without linear layers.
        layer_counts: layer name -> n, instead of n_frequency and its patterns.
        reads_weights, has_reshaped: of that model, as in `Record`.
        is_taken: whether the tuner of this package has made an adapter with it.

    A config may be made before `fourierft.enable()`, an adapter may not: stock PEFT's tuner would make it.

    Raises: ConfigError, if a value is out of range, or entries are "bandpass" and `fourierft.enable()` was not called.
    """

    scaling: float | str = "auto"  # type: ignore[assignment]
    init_weights: bool = True
    target_parameters: list[str] | None = None
    entries: str = "uniform"
    center: float | None = None
    width: float | None = None
    fourierft: InitVar[dict[str, Any] | None] = None
    rule: int = field(default=RULES[-1], init=False, repr=False)
    disk_scaling: float | None = field(default=None, init=False, repr=False, compare=False)
    from_disk: bool = field(default=False, init=False, repr=False, compare=False)
    file_record: Record = field(default_factory=Record, init=False, repr=False, compare=False)
    layer_shapes: dict[str, Shape] = field(default_factory=dict, init=False, repr=False, compare=False)
    base: BaseIdentity | None = field(default=None, init=False, repr=False, compare=False)
    base_width: int | None = field(default=None, init=False, repr=False, compare=False)
    layer_counts: dict[str, int] = field(default_factory=dict, init=False, repr=False, compare=False)
    reads_weights: bool = field(default=False, init=False, repr=False, compare=False)
    has_reshaped: bool = field(default=False, init=False, repr=False, compare=False)
    is_taken: bool = field(default=False, init=False, repr=False, compare=False)

    def __new__(cls, *args: Any, **fields: Any) -> FourierFTConfig:
        is_read = type(fields.get("peft_type")) is str  # of a file, which a newer PEFT may have written
        own = inspect.signature(cls).parameters
        for name in (name for name in fields if name in {*_OF_LORA, *_OTHERS_OF_LORA} - own.keys() and not is_read):
            has = _OF_LORA.get(name, "has none like it; leave it out")
            raise ConfigError(f"{name} is a setting of LoRA; FourierFT {has}")
        return super().__new__(cls)

    def __post_init__(self, fourierft: dict[str, Any] | None) -> None:
        self.from_disk = type(self.peft_type) is str  # who makes a config leaves it out, and a made one has the enum
        if fourierft is not None:
            self._read_record(fourierft)
        if self.from_disk and self.scaling == "auto" and self.disk_scaling is None:
            self.disk_scaling = StockConfig.scaling  # which PEFT takes for files that say nothing
        super().__post_init__()
        if self.n_frequency_pattern is None:  # stock PEFT allows it, and then cannot make or load the adapter
            self.n_frequency_pattern = {}
        self._check_scaling()
        self._check_counts()
        self._check_band()
        names = self.target_parameters
        if isinstance(names, str) or any(not isinstance(name, str) for name in names or ()):
            raise ConfigError(
                f"target_parameters={names!r} is not a list of names; use one, such as ['experts.down_proj']"
            )
        if self.entries != "uniform":  # stock PEFT would draw others without a word; "auto" it cannot multiply with
            self._check_enabled()

    @property
    def is_prompt_learning(self) -> bool:
        """False. PEFT reads this before it makes an adapter, so the check below comes first.

        Raises: ConfigError, if stock PEFT's tuner would make the adapter: it has no scaling "auto" and other files.
        """
        if not self.is_taken:
            self._check_enabled()
        return False

    @classmethod
    def paper(cls, task: str, model: str | None = None, **fields: Any) -> FourierFTConfig:
        """The paper's config for a task: its alpha, n, seed and normal start (`paper_run` has the rest).

        Args:
            task: such as "cola", "e2e", "instructions" or "cifar10".
            model: such as "roberta-base"; not needed if the paper has the same settings for all models.
            fields: other fields of the config, such as target_modules; they replace the paper's.

        Raises: ConfigError, if the paper has no such run.
        """
        run = paper_run(task, model)
        paper = {"n_frequency": run.n_frequency, "scaling": run.scaling, "random_loc_seed": SEED, "init_weights": False}
        return cls(**{**paper, **fields})

    def to_dict(self) -> dict[str, Any]:
        """The fields of adapter_config.json, with sets as sorted lists, so that the same adapter makes the same file.

        Raises: ConfigError, if `fourierft.disable()` was called: stock PEFT would save coefficients of another scale.
        """
        self._check_enabled()
        fields = super().to_dict()
        fields |= {name: sorted(value) for name, value in fields.items() if isinstance(value, set)}
        for name in _OWN_FIELDS:
            fields.pop(name)
        is_auto = self.scaling == "auto" and self.disk_scaling is not None
        if is_auto:
            fields["scaling"] = self.disk_scaling
        band = (self.center, self.width) if self.center is not None and self.width is not None else None
        said: dict[str, Any] = {"is_auto": is_auto, "rule": self.rule if is_auto else None, "band": band}
        said |= {"has_parameters": bool(self.target_parameters), "reads_weights": self.reads_weights}
        said["has_reshaped"] = self.has_reshaped
        record = replace(self._made_for(), **said, task_type=self.task_type).content
        if self.target_parameters is None:
            fields.pop("target_parameters")
        if self._beyond_stock():
            fields["task_type"] = (
                f"this adapter has {self._beyond_stock()}, which only the package fourierft reads: "
                "pip install fourierft, then call fourierft.enable() before loading"
            )
        if record:
            fields["fourierft"] = record
        return fields

    def _beyond_stock(self) -> str:
        """What stock PEFT would pass over without a word, which therefore must make it stop; empty if there is none."""
        if self.entries != "uniform":
            return f"entries={self.entries!r}"
        if self.target_parameters:
            return f"target_parameters={self.target_parameters}"
        if self.has_reshaped:
            return "adapters of convolutions or embeddings"
        return "adapters of layers whose weights the model reads" if self.reads_weights else ""

    def _made_for(self) -> Record:
        """What is to be saved of the model that the adapter is in; without one, what the file said."""
        if not self.layer_shapes:
            return self.file_record
        base = self.base or BaseIdentity("")
        return Record(**made_for(self.layer_shapes), digest=base.digest, signs=base.signs)

    def _read_record(self, record: dict[str, Any]) -> None:
        self.file_record = found = Record.read(record, "adapter_config.json")
        if found.is_auto:
            if not isinstance(self.scaling, (int, float)) or not self.scaling:
                raise ConfigError(
                    f"adapter_config.json has scaling={self.scaling!r} beside fourierft.scaling='auto', which needs a "
                    "number other than 0 there; restore the file that was saved with the adapter"
                )
            self.scaling, self.disk_scaling = "auto", float(self.scaling)
            self.rule = RULES[0] if found.rule is None else found.rule
            if self.rule not in RULES:
                raise ConfigError(
                    f"adapter_config.json has the scale rule {self.rule!r}, but this version "
                    f"knows {RULES}; upgrade fourierft to the version that wrote the adapter"
                )
        if found.band is not None:
            self.entries, (self.center, self.width) = "bandpass", found.band
        if found.is_beyond_stock:
            self.task_type = found.task_type

    def _check_scaling(self) -> None:
        if self.scaling == "auto":
            return
        if not is_number(self.scaling, -MOST_SCALING, MOST_SCALING):
            raise ConfigError(f"scaling={self.scaling!r} is not a valid scaling; use 'auto' or a number, such as 150.0")

    def _check_counts(self) -> None:
        counts = {"n_frequency": self.n_frequency}
        if not isinstance(self.n_frequency_pattern, dict):
            raise ConfigError(
                f"n_frequency_pattern={self.n_frequency_pattern!r} is not a dictionary; "
                f"use names or patterns of layers and their n, such as {{'q_proj': 100}}"
            )
        for pattern, count in self.n_frequency_pattern.items():
            counts[f"n_frequency_pattern[{pattern!r}]"] = count
            try:
                re.compile(pattern)
            except re.error as error:
                raise ConfigError(
                    f"n_frequency_pattern has the key {pattern!r}, which is not a regular expression "
                    f"({error}); use a module name or a pattern that matches one"
                ) from None
        for name, count in counts.items():
            if isinstance(count, bool) or not isinstance(count, int) or count < 1:
                raise ConfigError(
                    f"{name}={count!r} is not a positive integer; use 1 up to out * in of the smallest layer"
                )
        seed = self.random_loc_seed
        if isinstance(seed, bool) or not isinstance(seed, int) or not LEAST_SEED <= seed <= MOST_SEED:
            raise ConfigError(
                f"random_loc_seed={shown(seed)} is not an integer of at most 64 bits; use one, such as 777"
            )

    def _check_band(self) -> None:
        band = {"center": self.center, "width": self.width}
        if self.entries not in ENTRIES:
            raise ConfigError(f"entries={self.entries!r} is unknown; use one of {', '.join(ENTRIES)}")
        if self.entries == "uniform":
            if any(value is not None for value in band.values()):
                raise ConfigError(
                    f"{band} has no meaning with entries='uniform'; use entries='bandpass' or leave them out"
                )
            return
        if not (is_number(self.center, 0, MOST_CENTER) and is_number(self.width, LEAST_WIDTH, MOST_WIDTH)):
            raise ConfigError(
                f"entries='bandpass' got {band}; use numbers center >= 0 and width > 0, up to {MOST_CENTER:g}"
            )

    @staticmethod
    def _check_enabled() -> None:
        if not issubclass(PEFT_TYPE_TO_CONFIG_MAPPING[PeftType.FOURIERFT], FourierFTConfig):
            raise ConfigError(
                "fourierft.FourierFTConfig needs this package's tuner, but stock PEFT's "
                "is active; call fourierft.enable() first"
            )


# What editors show of a class that has a __new__ is its signature, which here takes anything.
_first, *_fields = inspect.signature(FourierFTConfig.__init__).parameters.values()
FourierFTConfig.__signature__ = inspect.Signature(_fields)  # type: ignore[attr-defined]
