"""From one scaling to another: the same update in a file, in a layer and in a table has other coefficients.

A file has one scaling for all layers, a layer that of its shape, a table of many adapters none. What dW is made of is
scaling * coefficients, and that stays.
"""

from __future__ import annotations

from torch import Tensor, float32, float64, promote_types

from fourierft.errors import ConfigError


def rescaled(values: Tensor, scaling: float, wanted: float) -> Tensor:
    """Coefficients of one scaling as those of another, for the same update.

    They are rounded once, and never to half precision: a file in bfloat16 would come back as another adapter.

    Args:
        values: coefficients, of any shape.
        scaling: that they are multiplied with where they come from; dimensionless.
        wanted: that they are multiplied with where they go; 1 in tables.

    Returns: the values themselves if both are equal; else in their dtype, or float32 if that is wider.

    Raises: ConfigError, if the scaling wanted is 0, and the other is not.
    """
    if scaling == wanted:
        return values
    if not wanted:
        raise ConfigError(
            f"coefficients with scaling={scaling:g} cannot be converted to scaling=0, "
            "which gives no update; give the adapter another scaling"
        )
    wide = float32 if values.device.type == "mps" else float64
    return (values.to(wide) * (scaling / wanted)).to(promote_types(values.dtype, float32))
