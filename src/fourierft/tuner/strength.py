"""An adapter's scaling in a layer, that of its files, and how strongly it acts, which no file has.

The methods are those of PEFT's LoRA layers. diffusers calls them for `set_adapters(name, 0.5)`,
`cross_attention_kwargs={"scale": 0.5}` and `fuse_lora(0.5)`.
"""

from __future__ import annotations

import math
import warnings

from torch import Tensor

from fourierft.errors import ConfigError
from fourierft.format.scaling import rescaled
from fourierft.tuner.versions import TunerLayer

SCALINGS = ("fourierft_scaling", "own_scaling", "disk_scaling")


class Strength(TunerLayer):
    """What an adapted layer does about the strength of its adapters.

    Attributes, each a dictionary by adapter name:
        fourierft_scaling: the scaling that the coefficients are multiplied with.
        own_scaling: the same at strength 1, as the adapter was made or loaded.
        disk_scaling: that of the adapter's checkpoints.

    And one for all: cast_input_dtype_enabled, which `peft.helpers.disable_input_dtype_casting` looks for and sets.
    """

    cast_input_dtype_enabled = True
    fourierft_scaling: dict[str, float]
    own_scaling: dict[str, float]
    disk_scaling: dict[str, float]

    def from_disk(self, adapter: str, values: Tensor) -> Tensor:
        """Coefficients of a checkpoint as the layer takes them; as they are, if its own scaling is 0."""
        on_disk = self.disk_scaling[adapter]
        return rescaled(values, on_disk, self.own_scaling[adapter] or on_disk)

    def to_disk(self, adapter: str, values: Tensor) -> Tensor:
        """Coefficients of the layer as its checkpoints have them; as they are, if its own scaling is 0."""
        on_disk = self.disk_scaling[adapter]
        return rescaled(values, self.own_scaling[adapter] or on_disk, on_disk)

    def set_scale(self, adapter: str, scale: float) -> None:
        """Let an adapter act `scale` times as strongly as it was trained; nothing where the layer does not have it.

        Raises: ConfigError, if it is not a finite number.
        """
        if adapter not in self.own_scaling:
            return
        if adapter in self.merged_adapters:
            warnings.warn(
                f"the adapter {adapter!r} is already merged, so the new strength has no "
                "effect yet; unmerge it to use the new strength",
                stacklevel=2,
            )
        self.fourierft_scaling[adapter] = _checked(scale) * self.own_scaling[adapter]

    def scale_layer(self, scale: float) -> None:
        """Let the active adapters act `scale` times as strongly as they do.

        Raises: ConfigError, if it is not a finite number.
        """
        for adapter in self._active():
            self.fourierft_scaling[adapter] *= _checked(scale)

    def unscale_layer(self, scale: float | None = None) -> None:
        """Take a factor of `scale_layer` out again, or all that was set if it is None.

        Raises: ConfigError, if it is 0 or not a finite number.
        """
        if scale is not None and _checked(scale) == 0:
            raise ConfigError(
                "a strength of 0 cannot be undone by division; use unscale_layer() without a number, or set_scale"
            )
        for adapter in self._active():
            own = self.own_scaling[adapter]
            self.fourierft_scaling[adapter] = own if scale is None else self.fourierft_scaling[adapter] / scale

    @property
    def added_adapters(self) -> list[str]:
        """The active adapters whose updates a call adds to what the base layer gives: those that are not merged."""
        return [adapter for adapter in self._active() if adapter not in self.merged_adapters]

    def _active(self) -> list[str]:
        return [adapter for adapter in self.active_adapters if adapter in self.own_scaling]


def _checked(scale: float) -> float:
    if isinstance(scale, bool) or not isinstance(scale, (int, float)) or not math.isfinite(scale):
        raise ConfigError(f"scale={scale!r} is not a valid strength; use a finite number, such as 0.5")
    return float(scale)
