"""What was trained, sent to the hub: a repository is made before the training, and gets the results when all are there.

Trainer would send checkpoints, their pickled settings among them, and a card of its own while it trains; it is not
asked to.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Protocol

from huggingface_hub import CommitOperationAdd, HfApi
from huggingface_hub.errors import HfHubHTTPError, HTTPError

from fourierft.errors import PlaceError
from fourierft.training.output import RESULTS

BESIDE = ("generation_config.json",)  # what a whole model is saved with


class Destination(Protocol):
    """Where to send to, as transformers' TrainingArguments has it."""

    output_dir: str | None
    push_to_hub: bool
    hub_model_id: str | None
    hub_private_repo: bool | None
    hub_token: str | None
    hub_revision: str | None


def make_repository(settings: Destination) -> str | None:
    """The id of the repository to send to, made if it is not there; None, if nothing is to be sent.

    Raises: PlaceError, if the hub does not answer, or refuses.
    """
    if not settings.push_to_hub:
        return None
    name = settings.hub_model_id or Path(settings.output_dir or "").absolute().name
    try:
        made = HfApi(token=settings.hub_token).create_repo(name, private=settings.hub_private_repo, exist_ok=True)
    except (HfHubHTTPError, HTTPError, OSError, ValueError) as error:
        raise PlaceError(
            f"the repository {name} of the hub can't be written to ({_short(error)}); check --hub_model_id, log in "
            "with `hf auth login`, or leave out --push_to_hub"
        ) from error
    return made.repo_id


def list_results(directory: Path, processor: Any = None) -> list[str]:
    """The files of a finished training, by their paths in its directory; whatever else lies there is not among them.

    Args:
        directory: of it.
        processor: the tokenizer or image processor that was saved with it.
    """
    with tempfile.TemporaryDirectory() as scratch:
        if processor is not None:
            processor.save_pretrained(scratch)
        saved = [path.relative_to(scratch).as_posix() for path in sorted(Path(scratch).rglob("*")) if path.is_file()]
    return [name for name in dict.fromkeys((*RESULTS, *BESIDE, *saved)) if (directory / name).is_file()]


def upload(directory: Path, names: Iterable[str], repository: str, settings: Destination) -> str:
    """Send files in one commit.

    Args:
        directory: that they are in.
        names: their paths in it, and in the repository.
        repository: its id.

    Returns: the address of the commit.

    Raises: PlaceError, if it fails; the directory is as it was.
    """
    operations = [CommitOperationAdd(path_in_repo=name, path_or_fileobj=directory / name) for name in names]
    try:
        done = HfApi(token=settings.hub_token).create_commit(
            repository, operations, commit_message="Trained with fourierft", revision=settings.hub_revision
        )
    except (HfHubHTTPError, HTTPError, OSError, ValueError) as error:
        raise PlaceError(
            f"the training is complete in {directory}, but could not be uploaded to "
            f"{repository} ({_short(error)}); upload it with the same command and --resume_from_checkpoint "
            f"true, or with `hf upload {repository} {directory} --exclude 'checkpoint-*'`"
        ) from error
    return str(done.commit_url)


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__
