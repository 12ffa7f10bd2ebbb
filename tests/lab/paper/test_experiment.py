"""Choices: names are checked, and what is not named is everything."""

from __future__ import annotations

from typing import Any

import pytest

from fourierft.errors import ConfigError
from lab.paper.run import MODULES, find_experiment


@pytest.mark.parametrize("name", list(MODULES))
def test_every_experiment_has_its_name_and_lists_its_runs(name: str) -> None:
    experiment = find_experiment(name)
    assert experiment.name == name
    assert experiment.title.lower().startswith(name.replace("table", "table ").replace("fig", "figure "))


def test_what_is_not_named_is_everything() -> None:
    choice = find_experiment("table6").choose()
    assert choice.tasks == ("rte", "cola")
    assert choice.models == ("roberta-base", "roberta-large")
    assert choice.seeds == (0, 11111, 22222, 33333, 44444)
    chosen = find_experiment("table6").choose(tasks=["cola"], seeds=[7])
    assert (chosen.tasks, chosen.seeds) == (("cola",), (7,))
    assert find_experiment("table6").choose(stand_in=True).tasks == ("movies", "digits")


@pytest.mark.parametrize(
    ("name", "wanted", "message"),
    [
        ("table6", {"tasks": ["rtee"]}, "--task rtee is unknown to table6; did you mean rte?"),
        ("table6", {"models": ["gpt2"]}, "--model gpt2 is unknown to table6; use one of roberta-base, roberta-large"),
        ("table6", {"tasks": ["rte"], "stand_in": True}, "--task rte is unknown to table6; use one of movies, digits"),
        ("table6", {"models": ["roberta-base"], "stand_in": True}, "--model roberta-base has no meaning with"),
        ("table1", {"stand_in": True}, "table1 has no stand-in"),
        ("table1", {"tasks": ["rte"]}, "--task rte: table1 has no choice of these"),
        ("fig3", {"seeds": [1]}, "fig3 draws nothing; leave --seeds out"),
        ("fig7", {"seeds": [-1]}, "seeds=.*is not a list of whole numbers"),
    ],
)
def test_a_wrong_choice_is_explained(name: str, wanted: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        find_experiment(name).choose(**wanted)


@pytest.mark.parametrize(("name", "hint"), [("tabel2", "did you mean table2?"), ("x", "use one of table1, ")])
def test_an_unknown_experiment_is_explained(name: str, hint: str) -> None:
    with pytest.raises(ConfigError, match=hint.replace("?", r"\?")):
        find_experiment(name)
