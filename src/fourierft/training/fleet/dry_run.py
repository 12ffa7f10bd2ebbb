"""What a training of a fleet would do, without doing it: `fourierft fleet train --dry_run`."""

from __future__ import annotations

from typing import Any

from fourierft.format.hub import offline_if_unreachable
from fourierft.store import AdapterStore
from fourierft.tables import format_bytes
from fourierft.training.dry_run import Forecast, describe_forecast, find_data, find_model
from fourierft.training.fleet.claim import check_base
from fourierft.training.fleet.plan import FleetPlan, plan_fleet
from fourierft.training.fleet.settings import FleetArguments


def dry_run_fleet(arguments: FleetArguments) -> dict[str, Any]:
    """Print what a training of a fleet would do, and return it. Downloads descriptions and configs, and nothing large.

    Returns: `parameters` and `bytes` (of an adapter; see `run.train`), `adapters` (name -> its rows to train on),
        `rows`, `steps` (summed over adapters), `downloads` (name -> bytes), `unknown` and `missing` (sentences). What
        is not known is None.

    Raises: FourierFTError, if anything given is wrong.
    """
    forecast, model, data = Forecast(), arguments.model, arguments.data
    with offline_if_unreachable(model.model_name_or_path, data.dataset_name):
        has_model, (has_data, _) = find_model(model, forecast), find_data(data, forecast)
        plan = None
        if has_model:
            with AdapterStore(arguments.store) as store:  # which makes no file before the first adapter
                check_base(store, model)
                if has_data:
                    plan = plan_fleet(arguments, only_shapes=True, store=store)
    if plan is None:
        absent = [str(model.model_name_or_path)] * (not has_model) + ["the data"] * (not has_data)
        forecast.unknown.append(f"the adapters, their numbers and steps, as {' and '.join(absent)} can't be read here")
        print(describe_forecast([], forecast), flush=True)
    else:
        print(f"{plan.describe()}\n\n{describe_forecast(_describe_costs(plan), forecast)}", flush=True)
    return {
        **(plan.trainable.sizes() if plan else {"parameters": None, "bytes": None}),
        "adapters": {name: len(tenant.train) for name, tenant in plan.data.tenants.items()} if plan else None,
        "rows": plan.rows if plan else None,
        "steps": plan.steps if plan else None,
        "downloads": forecast.downloads,
        "unknown": forecast.unknown,
        "missing": forecast.missing,
    }


def _describe_costs(plan: FleetPlan) -> list[tuple[str, ...]]:
    settings, counts = plan.arguments.fleet, [len(tenant.train) for tenant in plan.data.tenants.values()]
    size = plan.trainable.adapter_bytes + plan.trainable.head_bytes
    together = min(settings.adapters, len(counts))
    return [
        ("adapters", f"{len(counts):,}", f"of {min(counts):,} to {max(counts):,} rows to train on"),
        ("steps", f"{plan.steps:,}", f"of {settings.rows} rows, up to {together} adapters at a time"),
        ("in the store", format_bytes(size * len(counts)), f"in {settings.dtype}, heads as they are"),
    ]
