"""Task families: what a row is, what is learned of it, and how that is scored, a file each.

`fourierft.training.families.register(Mine())` adds one; see `family.Family`.
"""

from fourierft.training.families.family import Family
from fourierft.training.families.registry import register

__all__ = ["Family", "register"]
