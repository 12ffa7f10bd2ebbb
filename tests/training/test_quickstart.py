"""The quickstart in small: what is finished stays, what is missing is done, and a page comes of it."""

from __future__ import annotations

import json
import os
import re
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fourierft.errors import OutputExistsError
from fourierft.training import assets, page, quickstart
from fourierft.training.quickstart import Outcome, outcome_rows, predict_examples, run_quickstart
from fourierft.training.trainer import TrainingInterrupted

SIZES = {"train": 16, "validation": 8}
CHANGES = {"max_steps": 2, "eval_steps": 1, "max_length": 16, "use_cpu": True, "disable_tqdm": True}


@pytest.fixture
def run(stock: Callable[..., assets.Fetch], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """A quickstart of two steps a method, its downloads made here."""
    fetch = stock(quickstart)

    def run(fetch: assets.Fetch = fetch, **options: Any) -> list[Outcome]:
        small = [
            quickstart.Contender(
                one.name, one.title, {**one.settings, **({"n_frequency": 50} if one.name == "fourierft" else {})}
            )
            for one in quickstart.CONTENDERS
        ]
        monkeypatch.setattr(quickstart, "CONTENDERS", tuple(small))
        return run_quickstart(tmp_path / "quickstart", fetch=fetch, changes=CHANGES, sizes=SIZES, **options)

    return run


def forbidden(*_: Any, **__: Any) -> Any:
    """Stands where nothing may be called."""
    raise AssertionError("this was to be left alone")


def test_four_methods_are_trained_and_told(run: Callable[..., list[Outcome]], tmp_path: Path) -> None:
    outcomes = run()
    assert [outcome.contender.name for outcome in outcomes] == ["head", "lora", "lora-1", "fourierft"]
    rank_one = 2 * (4 * (32 + 32) + 2 * (32 + 64)) + 32 + 32  # two blocks and the pooler
    assert [outcome.metrics["parameters"]["adapter"] for outcome in outcomes] == [0, 8 * rank_one, rank_one, 13 * 50]
    for outcome in outcomes:
        weights = next(outcome.folder.glob("*.safetensors"))
        assert outcome.n_bytes == weights.stat().st_size
        assert [step for step, _ in outcome.curve] == [1, 2]
        assert outcome.curve[-1][1] == outcome.accuracy == outcome.metrics["eval"]["accuracy"]
    assert [row[0] for row in outcome_rows(outcomes)[1:]] == ["head only", "LoRA r=8", "LoRA r=1", "FourierFT n=340"]
    assert "650" in outcome_rows(outcomes)[-1]


def test_second_run_fetches_and_trains_nothing(
    run: Callable[..., list[Outcome]], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = run()
    monkeypatch.setattr(quickstart, "train", forbidden)
    assert run(fetch=forbidden) == first


def test_unfinished_and_changed_runs_are_trained_again(
    run: Callable[..., list[Outcome]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    run()
    (tmp_path / "quickstart" / "lora" / "adapter_model.safetensors").unlink()
    changed = tuple(
        quickstart.Contender(
            one.name, one.title, {**one.settings, **({"learning_rate": 1e-4} if one.name == "head" else {})}
        )
        for one in quickstart.CONTENDERS
    )
    monkeypatch.setattr(quickstart, "CONTENDERS", changed)
    trained = []
    real = quickstart.train
    monkeypatch.setattr(
        quickstart,
        "train",
        lambda arguments, **options: trained.append(arguments.method.method) or real(arguments, **options),
    )
    run()
    assert trained == ["head", "lora:8"]


def test_fresh_trains_all_again(run: Callable[..., list[Outcome]], monkeypatch: pytest.MonkeyPatch) -> None:
    first, trained, real = run(), [], quickstart.train
    monkeypatch.setattr(
        quickstart, "train", lambda arguments, **options: trained.append(1) or real(arguments, **options)
    )
    second = run(fresh=True)
    assert len(trained) == 4
    assert [outcome.curve for outcome in second] == [outcome.curve for outcome in first]


def test_interrupted_run_goes_on_from_its_checkpoint(
    run: Callable[..., list[Outcome]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from fourierft.training.progress import StepTimer

    whole = [outcome.curve for outcome in run()]
    real = StepTimer.on_step_end

    def interrupt(self: StepTimer, *given: Any, **named: Any) -> None:
        real(self, *given, **named)
        os.kill(os.getpid(), signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr(StepTimer, "on_step_end", interrupt)
        with pytest.raises(TrainingInterrupted):
            run(fresh=True)
    assert "metrics" not in json.loads((tmp_path / "quickstart" / "quickstart.json").read_text())["head"]
    resumed, real_train = [], quickstart.train
    monkeypatch.setattr(
        quickstart,
        "train",
        lambda arguments, **options: (
            resumed.append(arguments.training.resume_from_checkpoint) or real_train(arguments, **options)
        ),
    )
    assert [outcome.curve for outcome in run()] == whole
    assert resumed == ["true"]


def test_directory_of_something_else_is_left_alone(run: Callable[..., list[Outcome]], tmp_path: Path) -> None:
    (tmp_path / "quickstart").mkdir()
    (tmp_path / "quickstart" / "mine.txt").write_text("mine")
    with pytest.raises(OutputExistsError, match=r"has no complete quickstart\.json"):
        run(fetch=forbidden)
    assert [path.name for path in (tmp_path / "quickstart").iterdir()] == ["mine.txt"]


def test_page_stands_alone(run: Callable[..., list[Outcome]], tmp_path: Path) -> None:
    outcomes = run()
    examples = predict_examples(outcomes[-1].folder)
    assert [example["text"] for example in examples] == list(quickstart.EXAMPLES)
    assert all(0.5 <= example["probability"] <= 1 for example in examples)
    file = page.write_page(outcomes, examples, tmp_path / "quickstart")
    text = file.read_text(encoding="utf-8")
    assert not re.search(r"\$[a-z{]", text)
    assert not re.search(r"(src|href)=\"(?!data:)", text)
    assert text.count("data:image/png;base64,iVBOR") == 3
    for row in outcome_rows(outcomes):
        assert all(f">{cell}</t" in text for cell in row)
    commands = re.findall(r"<code>(fourierft .*?)</code>", text)
    assert [command.split()[1] for command in commands] == ["evaluate", "inspect", "merge", "train"]
    assert str(outcomes[-1].folder) in commands[0]


def test_markup_in_a_sentence_is_shown_not_obeyed() -> None:
    shown = page.html_example({"text": "<b>&", "prediction": "positive", "probability": 0.9})
    assert "&lt;b&gt;&amp;" in shown
