"""Show the layers of a FourierFT adapter or a store: their size, and how much they change the base.

For every layer it prints the shape of the weights, the number of coefficients n and their bytes, and their norm ||c||.
It also prints the Frobenius and spectral norms of the update dW, and ||dW|| / ||W|| if the base's weights are on this
machine. The shapes need only the base's config. Without it, the list has what the adapter's own file says.

  fourierft inspect runs/reviews
  fourierft inspect runs/reviews --picture spectrum.png          the layer that changes most, and all norms
  fourierft inspect runs/reviews --layer 0.attention.self.query --layer 5.attention.self.value --picture two.png
  fourierft inspect user/adapter --json | jq .totals

For a store it prints the number of adapters, their bytes, the range of the norms of dW by layer, and which adapters are
equal or near to one of them. The picture is a map: adapters with similar dW are close together.

  fourierft inspect fleet.db --near reviews --picture map.png
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from fourierft.cli.parser import BASE, add_base, add_base_checks
from fourierft.errors import ConfigError
from fourierft.tables import format_bytes, show_columns

if TYPE_CHECKING:
    from fourierft.adapters.report import AdapterReport, LayerReport

COLUMNS = ("layer", "out x in", "n", "bytes", "||c||", "||dW|| F", "||dW|| 2", "||dW||/||W||")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "adapter",
        metavar="ADAPTER",
        help="folder or hub id of a FourierFT adapter, or a store (file or postgresql://...)",
    )
    parser.add_argument(
        "--layer",
        action="append",
        metavar="NAME",
        help="show only this layer; give its name or the end of it; repeat for more layers",
    )
    parser.add_argument(
        "--picture",
        metavar="FILE",
        help="draw spectrum, dW and norms, or a store's map, into FILE (.png, .svg, .pdf); overwrites FILE",
    )
    parser.add_argument(
        "--near", metavar="NAME", help="in a store: list the adapters whose dW are most similar to NAME's"
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    add_base(parser, "folder or hub id of the base, if not the one the adapter names")
    add_base_checks(parser)


def run(arguments: argparse.Namespace) -> int:
    if "://" in arguments.adapter or Path(arguments.adapter).is_file():
        return inspect_store(arguments)
    if arguments.near is not None:
        raise ConfigError(
            f"--near compares the adapters of a store, but {arguments.adapter} is not a store; leave --near out"
        )
    from fourierft.adapters.report import inspect_adapter, select_layers
    from fourierft.format.checkpoint import HUB_ID
    from fourierft.format.hub import find_near

    if not Path(arguments.adapter).exists() and not HUB_ID.fullmatch(arguments.adapter):
        hint = find_near(arguments.adapter) or "give the folder or hub id of an adapter, or the file of a store"
        raise ConfigError(f"{arguments.adapter} does not exist; {hint}")
    measured = None if arguments.picture else arguments.layer  # the picture has a bar for every layer
    report = inspect_adapter(
        arguments.adapter,
        arguments.model_name_or_path,
        measured,
        arguments.trust_remote_code,
        arguments.allow_other_base,
    )
    wanted = select_layers(report.checkpoint, arguments.layer)
    shown = replace(report, layers=tuple(layer for layer in report.layers if layer.name in wanted))
    print(json.dumps(shown.to_dict(), indent=2) if arguments.json else "\n".join(describe(shown)))
    if arguments.picture:
        from fourierft.adapters.picture import save_picture

        save_picture(report, arguments.picture, wanted if arguments.layer else None)
        print(f"wrote {arguments.picture}", file=sys.stderr)
    return 0


def inspect_store(arguments: argparse.Namespace) -> int:
    """Print and draw what `fourierft store stats` does.

    Raises: ConfigError, for a choice that is one of a single adapter.
    """
    from fourierft.cli.store_stats import show_stats
    from fourierft.store import AdapterStore

    given = [name for name in ("layer", BASE, "allow_other_base", "trust_remote_code") if getattr(arguments, name)]
    if given:
        raise ConfigError(
            f"--{given[0]} is for a single adapter, but {arguments.adapter} is a store; leave --{given[0]} out"
        )
    with AdapterStore(arguments.adapter, create=False) as store:
        return show_stats(store, arguments.near, arguments.picture, arguments.json)


def describe(report: AdapterReport) -> list[str]:
    checkpoint = report.checkpoint
    entries = "uniform" if checkpoint.band is None else "band-pass, center {:g}, width {:g}".format(*checkpoint.band)
    lines = [
        f"adapter   {checkpoint.path}",
        f"base      {report.base or 'none named'}",
        f"task      {checkpoint.task_type or 'none named'}",
        f"scaling   {checkpoint.scaling:g}    seed {checkpoint.seed}    entries {entries}",
        "",
        show_columns([COLUMNS, *(layer_cells(layer) for layer in report.layers)], headings=True),
        "",
    ]
    dense = report.dense_parameters
    share = f", instead of {dense:,} entries of dW ({dense / report.coefficients:,.0f} times as many)" if dense else ""
    layers = "1 layer" if len(report.layers) == 1 else f"{len(report.layers)} layers"
    lines.append(f"{layers}: {report.coefficients:,} coefficients, {format_bytes(report.coefficient_bytes)}{share}")
    if report.saved_parameters:
        held = f"{report.saved_parameters:,} parameters, {format_bytes(report.saved_bytes)}"
        lines.append(f"saved whole: {held} (heads, embeddings, biases)")
    lines.append(f"file: {format_bytes(report.file_bytes)}")
    if report.base_problem:
        lines.append(f"no shapes and no norms of dW: {report.base_problem}")
    elif any(layer.relative_norm is None for layer in report.layers):
        lines.append("no ||W||: the base's weights are not on this machine as safetensors under the same names")
    return lines


def layer_cells(layer: LayerReport) -> tuple[str, ...]:
    """A row of the table; a dash for what is not known."""
    shape = f"{layer.shape[0]} x {layer.shape[1]}" if layer.shape else "-"
    if layer.weights > 1:
        shape = f"{layer.weights} of {shape}"
    norms = (layer.coefficient_norm, layer.frobenius_norm, layer.spectral_norm)
    return (
        layer.name,
        shape,
        f"{layer.n_frequency:,}",
        f"{layer.n_bytes:,}",
        *("-" if value is None else f"{value:.4g}" for value in norms),
        "-" if layer.relative_norm is None else f"{layer.relative_norm:.2%}",
    )
