"""Adapter folders in which something is wrong."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

from fourierft.store import AdapterStore, import_folder

STRANGE: tuple[Any, ...] = (
    *(
        None,
        True,
        0,
        -1,
        1e308,
        10**400,
        float("nan"),
        "",
        "x" * 70_000,
        "\ud800",
        "a\0b",
        "(a+)+b",
        "../../etc/passwd",
    ),
    *([], {}, [[]], {"": 1}, ["query"] * 1000, [None], "none", 3.5, {"a.query": -1}, {"(a+)+$": 20}),
)


def import_strangers(runs: Path) -> str | None:
    told: list[str] = []
    with AdapterStore(runs / "fleet.db") as store:
        import_folder(store, runs, tell=told.append)
        if "good" not in store:
            return f"the good one was not added: {told}"
        if any("\n" in line for line in told):
            return f"several lines: {told}"
        for name in store.names():
            store.export(name, runs / "out" / name)
        faults = store.verify()
    return faults[0] if faults else None


def spoil(folder: Path, chance: random.Random) -> str:
    """Make one thing wrong in an adapter's folder; what that was."""
    file = chance.choice(sorted(path for path in folder.iterdir()))
    act = chance.choice(["value", "value", "value", "value", "bits", "bits", "cut", "kind", "text", "name"])
    if act == "value" and file.suffix == ".json" and file.is_file() and not file.is_symlink():
        try:
            content = json.loads(file.read_text())
        except ValueError:
            return "nothing"
        key = chance.choice([*content, "fourierft", "rank_pattern", "n_frequency_pattern", "revision"])
        content[key] = chance.choice(STRANGE)
        file.write_text(json.dumps(content))
        return f"{file.name} {key} {content[key]!r:.40}"
    if act == "kind":
        file.unlink()
        kind = chance.choice(["none", "folder", "link", "loop"])
        if kind == "folder":
            file.mkdir()
        elif kind != "none":
            file.symlink_to("/etc/passwd" if kind == "link" else file.name)
        return f"{file.name} is {kind}"
    if not file.is_file() or file.is_symlink():
        return "nothing"
    content = bytearray(file.read_bytes())
    if act == "cut":
        file.write_bytes(content[: chance.randrange(len(content))])
    elif act == "text":
        text = chance.choice(
            ['{"a":' * 5000, "[" * 100_000, "null", "[1]", '"x"', "\ufeff{}", "{}", '{"a": NaN}', "1" * 9999]
        )
        file.write_bytes(text.encode())
    elif act == "name":
        file.rename(folder / chance.choice(["x.json", "adapter_model.bin", "\udcff", "fourierft.json"]))
    else:
        for _ in range(chance.choice([1, 1, 20])):
            content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
        file.write_bytes(content)
    return f"{file.name} {act}"
