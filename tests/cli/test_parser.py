"""Unknown words are told by the parser they were meant for, with the nearest it knows; the base has one name."""

from __future__ import annotations

import argparse
import subprocess
import sys

import pytest

import fourierft
from fourierft.cli.main import COMMANDS, build_parser, main
from fourierft.cli.parser import CommandParser, add_base, find_nearest, find_unknown, resume_command


@pytest.mark.parametrize(
    ("words", "usage", "text"),
    [
        (
            ["store", "list", "f.db", "--prefx", "a"],
            "fourierft store list",
            "--prefx is unknown; did you mean --prefix?",
        ),
        (["merge", "a", "b", "--dtyp=float32"], "fourierft merge", "--dtyp is unknown; did you mean --dtype?"),
        (["evaluate", "o", "--test-file", "x"], "fourierft evaluate", "did you mean --test_file?"),
        (["train", "--learnig_rate", "1"], "fourierft train", "did you mean --learning_rate?"),
        (["fleet", "train", "--modl_name_or_path", "m"], "fourierft fleet train", "did you mean --model_name_or_path?"),
        (["fleet", "trian"], "fourierft fleet", "trian is unknown; did you mean train?"),
        (["inspect", "a", "--zzz"], "fourierft inspect", "--zzz is unknown; see `fourierft inspect --help`"),
        (["inspect", "a", "b"], "fourierft inspect", "unexpected argument b; see `fourierft inspect --help`"),
        (["--vesion"], "fourierft", "--vesion is unknown; did you mean --version?"),
        (["train", "--epochs", "3"], "fourierft train", "--epochs is unknown; did you mean --num_train_epochs?"),
        (["train", "--batch_size", "3"], "fourierft train", "did you mean --per_device_train_batch_size or "),
        (["train", "--lr", "1"], "fourierft train", " --learning_rate or "),
        ([], "fourierft", "COMMAND is missing; use one of quickstart, train, "),
        (["fleet"], "fourierft fleet", "ACTION is missing; use one of demo, dictionaries, train"),
        (["quantise"], "fourierft", "quantise is unknown; use one of quickstart, train"),
    ],
)
def test_what_is_unknown_is_told_under_its_own_usage(
    words: list[str], usage: str, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(words)
    told = capsys.readouterr().err
    assert exit_.value.code == 2
    assert told.startswith(f"usage: {usage} ")
    assert f"{usage}: error: " in told
    assert text in told.splitlines()[-1]


def test_a_flag_is_told_before_the_one_it_stands_for_is_missed(capsys: pytest.CaptureFixture[str]) -> None:
    parser = CommandParser(prog="probe")
    parser.add_argument("--store", required=True)
    with pytest.raises(SystemExit):
        parser.parse_args(["--stor", "f.db"])
    assert "--stor is unknown; did you mean --store?" in capsys.readouterr().err


def test_words_after_two_dashes_and_with_blanks_are_no_flags() -> None:
    assert find_unknown(["--a", "--b=1", "-1", "-- x --", "--", "--c"], ["--a"]) == ["--b=1"]


def test_dashes_and_underscores_are_near() -> None:
    assert find_nearest("--dry-run", ["--dry_run", "--dry-run-not"]) == "did you mean --dry_run?"
    assert find_nearest("--dry-run", ["--my_dry_run", "--dry_run"]) == "did you mean --dry_run?"
    assert find_nearest("--q", ["--dry_run"]) == ""


def test_the_package_runs_as_a_module() -> None:
    done = subprocess.run([sys.executable, "-m", "fourierft", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == f"fourierft {fourierft.__version__}\n"


NEEDED = {
    "train": ["train"],
    "dreambooth": ["dreambooth"],
    "fleet train": ["fleet", "train", "--store", "s"],
    "store add": ["store", "add", "s", "name", "a"],
    "store import": ["store", "import", "s", "a"],
    "evaluate": ["evaluate", "out"],
    "generate": ["generate", "out", "--prompt", "x"],
    "answers": ["answers", "out", "--bench", "vicuna", "--questions", "q", "--output", "o"],
    "inspect": ["inspect", "a"],
    "merge": ["merge", "a", "b"],
    "serve": ["serve", "--store", "s"],
}


@pytest.mark.parametrize("words", NEEDED.values(), ids=NEEDED)
def test_the_base_is_given_by_one_name_or_its_aliases_everywhere(words: list[str]) -> None:
    parser = build_parser(words)
    for name in ("--model_name_or_path", "--base_model", "--base", "--model"):
        assert parser.parse_args([*words, name, "here"]).model_name_or_path == "here"


def test_help_shows_the_one_name_alone() -> None:
    parser = argparse.ArgumentParser()
    add_base(parser, "the base")
    assert "--model_name_or_path MODEL" in parser.format_help()
    assert "--base" not in parser.format_help()


def test_resume_command_repeats_the_flags() -> None:
    flags = {"train_file": "my data.csv", "text_column": ["a", "b"], "overwrite_output_dir": True, "n_frequency": 7}
    assert resume_command("train", "c.yaml", flags) == (
        "fourierft train --config c.yaml --train_file 'my data.csv' --text_column a b --n_frequency 7 "
        "--resume_from_checkpoint true"
    )
    assert resume_command("dreambooth", None, {}) == "fourierft dreambooth --resume_from_checkpoint true"


def test_a_description_fits_the_terminal_and_examples_stay_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    example = f"Examples:\n  fourierft train --model_name_or_path {'x' * 80}\n  second"
    parser = CommandParser(description=f"{'word ' * 40}\nmore\n\n{example}\n")
    for columns, widest in (("60", 60), ("300", 100)):
        monkeypatch.setenv("COLUMNS", columns)
        text = parser.format_help()
        lines = text.split("Examples:")[0].splitlines()
        assert example in text
        assert widest - 10 < max(map(len, lines)) <= widest
        assert " ".join(text.split()).count("word") == 40


def test_the_help_of_every_command_fits_80_columns_but_for_examples_and_usage(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    for command in COMMANDS:
        text = build_parser([command, "--help"]).format_help()
        wide = [line for line in text.splitlines() if len(line) > 80 and not line.startswith((" ", "usage:"))]
        assert wide == []
