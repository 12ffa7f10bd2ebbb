"""How an adapter's entries are drawn: what two adapters must share for their coefficients to run in one transform.

What was drawn is kept, so that layers of one shape share one basis, and its key says how to draw it again.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

from fourierft.errors import ConfigError
from fourierft.spectral.basis import SpectralBasis
from fourierft.spectral.entries import bandpass_entries, uniform_entries


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
        return drawn_basis(self, out_features, in_features, n_frequency)


@functools.lru_cache(maxsize=4096)
def drawn_basis(draw: Draw, out_features: int, in_features: int, n_frequency: int) -> SpectralBasis:
    """The basis of a draw, as `Draw.basis`."""
    band = draw.band or ()
    if draw.band is None:
        entries = uniform_entries(out_features, in_features, n_frequency, draw.seed)
    else:
        entries = bandpass_entries(out_features, in_features, n_frequency, draw.seed, *draw.band)
    basis = SpectralBasis(out_features, in_features, entries)
    if "@" not in basis.key:
        basis.key = f"{basis.key}@{','.join(map(repr, (draw.seed, *band)))}"
    return basis


def uniform_basis(out_features: int, in_features: int, n_frequency: int, seed: int) -> SpectralBasis:
    """The basis of `uniform_entries`, drawn once in a process.

    Args (out_features, in_features, n_frequency, seed), Raises: as of `uniform_entries`.
    """
    return drawn_basis(Draw(seed), out_features, in_features, n_frequency)


def bandpass_basis(
    out_features: int, in_features: int, n_frequency: int, seed: int, center: float, width: float
) -> SpectralBasis:
    """The basis of `bandpass_entries`, drawn once in a process.

    Args, Raises: as of `bandpass_entries`.
    """
    return drawn_basis(Draw(seed, (center, width)), out_features, in_features, n_frequency)


def basis_of(key: str) -> SpectralBasis:
    """The basis of a key, which is all that a graph holds of it; one that was drawn is drawn again in a new process.

    Raises: ConfigError, if it was made of entries that this process has not seen, or drawn by another rule.
    """
    content, _, drawn = key.partition("@")
    basis = SpectralBasis.find(content)
    if basis is None and drawn:
        shape, n_frequency, _ = content.split(":")
        out_features, in_features = map(int, shape.split("x"))
        seed, *band = drawn.split(",")
        center_and_width = (float(band[0]), float(band[1])) if band else None
        basis = Draw(int(seed), center_and_width).basis(out_features, in_features, int(n_frequency))
    if basis is None or not basis.key.startswith(content):
        raise ConfigError(
            f"a graph needs the entries {content}, which this process does not have; make a SpectralBasis of the same "
            "entries, and keep it, before the graph runs"
        )
    return basis
