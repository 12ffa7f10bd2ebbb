"""Imports every module of this package where one extra alone is installed: the packages of all others are hidden.

    python tests/bare/alone.py              for no extra, then for each in turn

A module that stands on an extra which is not there has to name it. Every extra has a process of its own, forked from
one that holds torch. The status is 1 if a module fails in any other way, or for want of the extra that is there.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Iterable
from importlib.machinery import ModuleSpec, PathFinder
from importlib.metadata import (
    DistributionFinder,
    PackageNotFoundError,
    PathDistribution,
    packages_distributions,
    requires,
)
from pathlib import Path
from typing import Any

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

import torch  # noqa: F401  once, for all processes
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS: dict[str, list[str]] = {"none": [], **PROJECT["optional-dependencies"]}
del EXTRAS["all"]  # it is the others together
EVERYTHING = DistributionFinder.Context()


class Alone(PathFinder):
    """Finds modules and distributions as ever, but for those that are hidden."""

    kept: frozenset[str] = frozenset()  # distributions
    hidden: frozenset[str] = frozenset()  # top-level modules

    @classmethod
    def find_spec(cls, fullname: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        return None if fullname.partition(".")[0] in cls.hidden else super().find_spec(fullname, path, target)

    @classmethod
    def find_distributions(cls, context: DistributionFinder.Context = EVERYTHING) -> Iterable[PathDistribution]:
        found = super().find_distributions(context)
        return [one for one in found if canonicalize_name(one.metadata["Name"]) in cls.kept]


def closure(requirements: Iterable[str]) -> frozenset[str]:
    """Names of the distributions that requirements bring on this machine."""
    todo = [(Requirement(text), "") for text in requirements]
    seen: set[tuple[str, str]] = set()
    while todo:
        requirement, extra = todo.pop()
        name = canonicalize_name(requirement.name)
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": extra}):
            continue
        for extra in {"", *requirement.extras} - {own for other, own in seen if other == name}:
            seen.add((name, extra))
            try:
                todo += [(Requirement(text), extra) for text in requires(name) or []]
            except PackageNotFoundError:
                continue
    return frozenset(name for name, _ in seen)


def hide_all_but(extra: str) -> None:
    """From here on this process finds what the package needs, and what the extra brings."""
    Alone.kept = closure([*PROJECT["dependencies"], *EXTRAS[extra]]) | {PROJECT["name"]}
    Alone.hidden = frozenset(
        module
        for module, names in packages_distributions().items()
        if not Alone.kept & {canonicalize_name(name) for name in names}
    )
    sys.meta_path[sys.meta_path.index(PathFinder)] = Alone


def check_imports(extra: str) -> bool:
    """Import all modules; print those that fail as they must not. Whether there are none."""
    source, good, named = ROOT / "src", True, 0
    for path in sorted((source / PROJECT["name"]).rglob("*.py")):
        module = ".".join(path.relative_to(source).with_suffix("").parts).removesuffix(".__init__")
        try:
            importlib.import_module(module)
        except ImportError as error:
            if type(error).__name__ == "MissingExtraError" and f"[{extra}]" not in str(error):
                named += 1
                continue
            if error.name == "triton":  # torch's builds for GPUs bring it, and no extra does
                continue
            print(f"with {extra}, {module}: {type(error).__name__}: {error}")
            good = False
    print(f"with {extra}: {'all modules' if good else 'not all modules'}, but for {named} that name their extra")
    return good


if __name__ == "__main__":
    good = True
    for extra in (name for name in EXTRAS if name not in ("dev", "docs")):  # tools
        child = os.fork()
        if child:
            good &= os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        else:
            hide_all_but(extra)
            ended = 0 if check_imports(extra) else 1
            sys.stdout.flush()
            os._exit(ended)
    sys.exit(0 if good else 1)
