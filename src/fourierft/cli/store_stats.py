"""What `fourierft store stats` and `fourierft inspect` print of a store."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

from fourierft.tables import escape_controls, format_bytes, show_columns

if TYPE_CHECKING:
    from fourierft.store import AdapterStore, Neighbour, StoreStats


def show_stats(store: AdapterStore, near: str | None, picture: str | None, as_json: bool) -> int:
    """Print what a person wants to know of a fleet, and draw its map.

    Args:
        store: of the fleet.
        near: name of an adapter whose neighbours are wanted.
        picture: file to draw the map into.
        as_json: print JSON instead of a table.
    """
    from fourierft.store import find_nearest

    stats = store.stats()
    nearest = find_nearest(store, near) if near is not None else []
    if as_json:
        print(json.dumps({**stats.to_dict(), "near": [neighbour._asdict() for neighbour in nearest]}, indent=2))
    else:
        print("\n".join(describe(stats, near, nearest)))
    if picture:
        from fourierft.store.study.map import save_map

        save_map(store, picture, [near] if near is not None else [])
        print(f"wrote {picture}", file=sys.stderr)
    return 0


def describe(stats: StoreStats, name: str | None = None, near: list[Neighbour] | None = None) -> list[str]:
    kept = ", ".join(f"{count:,} in {dtype}" for dtype, count in stats.dtypes.items())
    ratio = f", {stats.disk_bytes / stats.raw_bytes:.3f} times the numbers themselves" if stats.raw_bytes else ""
    lines = [
        f"base      {stats.base}",
        f"adapters  {stats.adapters:,}; versions {stats.versions:,}: {kept}",
        f"on disk   {format_bytes(stats.disk_bytes)}{ratio}",
        "",
        show_columns(
            [
                (f"{stats.kind} by layer", "least", "median", "largest"),
                *((layer, *(f"{norm:.4g}" for norm in norms)) for layer, norms in stats.norms.items()),
            ],
            headings=True,
        ),
    ]
    if stats.scores:
        rows = [
            (escape_controls(name), f"{own.adapters:,}", *(f"{value:.4g}" for value in own[1:]))
            for name, own in stats.scores.items()
        ]
        headings = ("score", "adapters", "least", "median", "largest")
        lines += ["", show_columns([headings, *rows], headings=True)]
    for names in stats.duplicates:
        more = f" and {len(names) - 5:,} more" if len(names) > 5 else ""
        lines.append(f"the same: {', '.join(map(escape_controls, names[:5]))}{more}")
    if name is not None:
        rows = [(escape_controls(neighbour.name), f"{neighbour.similarity:.4f}") for neighbour in near or []]
        lines += ["", show_columns([(f"nearest to {escape_controls(name)}", "cosine of dW"), *rows], headings=True)]
    return lines
