"""The paper's settings, against the tables typed off the paper by hand."""

from __future__ import annotations

import pytest

from fourierft.errors import ConfigError
from fourierft.tuner import FourierFTConfig
from fourierft.tuner.paper import PAPER_RUNS, paper_run

# Of Table 9: epochs, learning rate, head learning rate, length, alpha, batch. Of Tables 10 to 12, as the columns say.
COLA_BASE = (100, 1.2e-1, 8e-3, 512, 49, 32)
COLA_LARGE = (80, 4.3e-2, 1.1e-2, 256, 120, 128)
QNLI_BASE = (40, 1e-2, 1e-3, 512, 29, 32)


@pytest.mark.parametrize(
    ("task", "model", "row"),
    [
        ("cola", "roberta-base", COLA_BASE),
        ("cola", "roberta-large", COLA_LARGE),
        ("qnli", "roberta-base", QNLI_BASE),
    ],
)
def test_language_understanding_is_table_9(task: str, model: str, row: tuple) -> None:
    run = paper_run(task, model)
    found = (run.epochs, run.learning_rate, run.head_learning_rate, run.max_length, run.scaling, run.batch_size)
    assert found == row
    assert (run.n_frequency, run.warmup_ratio, run.weight_decay) == (1000, 0.06, 0.0)


def test_generation_is_table_10() -> None:
    run = paper_run("e2e", "gpt2-large")
    assert (run.learning_rate, run.head_learning_rate, run.weight_decay) == (5e-2, 1e-4, 0.03)
    assert (run.epochs, run.batch_size, run.label_smoothing, run.scaling) == (5, 128, 0.1, 300.0)


def test_instructions_are_table_11_and_images_table_12() -> None:
    run = paper_run("instructions")
    assert (run.learning_rate, run.scaling, run.n_frequency, run.epochs, run.batch_size) == (3e-2, 300.0, 1000, 1, 16)
    run = paper_run("cifar100", "vit-large")
    assert (run.learning_rate, run.head_learning_rate, run.weight_decay) == (2e-1, 7e-4, 1e-4)
    assert (run.n_frequency, run.scaling, run.epochs) == (3000, 300.0, 10)


def test_every_run_has_a_config_that_starts_as_the_paper_does() -> None:
    for (task, model), run in PAPER_RUNS.items():
        config = FourierFTConfig.paper(task, model, target_modules=["query", "value"])
        assert (config.scaling, config.n_frequency) == (run.scaling, run.n_frequency)
        assert (config.random_loc_seed, config.init_weights) == (2024, False)
        assert config.target_modules == {"query", "value"}


def test_what_is_given_wins_over_the_paper() -> None:
    assert FourierFTConfig.paper("instructions", n_frequency=2000).n_frequency == 2000


@pytest.mark.parametrize(
    ("task", "model", "message"),
    [
        ("imdb", None, "the paper has no task 'imdb'; use one of stsb, rte, "),
        ("cola", None, "no run of cola with model=None; use one of roberta-base, roberta-large"),
        ("cola", "gpt2", "no run of cola with model='gpt2'; use one of roberta-base, roberta-large"),
    ],
)
def test_a_run_that_the_paper_lacks_is_named(task: str, model: str | None, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        FourierFTConfig.paper(task, model)
