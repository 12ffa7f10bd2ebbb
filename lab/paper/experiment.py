"""What an experiment is: names to choose from, how it is run, and how its page is made."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fourierft.errors import ConfigError
from fourierft.training.comparison.tasks import check_seeds
from lab.ledger import Ledger, Row


@dataclass(frozen=True)
class Choice:
    """What of an experiment is asked for.

    Attributes:
        tasks, models: names of the experiment's, in its order.
        seeds: of the runs.
        is_stand_in: on a small real model and data that the package index carries, in place of the paper's.
        overrides: settings of `fourierft train` that win over those of the recipes.
        max_runs: stop after so many trainings.
    """

    tasks: tuple[str, ...]
    models: tuple[str, ...]
    seeds: tuple[int, ...]
    is_stand_in: bool = False
    overrides: Mapping[str, Any] = field(default_factory=dict)
    max_runs: int | None = None


@dataclass(frozen=True)
class Experiment:
    """A table or figure of the paper.

    Attributes:
        run: makes the rows of a choice that are missing.
        page: markdown blocks for all rows there are; draws its plots into a folder.
        names: a line of text for each run of a choice.
        tasks, models: what --task and --model may name; none if it has no such thing.
        stand_ins: what --task may name with --stand-in; none if it has no stand-in.
        seeds, stand_in_seeds: unless --seeds says otherwise.
        needs: models and data that the paper's runs download; empty if they need none.
    """

    name: str
    title: str
    run: Callable[[Choice, Ledger], None]
    page: Callable[[Sequence[Row], Path], list[str]]
    names: Callable[[Choice], list[str]]
    tasks: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    stand_ins: tuple[str, ...] = ()
    seeds: tuple[int, ...] = ()
    stand_in_seeds: tuple[int, ...] = (0,)
    needs: str = ""

    def choose(
        self,
        tasks: Sequence[str] | None = None,
        models: Sequence[str] | None = None,
        seeds: Sequence[int] | None = None,
        stand_in: bool = False,
        overrides: Mapping[str, Any] | None = None,
        max_runs: int | None = None,
    ) -> Choice:
        """A checked choice; what is not given is everything.

        Raises: ConfigError, if a name is none of the experiment's, or it has no stand-in or no seeds.
        """
        if stand_in and not self.stand_ins:
            raise ConfigError(f"{self.name} has no stand-in; leave --stand-in out")
        if stand_in and models:
            raise ConfigError(f"--model {models[0]} has no meaning with --stand-in, whose tasks name their model")
        if seeds and not self.seeds:
            raise ConfigError(f"{self.name} draws nothing; leave --seeds out")
        return Choice(
            tasks=self._pick("--task", tasks, self.stand_ins if stand_in else self.tasks),
            models=self._pick("--model", models, self.models),
            seeds=check_seeds(list(seeds)) if seeds else (self.stand_in_seeds if stand_in else self.seeds),
            is_stand_in=stand_in,
            overrides=dict(overrides or {}),
            max_runs=max_runs,
        )

    def _pick(self, flag: str, wanted: Sequence[str] | None, known: tuple[str, ...]) -> tuple[str, ...]:
        for name in wanted or ():
            if not known:
                raise ConfigError(f"{flag} {name}: {self.name} has no choice of these; leave {flag} out")
            if name not in known:
                near = difflib.get_close_matches(name, known, n=1)
                hint = f"did you mean {near[0]}?" if near else f"use one of {', '.join(known)}"
                raise ConfigError(f"{flag} {name} is unknown to {self.name}; {hint}")
        return tuple(name for name in known if not wanted or name in wanted)
