"""The hub: whether it answers, and what would be downloaded from it, asked without downloading it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import huggingface_hub
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, HTTPError, RepositoryNotFoundError

from fourierft.errors import ConfigError, DataError, MissingExtraError
from fourierft.extras import needs

if TYPE_CHECKING:
    from datasets import DatasetBuilder

WEIGHTS = (".safetensors", ".bin")
SMALL_FILES = (".json", ".txt", ".model")  # config, tokenizer
SECONDS = 10


@contextmanager
def offline_if_unreachable(*names: str | None) -> Iterator[None]:
    """The libraries of the hub in their offline mode while this lasts, if it does not answer: they would try it again
    and again, half a minute for every file.

    Args:
        names: of what will be loaded; the hub is not asked if all of it is on this machine's disk.
    """
    if all(name is None or Path(name).exists() for name in names) or _is_reachable():
        yield
        return
    constants: Any = huggingface_hub.constants
    with ExitStack() as offline:
        with suppress(MissingExtraError), needs("train", "reading data"):
            import datasets

            offline.enter_context(patch.object(datasets.config, "HF_HUB_OFFLINE", True))
        offline.enter_context(patch.object(constants, "HF_HUB_OFFLINE", True))
        yield


def _is_reachable() -> bool:
    constants: Any = huggingface_hub.constants
    if constants.HF_HUB_OFFLINE:
        return False
    try:
        huggingface_hub.get_session().head(constants.ENDPOINT, timeout=SECONDS)
    except (HTTPError, OSError):
        return False
    return True


def has_weights(name: str, revision: str) -> bool:
    """Whether the weights of a model are on this machine: in a directory of that name, or in the hub's cache."""
    if Path(name).exists():
        return True
    files = [f"{stem}{end}" for stem in ("model", "pytorch_model") for end in WEIGHTS]
    files += [f"{file}.index.json" for file in files]
    try:
        paths = [huggingface_hub.try_to_load_from_cache(name, file, revision=revision) for file in files]
    except HFValidationError as error:
        raise ConfigError(f"{name} is neither a directory nor the id of a model on the hub; check it") from error
    return any(isinstance(path, str) for path in paths)


def find_model_size(name: str, revision: str) -> int | None:
    """Bytes of a model's weights, safetensors if it has them, and of its small files; None if the hub doesn't say.

    Raises: ConfigError, if the hub has no such model.
    """
    try:
        found = huggingface_hub.HfApi().model_info(name, revision=revision, timeout=SECONDS, files_metadata=True)
    except RepositoryNotFoundError as error:
        raise ConfigError(f"the hub has no model {name}, or hides it from you; check its id, or log in") from error
    except (HfHubHTTPError, HTTPError, OSError):
        return None
    sizes = {file.rfilename: file.size or 0 for file in found.siblings or [] if "/" not in file.rfilename}
    kind = next((end for end in WEIGHTS if any(file.endswith(end) for file in sizes)), WEIGHTS[0])
    return sum(size for file, size in sizes.items() if file.endswith((kind, *SMALL_FILES)))


def find_data_set(name: str, configuration: str | None) -> DatasetBuilder | None:
    """What the hub, or the cache, says of a data set; None if neither says anything.

    Raises: DataError, if the hub has no such data set or it has no such configuration.
    """
    with needs("train", "reading data"):
        import datasets

    try:
        return datasets.load_dataset_builder(name, configuration)
    except datasets.exceptions.DatasetNotFoundError as error:
        raise DataError(f"the hub has no data set {name}, or hides it from you; check its id, or log in") from error
    except OSError:
        return None
    except ValueError as error:
        raise DataError(f"data set {name} can't be read: {' '.join(str(error).split())}") from error
