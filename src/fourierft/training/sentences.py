"""The sentences of VADER (Hutto & Gilbert, ICWSM 2014) as data sets of two classes, or of numbers.

10,605 sentences of movie reviews, and fewer of tweets, Amazon reviews and editorials of the New York Times, each rated
by some twenty people from -4 (very negative) to 4 (very positive).
"""

from __future__ import annotations

import csv
import random
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from fourierft.errors import DataError
from fourierft.files import file_beside

ARCHIVE = "hutto_ICWSM_2014.tar.gz"
MEMBERS = {
    "movies": "hutto_ICWSM_2014/movieReviewSnippets_GroundTruth.txt",
    "tweets": "hutto_ICWSM_2014/tweets_GroundTruth.txt",
    "amazon": "hutto_ICWSM_2014/amazonReviewSnippets_GroundTruth.txt",
    "editorials": "hutto_ICWSM_2014/nytEditorialSnippets_GroundTruth.txt",
}
MEMBER = MEMBERS["movies"]
MILDEST = 0.5
LABELS = ("negative", "positive")

Row = tuple[str, str]
"""Text and label."""


def find_archive(folder: Path) -> Path:
    """The archive of the sentences below the unpacked package."""
    return next(folder.glob(f"*/additional_resources/{ARCHIVE}"), folder / ARCHIVE)


def read_sentences(archive: Path) -> list[Row]:
    """Sentences of movie reviews with their label, in the order of the file; each once, none rated from -0.5 to 0.5.

    Args:
        archive: VADER's hutto_ICWSM_2014.tar.gz.

    Raises: DataError, as `read_ratings`.
    """
    rated = read_ratings(archive, mildest=MILDEST)
    return [(text, LABELS[rating > 0]) for text, rating in rated.items()]


def read_ratings(archive: Path, mildest: float = 0.0, member: str = MEMBER) -> dict[str, float]:
    """Rating by sentence, in the file's order; of a text that comes twice the first.

    Args:
        archive: VADER's hutto_ICWSM_2014.tar.gz.
        mildest: ratings nearer to 0 are left out.
        member: file of the archive, one of MEMBERS.

    Raises: DataError, if the file is not in the archive or has a line without id, rating and text.
    """
    try:
        with tarfile.open(archive) as tar:
            file = tar.extractfile(member)
            lines = file.read().decode("utf-8", errors="replace").splitlines() if file else []
    except (tarfile.TarError, OSError, KeyError, EOFError) as error:
        raise DataError(f"{archive} has no readable {member} ({error}); remove it and run the command again") from error
    rows: dict[str, float] = {}
    for number, line in enumerate(lines, start=1):
        try:
            _, rating, text = line.split("\t")
            score = float(rating)
        except ValueError:
            raise DataError(f"line {number} of {member} is not id, rating and text, separated by tabs") from None
        if abs(score) >= mildest and text.strip():
            rows.setdefault(text.strip(), score)
    return rows


def split_rows(rows: Sequence[Row], sizes: Mapping[str, int], seed: int) -> dict[str, list[Row]]:
    """Disjoint samples of the rows.

    Args:
        rows: to draw from.
        sizes: split -> number of rows.
        seed: of the draw; the same rows and seed give the same samples on every machine.

    Raises: DataError, if there are fewer rows than wanted.
    """
    wanted = sum(sizes.values())
    if wanted > len(rows):
        raise DataError(f"{wanted} sentences were requested, but there are only {len(rows)}; request fewer")
    drawn = iter(random.Random(seed).sample(list(rows), wanted))
    return {name: [next(drawn) for _ in range(size)] for name, size in sizes.items()}


def write_csv(rows: Sequence[Row], file: Path) -> None:
    """Write the columns text and label; a file that is there is replaced whole or not at all."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with file_beside(file) as beside, beside.open("w", encoding="utf-8", newline="") as sink:
        writer = csv.writer(sink)
        writer.writerow(("text", "label"))
        writer.writerows(rows)
