"""The record that stands in adapter_config.json under "fourierft": what stock PEFT, which ignores it, has no field for.

Policy. `format` counts: a reader reads records up to its own, and stops at a newer one. A record without it is of
format 1. What a reader has to know of a record, so as not to read the adapter wrong, is named in its list `required`;
a reader stops at a name that it does not know, and passes over any other key that it does not know. In format 1, which
has no such list, every key is required.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from fourierft.errors import CheckpointError
from fourierft.format.json_file import is_number, is_text, shown
from fourierft.format.shapes import Shape, compact, find_shape
from fourierft.spectral.entries import LEAST_WIDTH, MOST_CENTER, MOST_WIDTH

FORMAT = 2
_FIRST = {"scaling", "rule", "entries", "center", "width", "task_type"}  # keys of format 1
_KNOWN = _FIRST | {"format", "required", "shapes", "layers", "base", "parameters", "reshaped", "reads_weights"}
_REQUIRED = {"entries", "center", "width", "parameters", "reshaped"}
_MOST_SHAPES, _LARGEST_SIDE = 100_000, 1 << 31
_MOST_TEXT = 200


@dataclass(frozen=True)
class Record:
    """What a record says.

    Attributes:
        is_auto: whether the scaling of the config came from the rule, so that training goes on with it.
        rule: of that scaling, 1, 2, ...; None if the record is silent on it, as before there was a second one.
        band: (center, width) of band-pass entries; None if they are uniform.
        has_parameters: whether some of its layers are parameters, which may be stacks of weights: [weights, n].
        has_reshaped: whether some of its layers are convolutions or embeddings, which stock PEFT does not adapt.
        reads_weights: whether some of its layers are read by the model instead of called, as only this package knows.
        task_type: PEFT's task, where the config's own field has a sentence for stock PEFT in its place.
        shapes: ends of layer names -> (out_features, in_features) of the layers that the adapter was made for; empty if
            the record is silent on them.
        layers: how many they are; None if the record is silent on it.
        digest, signs: of the base it was made for, as `BaseIdentity` has them.
    """

    is_auto: bool = False
    rule: int | None = None
    band: tuple[float, float] | None = None
    has_parameters: bool = False
    has_reshaped: bool = False
    reads_weights: bool = False
    task_type: str | None = None
    shapes: Mapping[str, Shape] = field(default_factory=dict)
    layers: int | None = None
    digest: str | None = None
    signs: str | None = None

    @classmethod
    def read(cls, content: object, where: str | Path) -> Record:
        """The record of a config.

        Args:
            content: of its field `fourierft`; None if it has none.
            where: the config is from, for the messages.

        Raises: CheckpointError, if it is of a newer format, requires what is not known here, or makes no sense.
        """
        if content is None:
            return cls()
        if not isinstance(content, Mapping):
            raise CheckpointError(f"{where} has fourierft={shown(content)} instead of an object")
        _check_format(content, where)
        shapes, layers = _read_shapes(content, where)
        base = _read_base(content.get("base"), where)
        band = _read_band(content, where)
        task = content.get("task_type")
        if task is not None and not _is_short(task):
            raise CheckpointError(f"{where} has fourierft.task_type={shown(task)}; it must be a text")
        scaling = content.get("scaling")
        if scaling not in (None, "auto"):
            raise CheckpointError(f"{where} has fourierft.scaling={shown(scaling)}; it must be 'auto', or left out")
        rule = content.get("rule")
        if rule is not None and (type(rule) is not int or rule < 1):
            raise CheckpointError(f"{where} has fourierft.rule={shown(rule)}; it must be a positive integer")
        flags = {name: content.get(name, False) for name in ("parameters", "reshaped", "reads_weights")}
        for name, flag in flags.items():
            if not isinstance(flag, bool):
                raise CheckpointError(f"{where} has fourierft.{name}={shown(flag)}; it must be true or false")
        return cls(
            scaling == "auto",
            rule,
            band,
            flags["parameters"],
            flags["reshaped"],
            flags["reads_weights"],
            task,
            shapes,
            layers,
            base.get("digest"),
            base.get("signs"),
        )

    @property
    def content(self) -> dict[str, Any]:
        """What stands in the config; empty if there is nothing to say."""
        said: dict[str, Any] = {}
        if self.is_auto:
            said["scaling"] = "auto"
            if self.rule is not None:
                said["rule"] = self.rule
        if self.band is not None:
            said |= {"entries": "bandpass", "center": self.band[0], "width": self.band[1]}
        if self.has_parameters:
            said["parameters"] = True
        if self.has_reshaped:
            said["reshaped"] = True
        if self.reads_weights:
            said["reads_weights"] = True
        if said.keys() & _REQUIRED:
            said["required"] = sorted(said.keys() & _REQUIRED)
        if self.is_beyond_stock:
            said["task_type"] = self.task_type
        if self.shapes:
            said |= {"shapes": {end: list(shape) for end, shape in sorted(self.shapes.items())}, "layers": self.layers}
        base = {key: value for key, value in (("digest", self.digest), ("signs", self.signs)) if value}
        if base:
            said["base"] = base
        return {"format": FORMAT, **said} if said else {}

    @property
    def is_beyond_stock(self) -> bool:
        """Whether stock PEFT must not read the adapter, and finds a sentence in place of the task."""
        return self.band is not None or self.has_parameters or self.has_reshaped or self.reads_weights

    def shape_of(self, layer: str) -> Shape | None:
        """(out_features, in_features) that a layer had; None if the record is silent on it."""
        return find_shape(self.shapes, layer)


NOTHING: dict[str, Any] = {"shapes": {}, "layers": None, "digest": None, "signs": None}


def made_for(shapes: Mapping[str, Shape]) -> dict[str, Any]:
    """The fields of a `Record` of an adapter of these layers, by name; NOTHING has those of one for any model."""
    return {"shapes": compact(shapes), "layers": len(shapes) or None}


def with_record(content: Mapping[str, Any], where: str | Path, **said: Any) -> dict[str, Any]:
    """A config whose record says something else.

    Args:
        content: of an adapter_config.json.
        where: it comes from, for the messages.
        said: fields of `Record`, by name.

    Raises: CheckpointError, if the record that it has cannot be read.
    """
    record = replace(Record.read(content.get("fourierft"), where), **said).content
    rest = {key: value for key, value in content.items() if key != "fourierft"}
    return {**rest, "fourierft": record} if record else rest


def _check_format(content: Mapping[str, Any], where: str | Path) -> None:
    number, required = content.get("format", 1), content.get("required", [])
    if type(number) is not int or number < 1:
        raise CheckpointError(f"{where} has fourierft.format={shown(number)}; it must be a positive integer")
    if number > FORMAT:
        raise CheckpointError(
            f"{where} has a record of format {number}, and this version of fourierft reads up to {FORMAT}; upgrade "
            "fourierft to the version that wrote the adapter"
        )
    if not isinstance(required, list) or not all(is_text(key) for key in required):
        raise CheckpointError(f"{where} has fourierft.required={shown(required)}; it must be a list of names")
    known, asked = (_FIRST, list(content)) if number == 1 else (_KNOWN, required)
    unknown = sorted(set(asked) - known)
    if unknown:
        raise CheckpointError(
            f"{where} needs the settings fourierft={shown(unknown)}, which this version "
            "does not know; upgrade fourierft to the version that wrote the adapter"
        )


def _read_band(content: Mapping[str, Any], where: str | Path) -> tuple[float, float] | None:
    entries = content.get("entries", "uniform")
    if entries == "uniform":
        return None
    if entries != "bandpass":
        raise CheckpointError(
            f"{where} has fourierft.entries={shown(entries)}, which this version does not know; upgrade fourierft"
        )
    for name, least, most in (("center", 0.0, MOST_CENTER), ("width", LEAST_WIDTH, MOST_WIDTH)):
        value = content.get(name)
        if not is_number(value, least, most):
            raise CheckpointError(
                f"{where} has band-pass entries with {name}={shown(value)}; it must be a number from {least:g} to "
                f"{most:g}"
            )
    return float(content["center"]), float(content["width"])


def _read_shapes(content: Mapping[str, Any], where: str | Path) -> tuple[dict[str, Shape], int | None]:
    shapes, layers = content.get("shapes", {}), content.get("layers")
    if not isinstance(shapes, Mapping) or len(shapes) > _MOST_SHAPES:
        raise CheckpointError(f"{where} has fourierft.shapes={shown(shapes)}; it must be an object of shapes")
    for end, shape in shapes.items():
        if not (isinstance(shape, list) and len(shape) == 2 and all(_is_side(side) for side in shape)):
            raise CheckpointError(
                f"{where} has the shape {shown(shape)} for layers that end in {shown(end)}; it must be "
                "[out_features, in_features]"
            )
    if layers is not None and (type(layers) is not int or layers < 1):
        raise CheckpointError(f"{where} has fourierft.layers={shown(layers)}; it must be a positive integer")
    return {end: (shape[0], shape[1]) for end, shape in shapes.items()}, layers


def _read_base(base: object, where: str | Path) -> dict[str, str]:
    if base is None:
        return {}
    if not isinstance(base, Mapping) or not all(_is_short(base.get(key, "")) for key in ("digest", "signs")):
        raise CheckpointError(f"{where} has fourierft.base={shown(base)}; it must be an object of texts")
    return {key: base[key] for key in ("digest", "signs") if base.get(key)}


def _is_side(value: object) -> bool:
    return type(value) is int and 1 <= value < _LARGEST_SIDE


def _is_short(value: object) -> bool:
    return is_text(value, _MOST_TEXT)
