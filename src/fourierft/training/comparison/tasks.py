"""A task file: what `fourierft train --config` holds, and the grid of methods, learning rates and seeds over it.

Beside the settings of `fourierft train` a task file knows

    model_asset: minilm                   a model of `sources.MODELS`, instead of model_name_or_path
    data_asset: movies                    data of `sources.DATA`, instead of train_file, validation_file or dataset_name
    train_rows, validation_rows: 1500     rows drawn of that data
    layers: {all: [query, key]}           sets of layers that a method names, as in "lora:8,layers=all"
    methods: [head, "lora:8"]             see `method_parser.parse_method`
    learning_rates: [1e-3, 3e-3]
    method_learning_rates: {full: [1e-5]} other rates for the methods that begin so
    seeds: [0, 1, 2]
    generate: {num_beams: 4}              also let each model write, and score the texts; fields of `Decoding`
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from fourierft.errors import ConfigError
from fourierft.training.assets import hash_file
from fourierft.training.comparison.sources import ASSET_SETTINGS, find_asset_model, prepare_asset_data
from fourierft.training.families.registry import is_headless
from fourierft.training.generation.decoding import Decoding
from fourierft.training.method_parser import Method, parse_method
from fourierft.training.settings import convert_settings, read_yaml

GRID = ("layers", "methods", "learning_rates", "method_learning_rates", "seeds", "generate")
RESERVED = (
    "output_dir",
    "learning_rate",
    "seed",
    "method",
    "resume_from_checkpoint",
    "overwrite_output_dir",
    "dry_run",
)
FILES = ("train_file", "validation_file", "test_file")


@dataclass(frozen=True)
class Run:
    """One training of the grid."""

    method: Method
    learning_rate: float
    seed: int


@dataclass(frozen=True)
class Task:
    """What all runs share, and the grid.

    Attributes:
        name: of the task file.
        assets: model and data by their words.
        settings: of `fourierft train`, without what tells one run from another.
        target_modules: layers to adapt, unless a method says otherwise.
        layers: sets of layers by name: lists of names, or regular expressions.
        decoding: how each model writes texts to be scored; None if it does not.
    """

    name: str
    assets: Mapping[str, Any]
    settings: Mapping[str, Any]
    target_modules: list[str] | None
    layers: Mapping[str, list[str] | str]
    methods: tuple[Method, ...]
    learning_rates: tuple[float, ...]
    method_learning_rates: Mapping[str, tuple[float, ...]]
    seeds: tuple[int, ...]
    decoding: Decoding | None = None

    @property
    def is_headless(self) -> bool:
        """Whether the model is used as it was pretrained, so that `head` trains nothing."""
        return is_headless(self.settings.get("task"))

    def change(
        self,
        methods: Sequence[str] | None = None,
        learning_rates: Sequence[float] | None = None,
        seeds: Sequence[int] | None = None,
    ) -> Task:
        """The task with another grid; given learning rates hold for every method.

        Raises: ConfigError, as `read_task`.
        """
        chosen = self
        if methods is not None:
            chosen = replace(
                chosen, methods=tuple(parse_method(spec, self.target_modules, self.layers) for spec in methods)
            )
        if learning_rates is not None:
            rates = check_rates(learning_rates, "learning_rates")
            chosen = replace(chosen, learning_rates=rates, method_learning_rates={})
        if seeds is not None:
            chosen = replace(chosen, seeds=check_seeds(seeds))
        return chosen

    def rates_of(self, method: Method) -> tuple[float, ...]:
        """The learning rates of a method, the middle ones first. The head alone has one, if it is fixed for all."""
        if method.family == "head":
            fixed = self.settings.get("head_learning_rate")
            if self.is_headless or fixed is not None:
                return (float(fixed or 0.0),)
        matches = [prefix for prefix in self.method_learning_rates if method.spec.startswith(prefix)]
        rates = self.method_learning_rates[max(matches, key=len)] if matches else self.learning_rates
        middle = (len(rates) - 1) / 2
        return tuple(sorted(rates, key=lambda rate: abs(sorted(rates).index(rate) - middle)))

    def runs(self) -> list[Run]:
        """All runs, breadth first: a run that is stopped early has every method, then every rate, then every seed."""
        depth = max(len(self.rates_of(method)) for method in self.methods)
        return [
            Run(method, self.rates_of(method)[level], seed)
            for seed in self.seeds
            for level in range(depth)
            for method in self.methods
            if level < len(self.rates_of(method))
        ]

    def prepare(self) -> dict[str, Any]:
        """Fetch what the task names by a word; the settings of `fourierft train` with model and data filled in."""
        settings = dict(self.settings)
        if "model_asset" in self.assets:
            settings["model_name_or_path"] = str(find_asset_model(self.assets["model_asset"]))
        if "data_asset" in self.assets:
            sizes = (self.assets["train_rows"], self.assets["validation_rows"])
            files = prepare_asset_data(self.assets["data_asset"], sizes)
            settings |= {name: str(file) for name, file in files.items()}
        return settings

    def protocol(self, prepared: Mapping[str, Any]) -> str:
        """Digest of what all runs share: settings and the content of data files, wherever they lie.

        Args:
            prepared: from `prepare`.
        """
        data = {name: hash_file(Path(prepared[name])) for name in FILES if Path(prepared.get(name) or "").is_file()}
        shared = {name: value for name, value in self.settings.items() if name not in FILES}
        written = [asdict(self.decoding)] if self.decoding else []
        return digest([shared, self.assets.get("model_asset"), data, *written])


def digest(content: Any) -> str:
    """A short digest of anything JSON can write."""
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()[:16]


def read_task(path: str | Path) -> Task:
    """The task of a YAML file.

    Raises: ConfigError, if the file can't be read, or has an unknown key or a wrong value.
    """
    source = f"task file {path}"
    content = read_yaml(path, source)
    reserved = [name for name in RESERVED if name in content]
    if reserved:
        raise ConfigError(f"{source} sets {reserved[0]}, which the grid sets; remove it")
    grid = {name: content.pop(name) for name in GRID if name in content}
    assets = {name: content.pop(name) for name in ASSET_SETTINGS if name in content}
    settings = convert_settings(content, source)
    if "model_asset" not in assets and "model_name_or_path" not in settings:
        raise ConfigError(f"{source} names no model; give model_asset or model_name_or_path")
    if "data_asset" in assets:
        for name in ("train_rows", "validation_rows"):
            if not isinstance(assets.get(name), int) or assets[name] < 1:
                raise ConfigError(f"{source} has {name}={assets.get(name)}; use a number of rows, at least 1")
    targets = settings.pop("target_modules", None)
    if not isinstance(grid.get("methods"), list) or not grid["methods"]:
        raise ConfigError(f"{source} has methods={grid.get('methods')}; list at least one, such as lora:8")
    other = grid.get("method_learning_rates", {})
    if not isinstance(other, dict):
        raise ConfigError(f"{source} has method_learning_rates={other}; write a mapping of methods to lists of rates")
    layers = grid.get("layers", {})
    if not isinstance(layers, dict) or not all(isinstance(names, list | str) and names for names in layers.values()):
        raise ConfigError(
            f"{source} has layers={layers}; write a mapping of names to lists of layers, or to regular expressions"
        )
    return Task(
        name=Path(path).stem,
        assets=assets,
        settings=settings,
        target_modules=targets,
        layers=layers,
        methods=tuple(parse_method(str(spec), targets, layers) for spec in grid["methods"]),
        learning_rates=check_rates(grid.get("learning_rates"), "learning_rates"),
        method_learning_rates={str(name): check_rates(rates, f"rates of {name}") for name, rates in other.items()},
        seeds=check_seeds(grid.get("seeds", [0])),
        decoding=read_decoding(grid["generate"], source) if "generate" in grid else None,
    )


def read_decoding(content: Any, source: str) -> Decoding:
    """The search of a task file; ConfigError, if it has an unknown field or a wrong value."""
    known = [field.name for field in fields(Decoding)]
    if not isinstance(content, dict) or not set(content) <= set(known):
        raise ConfigError(f"{source} has generate={content}; write a mapping of {', '.join(known)}")
    return Decoding(**content)


def check_rates(values: Any, name: str) -> tuple[float, ...]:
    """Learning rates as numbers; ConfigError, if there is none or one is not positive."""
    try:
        rates = tuple(dict.fromkeys(float(value) for value in values))
    except (TypeError, ValueError):
        rates = ()
    if not rates or not all(0 < rate < float("inf") for rate in rates):
        raise ConfigError(f"{name}={values} is not a list of positive numbers; write, for example, [1e-3, 3e-3]")
    return rates


def check_seeds(values: Any) -> tuple[int, ...]:
    """Seeds as integers; ConfigError, if there is none or one is no whole number from 0 on."""
    if not isinstance(values, (list, tuple)) or not values or any(type(v) is not int or v < 0 for v in values):
        raise ConfigError(f"seeds={values} is not a list of whole numbers of at least 0; write, for example, [0, 1, 2]")
    return tuple(dict.fromkeys(values))
