"""Commands that need the repository find it, or say where to run."""

from __future__ import annotations

from pathlib import Path

import pytest

from fourierft.cli import checkout
from fourierft.cli.main import main


@pytest.mark.parametrize("arguments", [["benchmark", "--list"], ["reproduce", "table1"]])
def test_without_a_checkout_it_says_where_to_run(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(checkout, "__file__", str(tmp_path / "lib" / "fourierft" / "cli" / "checkout.py"))
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert error.endswith("run the command in a checkout of the repository\n")
    assert error.count("\n") == 1


def test_checkout_is_found_from_a_folder_inside_it(monkeypatch: pytest.MonkeyPatch) -> None:
    root = Path(__file__).resolve().parents[2]
    monkeypatch.chdir(root / "docs")
    assert checkout.enter_checkout("benchmarks") == root
