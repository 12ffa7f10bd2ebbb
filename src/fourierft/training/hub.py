"""What the hub says of a model or a data set, asked without downloading it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import huggingface_hub
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, HTTPError, RepositoryNotFoundError

from fourierft.errors import ConfigError, DataError
from fourierft.extras import needs
from fourierft.format.hub import SECONDS, find_near, is_path, is_reachable

if TYPE_CHECKING:
    from datasets import DatasetBuilder

WEIGHTS = (".safetensors", ".bin")
SMALL_FILES = (".json", ".txt", ".model")  # config, tokenizer


def has_weights(name: str, revision: str) -> bool:
    """Whether the weights of a model are on this machine: in a directory of that name, or in the hub's cache.

    Raises: ConfigError, if the name is neither that of a directory nor an id that the hub could have.
    """
    if Path(name).exists():
        return True
    if is_path(name):
        raise ConfigError(f"there is no folder {name}; {find_near(name) or 'check the path'}")
    files = [f"{stem}{end}" for stem in ("model", "pytorch_model") for end in WEIGHTS]
    files += [f"{file}.index.json" for file in files]
    try:
        paths = [huggingface_hub.try_to_load_from_cache(name, file, revision=revision) for file in files]
    except HFValidationError as error:
        hint = find_near(name) or "check it"
        raise ConfigError(f"{name} is neither a folder nor the id of a model on the hub; {hint}") from error
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


def find_license(name: str, revision: str) -> dict[str, str]:
    """The license of a model, as its card has it: `license`, and `license_name` and `license_link` of one of its own.

    Args:
        name: folder of the model, whose card is read, or hub id, whose is asked for if the hub answers.

    Returns: empty if it is not known.
    """
    with needs("train", "reading a card"):
        from yaml import YAMLError
    try:
        if Path(name).exists():
            card = Path(name) / "README.md"
            said = (huggingface_hub.metadata_load(card) if card.is_file() else None) or {}
        elif is_reachable():
            found = huggingface_hub.HfApi().model_info(name, revision=revision, timeout=SECONDS)
            said = found.card_data.to_dict() if found.card_data else {}
        else:
            said = {}
    except (HfHubHTTPError, HTTPError, OSError, ValueError, YAMLError):
        return {}
    names = ("license", "license_name", "license_link")
    return {key: said[key] for key in names if isinstance(said.get(key), str)}


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
