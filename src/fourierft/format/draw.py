"""How an adapter's entries are drawn: what two adapters must share for their coefficients to run in one transform."""

from __future__ import annotations

from typing import Any, NamedTuple

from fourierft.errors import ConfigError
from fourierft.spectral import SpectralBasis, bandpass_basis, uniform_basis


class Draw(NamedTuple):
    """A random draw of entries. Of one draw and shape, fewer entries are a prefix of more.

    Fields:
        seed: `random_loc_seed` of the config.
        band: (center, width) of paper Eq. 5, or None for the uniform draw of stock PEFT.
    """

    seed: int
    band: tuple[float, float] | None = None

    @classmethod
    def of(cls, config: Any) -> Draw:
        """The draw of a config, ours or stock PEFT's.

        Raises: ConfigError, if it has no seed.
        """
        if config.random_loc_seed is None:
            raise ConfigError("random_loc_seed=None would draw other entries each time; use an integer, such as 777")
        center, width = getattr(config, "center", None), getattr(config, "width", None)
        if center is not None and width is not None:
            return cls(config.random_loc_seed, (center, width))
        return cls(config.random_loc_seed)

    def basis(self, out_features: int, in_features: int, n_frequency: int) -> SpectralBasis:
        """The first n_frequency entries for a shape, made once in a process.

        Raises: ShapeError, if the weight has fewer entries.
        """
        if self.band is None:
            return uniform_basis(out_features, in_features, n_frequency, self.seed)
        return bandpass_basis(out_features, in_features, n_frequency, self.seed, *self.band)
