"""The size of the images that an adapter was trained on: its record has it, and the model itself takes others."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from fourierft.errors import ConfigError

Size = tuple[int, int]
"""Height and width, in pixels."""


def read_size(record: str | None) -> Size | None:
    """The size that all images had which an adapter was trained on.

    Args:
        record: text of the fourierft.json that its training left; None if there is none.

    Returns: None of a training on something else, or on images of several sizes.
    """
    processor = json.loads(record).get("processor") if record else None
    if not isinstance(processor, dict):
        return None
    size = processor.get("crop_size") if processor.get("do_center_crop") else processor.get("size")
    if not isinstance(size, dict) or not {"height", "width"} <= size.keys():
        return None
    return int(size["height"]), int(size["width"])


def check_images(sizes: Mapping[str, Size], model: nn.Module, inputs: Sequence[Any], named: Mapping[str, Any]) -> None:
    """See whether the images of a call are as large as those that its adapters were trained on.

    Args:
        sizes: by adapter; of those that have one.
        model: that is called.
        inputs, named: of the call.

    Raises: ConfigError, if they are not.
    """
    first = inputs[0] if inputs and getattr(model, "main_input_name", None) == "pixel_values" else None
    pixels = named.get("pixel_values", first)
    if not isinstance(pixels, Tensor) or pixels.dim() < 3:
        return
    height, width = pixels.shape[-2:]
    for name, size in sizes.items():
        if size != (height, width):
            raise ConfigError(
                f"the adapter {name!r} was trained on images of {size[0]} x {size[1]} pixels, "
                f"but these have {height} x {width}; prepare them with "
                f"fourierft.training.evaluation.load_processor(json.loads(store.get({name!r}).record))"
            )
