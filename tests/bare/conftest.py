"""Tests of an installation without any extra: collected where none is, in the environment of `make test-bare`."""

from __future__ import annotations

from importlib.util import find_spec

collect_ignore_glob = ["test_*.py"] if find_spec("datasets") else []
