"""A file of prompts in, a file of answers out, a line each; what was interrupted goes on where it stopped."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from fourierft.bars import bar
from fourierft.errors import ConfigError, DataError, OutputExistsError
from fourierft.training import output
from fourierft.training.cells import column_names, iterate_rows, place_of
from fourierft.training.chat.conversation import CONVERSATION_COLUMNS, Conversation, read_conversation
from fourierft.training.chat.speaker import Sampling, Speaker
from fourierft.training.chat.template import INPUT_HEADING, is_alpaca
from fourierft.training.families.answers import PROMPT_COLUMNS
from fourierft.training.files import read_file
from fourierft.training.lock import alone_with

Answer = Callable[[Sequence[Any]], list[dict[str, Any]]]


def read_prompts(path: str | Path, separator: str) -> list[Conversation]:
    """The conversations of a file that wait for an answer; one that was answered already loses its last answer.

    Args:
        path: .txt, a prompt a line; or what `read_file` reads, with the columns of chat data.
        separator: between an instruction and its input.

    Raises: DataError, if the file is missing or holds no prompts.
    """
    path = Path(path)
    if path.suffix.lower() == ".txt":
        try:
            with path.open(encoding="utf-8-sig") as file:
                lines = [line.rstrip("\n") for line in file]
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(f"{path} can't be read ({error}); name a text file in UTF-8") from error
        prompts = [Conversation([{"role": "user", "content": line}]) for line in lines if line.strip()]
        if not prompts:
            raise DataError(f"{path} holds no prompts; write one a line")
        return prompts
    rows = read_file(path)
    held = column_names(rows)
    whole = next((name for name in CONVERSATION_COLUMNS if name in held), None)
    names = next((names for names in PROMPT_COLUMNS if set(names) <= set(held)), None)
    if whole is None and names is None:
        raise DataError(
            f"{path} has the columns {', '.join(held)}; it needs messages, conversations, prompt or instruction"
        )
    found = []
    for index, row in enumerate(iterate_rows(rows)):
        where = place_of(row, index)
        talk = read_conversation(row, [whole] if whole else names or (), None, separator, where)
        if talk.messages[-1]["role"] == "assistant":
            talk = talk.until(len(talk.messages) - 1)
        if not talk.messages or talk.messages[-1]["role"] not in ("user", "tool"):
            raise DataError(
                f"{where} does not end with a message of the user, so there is nothing to "
                "answer; add one, or remove the row"
            )
        found.append(talk)
    return found


def answer_file(
    speaker: Speaker,
    prompts: str | Path,
    target: str | Path,
    sampling: Sampling,
    batch_size: int = 8,
    overwrite: bool = False,
    quiet: bool = False,
) -> int:
    """Answer every prompt of a file, with a progress bar.

    Args:
        prompts: see `read_prompts`.
        target: JSON lines: `messages`, `tools` if there are any, `answer`, `made_by`, which tells model and sampling.
            The same call again goes on after the last line that is whole.

    Returns: the number of answers that were missing.

    Raises: FourierFTError, if a file or a prompt is not what it should be. OutputExistsError, if `target` holds the
        answers to other prompts, of another model or of another sampling.
    """
    separator = INPUT_HEADING if is_alpaca(speaker.tokenizer) else "\n"
    waiting = read_prompts(prompts, separator)
    target = Path(target)
    made_by = speaker.sign(sampling)
    tokens = [speaker.encode(talk, f"prompt {n} of {prompts}") for n, talk in enumerate(waiting, start=1)]

    def answer(places: Sequence[int]) -> list[dict[str, Any]]:
        texts = speaker.answer([tokens[place] for place in places], sampling)
        return [
            {**_shown(waiting[place]), "answer": text, "made_by": made_by}
            for place, text in zip(places, texts, strict=True)
        ]

    with alone_with(target):
        known = read_lines(target, overwrite, lambda rows: _fit(rows, waiting, made_by))
        missing = list(range(len(known), len(waiting)))
        write_lines(target, known, missing, answer, batch_size, quiet)
    return len(missing)


def read_lines(target: Path, overwrite: bool, fit: Callable[[list[dict[str, Any]]], bool]) -> list[dict[str, Any]]:
    """The whole lines that an earlier call left; none, if there is no file, or it may be overwritten.

    Args:
        fit: whether they are what this call would have written.

    Raises: OutputExistsError, if they are not.
    """
    if overwrite or not target.exists():
        return []
    try:
        rows = output.read_json_lines(target)
        fits = all(isinstance(row, dict) for row in rows) and fit(rows)
    except (OSError, UnicodeDecodeError, DataError):
        fits = False
    if not fits:
        raise OutputExistsError(
            f"{target} has other content, or answers of another model or other settings; "
            "choose another file, or give --overwrite"
        )
    return rows


def write_lines(
    target: Path,
    known: list[dict[str, Any]],
    missing: Sequence[Any],
    answer: Answer,
    batch_size: int,
    quiet: bool,
) -> None:
    """Answer what is missing, a batch at a time; each batch is on the disk before the next begins.

    Args:
        known: lines that are there; the file holds them alone before the first answer is asked for.
        answer: lines of some of `missing`.
    """
    if batch_size < 1:
        raise ConfigError(f"batch_size={batch_size} is too small; use at least 1")
    output.write_json_lines(target, known)
    with bar(None, "answering", "answers", not quiet, total=len(missing)) as progress:
        for start in range(0, len(missing), batch_size):
            for row in answer(missing[start : start + batch_size]):
                output.append_json_line(target, row)
                progress.update()


def _shown(talk: Conversation) -> dict[str, Any]:
    return {"messages": talk.messages, **({"tools": talk.tools} if talk.tools else {})}


def _fit(rows: Sequence[Mapping[str, Any]], waiting: Sequence[Conversation], made_by: str) -> bool:
    return len(rows) <= len(waiting) and all(
        {key: row.get(key) for key in _shown(talk)} == _shown(talk)
        and "answer" in row
        and row.get("made_by") == made_by
        for row, talk in zip(rows, waiting, strict=False)
    )
