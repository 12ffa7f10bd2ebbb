"""Trackers that are not here are told at once, by a dry run too."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from fourierft.errors import ConfigError
from fourierft.training import trackers
from fourierft.training.arguments import Arguments
from fourierft.training.run import train
from fourierft.training.trackers import check_trackers


def hide(monkeypatch: pytest.MonkeyPatch, *modules: str) -> None:
    """Let modules be not installed."""
    find = trackers.find_spec
    monkeypatch.setattr(trackers, "find_spec", lambda name: None if name in modules else find(name))


@pytest.mark.parametrize("dry_run", [False, True])
def test_a_tracker_that_is_not_installed_is_told_before_anything_is_loaded(
    build: Callable[..., Arguments], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], dry_run: bool
) -> None:
    hide(monkeypatch, "wandb")
    arguments = build(report_to=["wandb"], dry_run=dry_run)
    message = r"^report_to=wandb needs wandb, which is not installed; pip install wandb, or leave it out$"
    with pytest.raises(ConfigError, match=message):
        train(arguments)
    assert capsys.readouterr().out == ""
    assert not Path(arguments.training.output_dir or "").exists()


@pytest.mark.parametrize(
    ("name", "modules", "package"),
    [
        ("comet_ml", ["comet_ml"], "comet-ml"),
        ("flyte", ["flytekit"], "flytekit"),
        ("azure_ml", ["azureml"], "azureml-sdk"),
        ("tensorboard", ["tensorboard", "tensorboardX"], "tensorboard"),
        ("neptune", ["neptune"], "neptune"),
    ],
)
def test_what_to_install_is_named(monkeypatch: pytest.MonkeyPatch, name: str, modules: list[str], package: str) -> None:
    hide(monkeypatch, *modules)
    with pytest.raises(ConfigError, match=f"^report_to={name} needs {package}, which .*; pip install {package}, or"):
        check_trackers([name])


def test_no_tracker_and_no_such_tracker() -> None:
    check_trackers([])
    with pytest.raises(ConfigError, match=r"^report_to=wandbb is not a known tracker; did you mean wandb\?$"):
        check_trackers(["wandbb"])
    with pytest.raises(ConfigError, match=r"^report_to=xyz is not a known tracker; use one of azure_ml, .*, wandb$"):
        check_trackers(["xyz"])


def test_what_a_tracker_wants_beside_its_package_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KUBEFLOW_TRAINER_SERVER_URL", raising=False)
    with pytest.raises(ConfigError, match=r"^report_to=kubeflow can't be used here: .*KUBEFLOW_TRAINER_SERVER_URL"):
        check_trackers(["kubeflow"])
