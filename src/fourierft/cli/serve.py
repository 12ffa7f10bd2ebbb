"""Serve the adapters of a store with vLLM, through OpenAI's API: a request's `model` names the adapter.

MODEL is the hub id or folder of the base model that the adapters were trained on. Every request in a batch may use a
different adapter. A new version in the store answers the next request. The server needs its own environment with vLLM:

  python -m venv serving && serving/bin/pip install 'vllm>=0.32,<0.34' 'fourierft[serve]'

  fourierft serve MODEL --store fleet.db
  fourierft serve MODEL --store fleet.db --tenants tenants.toml --host 0.0.0.0
  fourierft serve MODEL --store postgresql://user@host/fleet --slots 4096 --adapter_dtype bfloat16
  fourierft serve MODEL --store fleet.db --vllm="--tensor-parallel-size 2 --max-model-len 4096"

  curl http://127.0.0.1:8000/v1/chat/completions -H 'Content-Type: application/json' \\
      -d '{"model": "customer-1", "messages": [{"role": "user", "content": "Hello"}]}'

To ask several adapters one prompt, print their answers side by side, and stop:

  fourierft serve MODEL --store fleet.db --ask Hello --of customer-1 customer-2 __base__

Without --tenants the server accepts any client, but only from this machine.
"""

from __future__ import annotations

import argparse
import sys
from contextlib import nullcontext

from fourierft.cli.parser import add_base
from fourierft.errors import ConfigError
from fourierft.serving.limits import Limits

_LIMITS = {  # field of `Limits`: unit of its option, and what it bounds
    "body": ("MIB", "size of a completion request"),
    "bodies_of_tenant": ("MIB", "size of all requests of a tenant that are being read or waiting"),
    "bodies": ("MIB", "size of all requests that are being read or waiting"),
    "adapter": ("MIB", "size of an uploaded adapter, packed and unpacked"),
    "uploads": ("N", "adapters uploaded at the same time"),
    "pause": ("SECONDS", "longest pause between parts of a request"),
    "body_time": ("SECONDS", "longest time to receive a request"),
    "adapter_time": ("SECONDS", "longest time to receive an adapter"),
    "turn": ("SECONDS", "longest wait of a request for its turn"),
    "send": ("SECONDS", "longest wait for a client to take the next part of its answer"),
}
_MOST = 1_000_000_000
_SCALE = {"MIB": 1 << 20, "N": 1, "SECONDS": 1}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("model", metavar="MODEL", nargs="?", help="hub id or folder of the base model")
    add_base(parser, "the base model, given as a flag")
    add("--store", required=True, metavar="STORE", help="file of the store, or postgresql://user@host/database")
    add("--host", default="127.0.0.1", metavar="HOST", help="address to listen on (default: %(default)s)")
    add("--port", type=int, default=8000, metavar="N", help="port to listen on (default: %(default)s)")
    add(
        "--slots",
        type=int,
        default=256,
        metavar="N",
        help="adapters in memory, and at most in one batch (default: %(default)s)",
    )
    add(
        "--adapter_dtype",
        default="float32",
        metavar="DTYPE",
        help="dtype of adapters in memory: float32, bfloat16 or int8 (default: float32)",
    )
    add("--tenants", metavar="FILE", help="TOML file of API keys, and of the adapters and limits of their holders")
    add(
        "--requests",
        type=int,
        default=1024,
        metavar="N",
        help="requests that run at once, without --tenants (default: %(default)s)",
    )
    add(
        "--waiting",
        type=int,
        default=0,
        metavar="N",
        help="requests that may wait beyond these, without --tenants; the tenants file "
        "sets its own (default: %(default)s)",
    )
    add(
        "--allow_other_base",
        action="store_true",
        help="accept a base model that the store was not made for (default: refuse)",
    )
    add("--ask", metavar="TEXT", help="send this prompt, print the answers, and stop")
    add(
        "--of",
        nargs="+",
        metavar="NAME",
        help="with --ask: names of adapters, __base__ for the base (default: the base)",
    )
    add(
        "--vllm",
        default="",
        metavar="OPTIONS",
        help="more options for `vllm serve`, in quotes: --vllm='--x 1 --y'",
    )
    group = parser.add_argument_group("limits for clients")
    for name, (unit, what) in _LIMITS.items():
        scale, default = _SCALE[unit], getattr(Limits, name)
        kind = float if unit == "SECONDS" else int
        said = f"{what} (default: {default / scale:g})"
        group.add_argument(f"--limit_{name}", type=kind, default=kind(default / scale), metavar=unit, help=said)


def run(arguments: argparse.Namespace) -> int:
    """Check, say what will be served, and become the server; or ask one, and stop it."""
    import shlex

    from fourierft.serving.launch import ServeSettings, check, start
    from fourierft.serving.trial import alone, find_asked, side_by_side, try_out

    base = arguments.model_name_or_path
    if (arguments.model is None) == (base is None):
        raise ConfigError("give the base model once, as MODEL or as --model_name_or_path MODEL")
    names = ("store", "host", "port", "slots", "adapter_dtype", "tenants", "requests", "waiting", "allow_other_base")
    settings = ServeSettings(
        model=arguments.model or base,
        **{name: getattr(arguments, name) for name in names},
        limits=_limits(arguments),
        options=tuple(shlex.split(arguments.vllm)),
    )
    asks = arguments.ask is not None
    if arguments.of and not asks:
        raise ConfigError("--of names whom --ask asks; give --ask TEXT, or leave it out")
    with alone(settings) if asks else nullcontext(settings) as settings:
        told = check(settings)
        asked = find_asked(settings, arguments.of or []) if asks else []
        print(f"serving {told}", file=sys.stderr, flush=True)
        if not asks:
            start(settings)
            return 0
        print(side_by_side(try_out(settings, asked, arguments.ask)))
    return 0


def _limits(arguments: argparse.Namespace) -> Limits:
    """Those of the options, which must be numbers above 0."""
    found = {}
    for name, (unit, _) in _LIMITS.items():
        value = getattr(arguments, f"limit_{name}")
        if not 0 < value <= _MOST:
            told = "a whole number" if unit == "N" else f"a number of {unit}"
            raise ConfigError(f"--limit_{name} {value!s:.20} is out of range; give {told} above 0, at most {_MOST:,}")
        found[name] = value * _SCALE[unit]
    return Limits(**found)
