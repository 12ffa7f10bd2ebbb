"""The plan of a fleet's training: made once from its settings, shown by `--dry_run`, run, and written into its record.

As `training.plan` has it of one adapter.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from fourierft.errors import ConfigError
from fourierft.format.encoding import encoded_bytes
from fourierft.store import AdapterStore
from fourierft.training import report
from fourierft.training.fleet.data import FleetData, is_folder, load_rows
from fourierft.training.fleet.heads import share_head
from fourierft.training.fleet.settings import FleetArguments
from fourierft.training.fleet.trainable import TrainableRow, attach_row
from fourierft.training.models import required_name
from fourierft.training.reading import divide, read_rows
from fourierft.training.resuming import RECORDED, adapter_fields, as_json, describe_base
from fourierft.training.setup import Setup, load_setup


@dataclass(frozen=True)
class FleetPlan:
    """All that a training of a fleet will do, checked.

    Attributes:
        arguments: what was asked for.
        setup: what it stands on, the task with its main metric among it.
        trainable: the model, and what of it is trained for each adapter.
        data: rows of all adapters, encoded; those that come while they train are added to it.
        record: what the training writes of itself beside each adapter, so that it can be evaluated.
    """

    arguments: FleetArguments
    setup: Setup
    trainable: TrainableRow
    data: FleetData
    record: dict[str, Any]

    @property
    def rows(self) -> dict[str, int]:
        """The number of rows, of all adapters, that they are trained and scored on."""
        tenants = self.data.tenants.values()
        held_out = sum(len(tenant.held_out) for tenant in tenants)
        return {"train": sum(len(tenant.train) for tenant in tenants), **({"held-out": held_out} if held_out else {})}

    @property
    def steps(self) -> int:
        """Steps of the optimizer, summed over adapters."""
        return sum(tenant.total_steps(self.arguments.fleet) for tenant in self.data.tenants.values())

    @cached_property
    def run(self) -> dict[str, Any]:
        """What makes the run, by name, as JSON has it; the rows of each adapter come beside it."""
        settings = self.arguments.fleet
        run = {
            "base_model": describe_base(self.record["base_model"], self.record["revision"]),
            **{name: self.record.get(name) for name in RECORDED},
            **adapter_fields(self.trainable.layout.config),
            **{name: value for name, value in asdict(settings).items() if name not in ("save_steps", "dtype")},
            "dtype in the store": settings.dtype,
        }
        return as_json(run)

    def describe(self) -> str:
        """Tables of what will be trained, on what, and of an adapter's size."""
        return report.describe_training(self.trainable, self.record, self.rows)


def plan_fleet(arguments: FleetArguments, only_shapes: bool = False, store: AdapterStore | None = None) -> FleetPlan:
    """Load and check data, processor and model, and make a row of numbers what is trained. Writes nothing.

    Args:
        only_shapes: as for `models.load_model`.
        store: that the adapters will go into, whose names they must not collide with.

    Raises: FourierFTError, if anything given is wrong.
    """
    data, settings = arguments.data, arguments.fleet
    rows = load_rows(data, settings)
    if arguments.watch is not None and not is_folder(data):
        raise ConfigError(f"watch={arguments.watch:g} needs a folder as train_file, with one file for each adapter")
    reading = divide(read_rows({"train": rows}, data), replace(data, validation_fraction=0.0), settings.seed)
    setup = load_setup(reading, arguments.model, data, settings.seed, only_shapes)
    if settings.shared_head:
        setup = share_head(setup)
    name, revision = required_name(arguments.model), arguments.model.model_revision
    trainable = attach_row(setup.base, arguments.method, name, None if Path(name).exists() else revision)
    trainable = replace(trainable, adapter_bytes=encoded_bytes(settings.dtype, trainable.layout.sizes))
    fleet = FleetData(setup, settings, store)
    fleet.add(reading.rows["train"], setup.labels["train"])
    record = setup.record(trainable.method, trainable.settings, trainable.is_adapter)
    return FleetPlan(arguments, setup, trainable, fleet, record)
