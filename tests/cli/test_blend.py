"""`fourierft blend` from the outside."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from fourierft.cli.blend import read_weights
from fourierft.cli.main import main
from fourierft.errors import ConfigError
from fourierft.store import AdapterStore, Layout


@pytest.fixture
def fleet(tmp_path: Path) -> Path:
    """A store of two adapters of one layer."""
    config = {"peft_type": "FOURIERFT", "n_frequency": 4, "scaling": 2.0, "base_model_name_or_path": "base"}
    layout = Layout.make({**config, "target_modules": ["query"]}, {"query": (8, 8)})
    with AdapterStore(tmp_path / "fleet.db") as store:
        store.put("a", layout, torch.tensor([1.0, 2.0, 3.0, 4.0]))
        store.put("b:c", layout, torch.tensor([4.0, 0.0, 0.0, -4.0]))
    return tmp_path / "fleet.db"


def test_blend_is_added_and_said(fleet: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["blend", str(fleet), "a:0.5", "b:c:0.25", "--as", "mix"]) == 0
    assert capsys.readouterr().out == "added 'mix' version 1: dW = 0.5 * 'a' + 0.25 * 'b:c'\n"
    with AdapterStore(fleet) as store:
        assert store.get("mix").values.tolist() == [1.5, 1.0, 1.5, 1.0]


def test_missing_adapter_is_one_line(fleet: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["blend", str(fleet), "a:1", "z:1", "--as", "mix"]) == 2
    assert "has no adapter 'z'" in capsys.readouterr().err


@pytest.mark.parametrize("part", ["a", "a:", "a:much"])
def test_part_without_a_weight_is_explained(part: str) -> None:
    with pytest.raises(ConfigError, match=r"write NAME:WEIGHT, such as reviews:0\.7"):
        read_weights([part])


def test_weights_of_one_name_add_up() -> None:
    assert read_weights(["a:1", "a:-0.5", "b:2e-1"]) == {"a": 0.5, "b": 0.2}


def test_help_teaches_by_example(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["blend", "--help"])
    assert "fourierft blend fleet.db reviews:0.5 tweets:0.5 --as average" in capsys.readouterr().out
