"""Which adapter each row of a layer's input has, where the rows of a batch have different ones.

Rows of a batch come to a layer as they are, or several for each: the beams of a search, returned sequences, tokens or
windows of one row under one another. What follows one another belongs together then. Where that cannot be known, as
for the tokens that an expert gets, nothing is guessed: it is an error that names the layer.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

from torch import Tensor, nn

from fourierft.errors import ConfigError
from fourierft.rows.turned import may_turn

BASE = "__base__"
_TEXTS = ("input_ids", "inputs_embeds", "decoder_input_ids", "decoder_inputs_embeds")
_GENERATION = {"generation_config", "num_beams", "num_return_sequences"}
_INPUTS = (*_TEXTS, "inputs", "pixel_values", "input_values", "input_features")


class Batch(NamedTuple):
    """What a call of a model gets.

    Fields:
        rows: of its main input.
        lengths: how many tokens a row may have, of several choices under one another too; None if it is no text.
        is_even: whether all inputs have these rows. Images of several rows under one another have others.
        is_turned: whether the model may hand tokens on before rows, and they may be as many.
    """

    rows: int
    lengths: frozenset[int] | None
    is_even: bool
    is_turned: bool = False


def read_batch(model: nn.Module, inputs: Sequence[Any], named: Mapping[str, Any]) -> Batch | None:
    """What a call gets, or None if it has no tensor."""
    main = getattr(model, "main_input_name", "input_ids")
    found = {str(index): value for index, value in enumerate(inputs)} | dict(named)
    tensors = {name: value for name, value in found.items() if isinstance(value, Tensor) and value.dim() > 0}
    wide = [name for name, value in tensors.items() if value.dim() > 1]
    key = next((name for name in (*_TEXTS, main, *_INPUTS, *wide, *tensors) if name in tensors), None)
    if key is None:
        return None
    rows = len(tensors[key])
    is_text = key in _TEXTS or not tensors[key].is_floating_point()
    shapes = [tensors[name].shape[1:] for name in wide if len(tensors[name]) == rows]
    lengths = frozenset(length for shape in shapes for length in (shape[0], math.prod(shape)))
    is_even = all(len(tensors[name]) in (1, rows) for name in wide)
    is_turned = (not is_text or rows in lengths) and may_turn(model)
    return Batch(rows, lengths if is_text else None, is_even, is_turned)


class Expansion(NamedTuple):
    """How many rows `generate` gives to a model for each that it was given, as far as settings say so.

    Fields:
        rows: the beams of a search, or returned sequences.
        is_guided: whether all of these may come twice, for guidance: with the text, then without.
    """

    rows: int
    is_guided: bool

    def is_doubled(self, rows: int, count: int) -> bool:
        """Whether so many rows are those of `count` given ones, twice under one another."""
        return self.is_guided and rows == 2 * self.rows * count


def read_expansion(model: nn.Module, named: Mapping[str, Any]) -> Expansion:
    """What a call, or its generation_config, or that of the model says of it."""
    config = named.get("generation_config") or getattr(model, "generation_config", None)

    def setting(name: str) -> Any:
        value = named.get(name)
        return getattr(config, name, None) if value is None else value

    rows = max(setting("num_beams") or 1, setting("num_return_sequences") or 1)
    return Expansion(rows, setting("guidance_scale") not in (None, 0, 1))


def check_rows(layer: str, shape: Sequence[int], count: int, batch: Batch | None) -> None:
    """Raise ConfigError if it is not known which rows of a layer's input belong to which of `count` rows of a batch.

    Args:
        layer: its path.
        shape: of the input without its features: [rows, ...].
        count: rows that have an adapter each.
        batch: of the model's call, whose rows may be several for each.
    """
    rows, *inner = shape or (0,)  # one vector alone belongs to no row
    known = batch or Batch(count, frozenset(), is_even=False)
    is_chosen = "experts" in layer and "experts" in layer.split(".")  # tokens that a router gave to one expert
    is_square = known.is_turned and inner[:1] == [rows]
    if rows in (count, known.rows) and rows % max(count, 1) == 0 and not is_chosen and not is_square:
        return
    tokens, rest = divmod(math.prod(shape), max(known.rows, 1))
    is_whole = rest == 0 and rows % max(known.rows, 1) == 0 and known.rows % max(count, 1) == 0
    is_long_enough = known.lengths is None or tokens in known.lengths
    if is_whole and is_long_enough and known.is_even and not is_chosen and known.rows not in inner:
        return
    raise ConfigError(
        f"{layer or 'a layer'} got an input of {' x '.join(map(str, shape)) or 1} vectors "
        f"for {count} rows with different adapters, and it is unknown which vectors "
        "belong to which row; leave the layer out of these adapters with exclude_modules, "
        "or run the rows of each adapter in a separate call"
    )


def checked_names(names: Sequence[str], adapters: Collection[str], is_training: bool) -> list[str]:
    """The `adapter_names` of a call of a model that has these adapters.

    Raises: ConfigError, if one is unknown, there is one text instead of a list, or the model is in training mode.
    """
    if isinstance(names, str):
        raise ConfigError(
            f"adapter_names={names!r} is not a list with one name for each row; use one, such as [{names!r}, {BASE!r}]"
        )
    names = [str(name) for name in names]
    if is_training:
        raise ConfigError("adapter_names work only in evaluation mode; call model.eval() first")
    unknown = sorted(set(names) - set(adapters) - {BASE})
    if unknown:
        raise ConfigError(
            f"adapter_names has {', '.join(map(repr, unknown))}, but the model's adapters are "
            f"{sorted(adapters)}; use one of these, or {BASE!r} for rows without an adapter"
        )
    return names


@dataclass
class _Call:
    """A call with a name for each row, of `forward` or `generate`.

    Attributes:
        names: of each row.
        batch: what the model got last in it; None if that is not known.
        is_open: whether the model may get several rows for each, as `generate` gives them to it.
        expansion: how many these are.
    """

    names: list[str]
    batch: Batch | None
    is_open: bool
    expansion: Expansion

    def __post_init__(self) -> None:
        self.is_one = len(set(self.names)) == 1  # adapter for all


class RowNames:
    """The adapter of each row of a batch: what the layers of one model share while a call with `adapter_names` runs.

    It is known in the thread of the call alone. A copy of it is empty.
    """

    def __init__(self) -> None:
        self._calls: dict[int, _Call] = {}  # by thread

    def __reduce__(self) -> tuple[type[RowNames], tuple[()]]:
        return RowNames, ()

    @contextmanager
    def handed(
        self, names: Sequence[str], model: nn.Module, inputs: Sequence[Any], named: Mapping[str, Any]
    ) -> Iterator[None]:
        """Inside, and in this thread, rows have these names.

        Args:
            names: one a row.
            model: that is called.
            inputs, named: what its `forward` or `generate` is called with.

        Raises: ConfigError, if the model gets other rows.
        """
        batch = read_batch(model, inputs, named)
        is_open = batch is not None or not _GENERATION.isdisjoint(named)
        call = _Call(list(names), batch, is_open, read_expansion(model, named))
        if batch is not None and batch.rows != len(names):
            raise _miscounted(call.names, batch.rows, getattr(model, "_is_replica", False))
        thread = threading.get_ident()
        before = self._calls.get(thread)
        self._calls[thread] = call
        hook = model.register_forward_pre_hook(self._enter, with_kwargs=True)
        try:
            yield
        finally:
            hook.remove()
            if before is None:
                del self._calls[thread]
            else:
                self._calls[thread] = before

    @property
    def are_handed(self) -> bool:
        """Whether a call with names runs in this thread."""
        return bool(self._calls) and threading.get_ident() in self._calls

    def of(self, layer: str, shape: Sequence[int]) -> list[str] | None:
        """The name of each of so many parts of a layer's input, which follow one another and are equally long.

        Args:
            layer: its path.
            shape: of the input without its features: [rows, ...].

        Returns: as many names as there are rows, or fewer; None if no call with names runs.

        Raises: ConfigError, if the parts cannot be told.
        """
        if not self.are_handed:
            return None
        call = self._calls[threading.get_ident()]
        names = call.names
        rows = shape[0] if shape else 0
        if call.is_one:
            return names if rows == len(names) else names[:1]
        if call.expansion.is_doubled(rows, len(names)):
            return names * 2
        check_rows(layer, shape, len(names), call.batch)
        return names

    def each(self, layer: str, shape: Sequence[int]) -> list[str] | None:
        """As `of`, but always a name for each row; if they share one, for each row of the model's call."""
        if not self.are_handed:
            return None
        batch = self._calls[threading.get_ident()].batch
        if shape[0] == 1 and batch is not None:
            shape = [batch.rows, *shape[1:]]
        names = self.of(layer, shape) or []
        return [name for name in names for _ in range(shape[0] // len(names))]

    def _enter(self, model: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any] | None = None) -> None:
        call = self._calls.get(threading.get_ident())
        if call is None or named is None:  # the hook of another thread, which is about to be removed
            return
        call.batch = read_batch(model, inputs, named)
        if call.batch is None:
            return
        several, rest = divmod(call.batch.rows, max(len(call.names), 1))
        if rest or not (several == 1 or call.is_open or call.batch.rows == len(call.names)):
            raise _miscounted(call.names, call.batch.rows)


def _miscounted(names: Sequence[str], rows: int, is_replica: bool = False) -> ConfigError:
    if is_replica:
        return ConfigError(
            f"a replica got {len(names)} adapter_names for {rows} inputs, because torch.nn.DataParallel "
            "splits only the inputs; run batches with adapter_names on one device, "
            "or use DataParallel with one adapter for all rows"
        )
    return ConfigError(
        f"got {len(names)} adapter_names for {rows} inputs; give one name for each input, {BASE!r} for the base alone"
    )
