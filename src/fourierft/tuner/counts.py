"""n of each layer, as a config says it."""

from __future__ import annotations

import re

from peft import FourierFTConfig as StockConfig

from fourierft.tuner.config import FourierFTConfig


def layer_count(config: StockConfig, path: str) -> int:
    """n of the module or parameter at a path: by the first pattern that means it, or by its whole name."""
    if isinstance(config, FourierFTConfig) and config.layer_counts:
        return config.layer_counts[path]
    patterns = config.n_frequency_pattern or {}
    matching = (count for pattern, count in patterns.items() if means(pattern, path))
    return next(matching, patterns.get(path, config.n_frequency))


def means(pattern: str, path: str) -> bool:
    """Whether a key of `n_frequency_pattern` means a path, as stock PEFT reads it: in "a|b", b is a whole path."""
    return re.match(rf".*\.{pattern}$", path) is not None


def lacks_parentheses(pattern: str, path: str) -> bool:
    """Whether such a key would mean a path if its alternatives stood in parentheses, and so does not."""
    return "|" in pattern and not means(pattern, path) and means(f"({pattern})", path)
