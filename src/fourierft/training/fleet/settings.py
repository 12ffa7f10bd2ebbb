"""Everything `fourierft fleet train` can be told."""

from __future__ import annotations

from dataclasses import dataclass, field

from fourierft.errors import ConfigError
from fourierft.format.encoding import check_dtype
from fourierft.training.arguments import DataArguments, MethodArguments, ModelArguments

SCHEDULES = ("linear", "constant")


@dataclass(frozen=True)
class FleetSettings:
    """How a fleet is trained; each adapter has counts of its own.

    Attributes:
        adapter_column: of the data, whose values name the adapters.
        epochs: passes over an adapter's rows.
        max_steps: at most, for each adapter; None is no limit.
        rows: of an adapter in a step.
        adapters: in a step, at most.
        learning_rate: peak, of the coefficients.
        head_learning_rate: of the heads; None is that of the coefficients.
        schedule: linear decays to zero, constant does not.
        warmup_steps: in which the rate rises from zero.
        weight_decay: of coefficients and heads, biases left out.
        shared_head: all adapters have the head that the base was trained with, as it is, and none of their own.
        max_grad_norm: to which an adapter's gradient is clipped; 0 does not.
        validation_fraction: of an adapter's rows, rounded, that are kept to score it.
        save_steps: steps between two checkpoints; 0 saves on Ctrl-C alone.
        seed: of heads, order of rows, and dropout.
        dtype: that the store keeps the coefficients in.
    """

    adapter_column: str = "adapter"
    epochs: int = 3
    max_steps: int | None = None
    rows: int = 2
    adapters: int = 32
    learning_rate: float = 1e-3
    head_learning_rate: float | None = None
    schedule: str = "linear"
    warmup_steps: int = 0
    weight_decay: float = 0.0
    shared_head: bool = False
    max_grad_norm: float = 1.0
    validation_fraction: float = 0.1
    save_steps: int = 200
    seed: int = 42
    dtype: str = "float32"

    def __post_init__(self) -> None:
        check_dtype(self.dtype)
        if self.schedule not in SCHEDULES:
            raise ConfigError(f"schedule={self.schedule} is unknown; use one of {', '.join(SCHEDULES)}")
        least = {"epochs": 1, "max_steps": 1, "rows": 1, "adapters": 1, "warmup_steps": 0, "save_steps": 0}
        least |= {"weight_decay": 0, "max_grad_norm": 0}
        for name, smallest in least.items():
            value = getattr(self, name)
            if value is not None and value < smallest:
                raise ConfigError(f"{name}={value} is too small; use at least {smallest}")
        if not 0 <= self.validation_fraction < 1:
            raise ConfigError(f"validation_fraction={self.validation_fraction} is not between 0 and 1; use 0.1")


@dataclass(frozen=True)
class FleetArguments:
    """All settings of one run.

    Attributes:
        store: path of the store that the adapters go into, or postgresql://...
        folder: for checkpoints; None is the store's path with `.training` behind it.
        resume: go on from the last checkpoint there.
        watch: look at the folder of files again while training, and when all are done for as many seconds more; None
            does not look.
        dry_run: say what would be done, and stop.
    """

    model: ModelArguments
    data: DataArguments
    store: str
    method: MethodArguments = field(default_factory=MethodArguments)
    fleet: FleetSettings = field(default_factory=FleetSettings)
    folder: str | None = None
    resume: bool = False
    watch: float | None = None
    dry_run: bool = False

    def __post_init__(self) -> None:
        if self.watch is not None and not self.watch >= 0:
            raise ConfigError(f"watch={self.watch} is not a number of seconds; use 0 or more")
