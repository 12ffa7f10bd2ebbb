"""The one guard of other packages: what each extra brings, and one sentence where it, or its release, is missing."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata

from fourierft.errors import ConfigError, MissingExtraError

Release = tuple[int, int]
HOSTS: dict[str, tuple[Release, Release]] = {  # package -> first release that adapters run in, first that is too new
    "peft": ((0, 18), (0, 22)),
    "transformers": ((5, 6), (6, 0)),
}

EXTRAS = {  # extra of pyproject.toml -> name to import -> name to install
    "train": {
        "datasets": "datasets",
        "sklearn": "scikit-learn",
        "scipy": "scipy",
        "matplotlib": "matplotlib",
        "yaml": "pyyaml",
        "PIL": "pillow",
    },
    "compare": {"gguf": "gguf", "onnx": "onnx"},
    "export": {"onnx": "onnx", "onnxscript": "onnxscript", "onnxruntime": "onnxruntime"},
    "chat": {"trl": "trl"},
    "quantized": {"bitsandbytes": "bitsandbytes", "torchao": "torchao"},
    "generation": {"sacrebleu": "sacrebleu", "nltk": "nltk", "rouge_score": "rouge-score"},
    "diffusion": {"diffusers": "diffusers", "torchmetrics": "torchmetrics", "PIL": "pillow"},
    "postgres": {"sqlalchemy": "sqlalchemy", "psycopg": "psycopg"},
    "serve": {
        "starlette": "starlette",
        "pydantic": "pydantic",
        "prometheus_client": "prometheus-client",
        "openai": "openai",
    },
}


@contextmanager
def needs(extra: str, purpose: str) -> Iterator[None]:
    """Around imports of what an extra brings: `with needs("train", "reading data"): import datasets`.

    Args:
        extra: one of `EXTRAS`.
        purpose: begins the sentence, such as "reading data".

    Raises: MissingExtraError, naming package and extra, if an import fails. A package that is there but lacks another,
        or has not the name that is wanted, says so too.
    """
    try:
        yield
    except MissingExtraError:
        raise
    except ImportError as error:
        package = EXTRAS[extra].get(error.name or "")
        what = f"needs {package}" if package else f"needs packages that cannot be imported here ({error})"
        raise MissingExtraError(f"{purpose} {what}; pip install 'fourierft[{extra}]'") from error


def release(package: str) -> Release:
    """The first two numbers of an installed package's version."""
    major, minor = re.findall(r"[0-9]+", metadata.version(package))[:2]
    return int(major), int(minor)


def check_hosts() -> None:
    """Raise ConfigError if PEFT or transformers is older or newer than what adapters run in."""
    for package, (first, end) in HOSTS.items():
        if not first <= release(package) < end:
            asked = f"{package}>={first[0]}.{first[1]},<{end[0]}.{end[1]}".replace(",<6.0", ",<6")
            raise ConfigError(
                f"{package} {metadata.version(package)} is installed, but fourierft needs "
                f"{asked}; pip install '{asked}'"
            )
