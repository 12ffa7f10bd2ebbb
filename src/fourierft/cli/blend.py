"""Make a new adapter whose dW is the weighted sum of other adapters' dW, exactly.

dW is linear in the coefficients, so the sum is no approximation: the model's weights move by exactly the sum of the
adapters' moves. But nothing guarantees that the model then does what all of them do. Check its scores.

  fourierft blend fleet.db reviews:0.7 tweets:0.3 --as both
  fourierft blend fleet.db reviews:0.5 tweets:0.5 --as average
  fourierft blend fleet.db formal:1 plain:-1 --as formality      the difference of the two
  fourierft blend fleet.db reviews:1 formality:0.5 --as formal-reviews --head reviews

All adapters must have the same random_loc_seed. A smaller n is padded with zeros. A head (modules_to_save) is not
blended: it must be the same in all adapters, or you choose one with --head.
"""

from __future__ import annotations

import argparse

from fourierft.errors import ConfigError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("store", metavar="STORE", help="file of the store, or postgresql://user@host/database")
    parser.add_argument("parts", metavar="NAME:WEIGHT", nargs="+", help="adapter and its weight, such as reviews:0.7")
    parser.add_argument("--as", dest="name", metavar="NAME", required=True, help="name of the new adapter")
    parser.add_argument("--head", metavar="NAME", help="adapter that gives the new one its head")
    parser.add_argument(
        "--dtype", default="float32", help="dtype in the store: float32, bfloat16 or int8 (default: %(default)s)"
    )
    parser.add_argument("--new", action="store_true", help="refuse a name that exists")


def run(arguments: argparse.Namespace) -> int:
    from fourierft.store import AdapterStore, blend

    weights = read_weights(arguments.parts)
    with AdapterStore(arguments.store, create=False) as store:
        version = blend(store, weights, arguments.name, arguments.head, arguments.dtype, not arguments.new)
    terms = " + ".join(f"{weight:g} * {name!r}" for name, weight in weights.items())
    print(f"added {arguments.name!r} version {version}: dW = {terms}")
    return 0


def read_weights(parts: list[str]) -> dict[str, float]:
    """Name -> weight, from texts like a:0.7; those of one name add up.

    Raises: ConfigError, if a text is not of this kind.
    """
    weights: dict[str, float] = {}
    for part in parts:
        name, _, weight = part.rpartition(":")
        try:
            weights[name] = weights.get(name, 0.0) + float(weight)
        except ValueError:
            raise ConfigError(
                f"{part!r} is not an adapter with a weight; write NAME:WEIGHT, such as reviews:0.7"
            ) from None
    return weights
