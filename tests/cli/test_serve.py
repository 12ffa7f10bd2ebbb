from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from fourierft.cli.main import main
from fourierft.serving import launch, trial
from fourierft.serving.limits import Limits
from fourierft.store import AdapterStore


def test_flags_reach_the_server(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    started: list[Any] = []
    monkeypatch.setattr(launch, "check", lambda settings: "all of it")
    monkeypatch.setattr(launch, "start", started.append)
    assert main(["serve", "base", "--store", "f.db", "--slots", "9", "--vllm=--dtype float32 --max-model-len 64"]) == 0
    assert started == [
        launch.ServeSettings("base", "f.db", slots=9, options=("--dtype", "float32", "--max-model-len", "64"))
    ]
    assert capsys.readouterr().err == "serving all of it\n"


def test_limits_of_a_client_are_options(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    started: list[Any] = []
    monkeypatch.setattr(launch, "check", lambda settings: "all of it")
    monkeypatch.setattr(launch, "start", started.append)
    words = ["--limit_body", "2", "--limit_turn", "0.5", "--limit_uploads", "1", "--waiting", "9"]
    assert main(["serve", "base", "--store", "f.db", *words]) == 0
    assert started[0].limits == Limits(body=2 << 20, turn=0.5, uploads=1)
    assert started[0].waiting == 9
    capsys.readouterr()
    for flag, value in (
        ("body", "0"),
        ("body", "-2"),
        ("turn", "-1"),
        ("pause", "nan"),
        ("send", "inf"),
        ("body", "9" * 400),
    ):
        assert main(["serve", "base", "--store", "f.db", f"--limit_{flag}={value}"]) == 2
        told = capsys.readouterr().err
        assert f"--limit_{flag} {value if flag == 'body' else float(value)}"[:30] in told
        assert "above 0" in told
        assert len(told) < 200
    with pytest.raises(SystemExit):
        main(["serve", "--help"])
    told = capsys.readouterr().out
    assert all(f"--limit_{field.name}" in told for field in fields(Limits))


def test_the_base_is_a_word_or_a_flag_but_not_both(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    started: list[Any] = []
    monkeypatch.setattr(launch, "check", lambda settings: "all of it")
    monkeypatch.setattr(launch, "start", started.append)
    for words in (["base"], ["--model_name_or_path", "base"], ["--model", "base"]):
        assert main(["serve", *words, "--store", "f.db"]) == 0
    assert started == [launch.ServeSettings("base", "f.db")] * 3
    capsys.readouterr()
    for words in ([], ["base", "--model", "other"]):
        assert main(["serve", *words, "--store", "f.db"]) == 2
        assert "as MODEL or as --model_name_or_path MODEL" in capsys.readouterr().err


def test_a_question_is_asked_and_the_answers_stand_side_by_side(
    adapter: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = []
    with AdapterStore(tmp_path / "fleet.db") as store:
        store.add("noun", adapter)
    command = ["serve", "org/base", "--store", str(tmp_path / "fleet.db"), "--ask", "light"]

    def try_out(settings: launch.ServeSettings, names: list[str], question: str) -> dict[str, str]:
        asked.append((settings.host, names, question))
        return dict.fromkeys(names, "an answer")

    monkeypatch.setattr(launch, "check", lambda settings: "all of it")
    monkeypatch.setattr(trial, "try_out", try_out)
    assert main([*command, "--of", "noun", "__base__", "noun@1", "org/base"]) == 0
    assert main(command) == 0
    assert asked == [
        ("127.0.0.1", ["noun", "org/base", "noun@1", "org/base"], "light"),
        ("127.0.0.1", ["org/base"], "light"),
    ]
    assert "an answer" in capsys.readouterr().out
    assert main([*command, "--of", "noun", "verb"]) == 2
    assert "verb" in capsys.readouterr().err
    assert main([*command[:4], "--of", "noun"]) == 2
    assert "--of names whom --ask asks; give --ask TEXT" in capsys.readouterr().err
    assert len(asked) == 2  # no server was started


def test_without_vllm_it_says_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from importlib import metadata

    found = metadata.version

    def without(package: str) -> str:
        if package == "vllm":
            raise metadata.PackageNotFoundError(package)
        return found(package)

    monkeypatch.setattr(metadata, "version", without)
    assert main(["serve", "base", "--store", str(tmp_path / "f.db")]) == 2
    assert "`make install-vllm` makes one" in capsys.readouterr().err
