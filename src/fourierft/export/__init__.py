"""Adapters for other programs: each format is one file here, named in `registry.py`, and checked by running its result.

A format `NAME` is the module `fourierft/export/NAME.py`. It has

- a docstring: what `fourierft export NAME --help` shows;
- `TAKES_MANY`: whether it takes several adapters;
- `add_arguments(parser)`: declares the arguments that no other format has;
- `export(arguments) -> Exported`: writes the result beside its place, runs it, and puts it there if it is right.

What is heavy is imported inside `export`.
"""
