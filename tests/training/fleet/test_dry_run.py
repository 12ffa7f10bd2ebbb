"""`fourierft fleet train --dry_run`: the numbers of the training, and nothing written or trained."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

from fourierft import AdapterStore
from fourierft.cli.main import main
from fourierft.errors import DataError, ShapeError, StoreError
from fourierft.training.fleet import plan
from fourierft.training.fleet.run import train_fleet
from fourierft.training.fleet.settings import FleetArguments

Build = Callable[..., FleetArguments]
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")


def dry(arguments: FleetArguments) -> dict[str, Any]:
    return train_fleet(replace(arguments, dry_run=True))


@pytest.mark.parametrize("changes", [{}, {"dtype": "int8", "validation_fraction": 0.2, "max_steps": 3, "rows": 3}])
def test_numbers_are_those_of_the_training(
    build: Build, tmp_path: Path, capsys: pytest.CaptureFixture[str], changes: dict[str, Any]
) -> None:
    before = sorted(tmp_path.iterdir())
    arguments = build(**changes)
    found = dry(arguments)
    assert sorted(tmp_path.iterdir()) == before, "nothing is written"
    trained = train_fleet(arguments)
    assert found["parameters"]["adapter"] + found["parameters"]["head"] == trained["parameters"]
    assert found["adapters"] == {name: metrics["rows"] for name, metrics in trained["adapters"].items()}
    assert found["rows"]["train"] == sum(found["adapters"].values())
    assert sum(found["rows"].values()) == 8 + 5 + 9
    assert found["steps"] == sum(metrics["steps"] for metrics in trained["adapters"].values())
    assert (found["downloads"], found["unknown"], found["missing"]) == ({}, [], [])
    with AdapterStore(arguments.store) as store:
        kept = store.get("ann")
    assert found["parameters"]["adapter"] == sum(values.numel() for values in kept.coefficients.values())
    assert found["bytes"]["head"] == sum(head.nbytes for head in kept.heads.values())
    assert found["bytes"]["adapter"] == (4 * 40 + 4 * 4 if changes else 4 * 4 * 40)  # int8: a scale a layer
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert (
        f"adapters 3 of {min(found['adapters'].values())} to {max(found['adapters'].values())} rows to train on"
        in lines
    )
    assert f"steps {found['steps']} of {arguments.fleet.rows} rows, up to 2 adapters at a time" in lines


def test_loads_no_weights(build: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []
    attach = plan.attach_row
    monkeypatch.setattr(plan, "attach_row", lambda *given: seen.append(attach(*given)) or seen[-1])
    dry(build())
    assert seen
    assert all(parameter.is_meta for parameter in seen[0].model.parameters())


@pytest.mark.parametrize(
    ("changes", "kind", "text"),
    [({"n_frequency": 5000}, ShapeError, "5000"), ({"adapter_column": "tenant"}, DataError, "no column tenant")],
)
def test_what_the_training_would_refuse_is_refused(
    build: Build, changes: dict[str, Any], kind: type[Exception], text: str
) -> None:
    with pytest.raises(kind, match=text):
        dry(build(**changes))


def test_a_store_of_another_base_is_refused(build: Build, calm_bert: Path, tmp_path: Path) -> None:
    train_fleet(build(max_steps=1))
    other = shutil.copytree(calm_bert, tmp_path / "other")
    weights = load_file(other / "model.safetensors")
    save_file({name: value.flip(0).contiguous() for name, value in weights.items()}, other / "model.safetensors")
    with pytest.raises(StoreError, match="keeps adapters of the base"):
        dry(build(model_name_or_path=str(other)))


def test_what_is_missing_is_said_and_nothing_is_made(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--model_name_or_path", "nobody/no-such-model", "--train_file", str(tmp_path / "gone.csv")]
    assert main(["fleet", "train", *words, "--store", str(tmp_path / "fleet.db"), "--dry_run"]) == 2
    told = capsys.readouterr()
    assert "to download  nobody/no-such-model" in told.out
    assert "Not known: the adapters, their numbers and steps" in told.out
    error = told.err.splitlines()[-1]
    assert error.startswith("fourierft: error: the training could not start: nobody/no-such-model is not on this mach")
    assert "there is no data file" in error
    assert not list(tmp_path.iterdir())
