"""The one guard of optional packages: what each extra brings, and one sentence where it is missing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from fourierft.errors import MissingExtraError

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
    "chat": {"trl": "trl"},
    "quantized": {"bitsandbytes": "bitsandbytes", "torchao": "torchao"},
    "generation": {"sacrebleu": "sacrebleu", "nltk": "nltk", "rouge_score": "rouge-score"},
    "diffusion": {"diffusers": "diffusers", "torchmetrics": "torchmetrics", "PIL": "pillow"},
    "postgres": {"sqlalchemy": "sqlalchemy", "psycopg": "psycopg"},
    "serve": {"starlette": "starlette", "prometheus_client": "prometheus-client", "openai": "openai"},
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
