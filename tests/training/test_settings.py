"""Flags, config files and defaults: who wins, and what is refused."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from transformers.trainer_utils import IntervalStrategy, SaveStrategy

from fourierft.errors import ConfigError
from fourierft.training.settings import (
    SHOWN,
    build_arguments,
    help_parser,
    known_settings,
    read_config,
    settings_parser,
)

NEEDED = {"model_name_or_path": "m", "output_dir": "o"}


def test_parser_keeps_only_what_was_given() -> None:
    given = settings_parser().parse_args(["--n_frequency", "7", "--text_column", "a", "b", "--bf16-full-eval"])
    assert vars(given) == {"n_frequency": 7, "text_column": ["a", "b"], "bf16_full_eval": True}


def test_help_shows_defaults_and_leaves_out_the_lesser_training_arguments() -> None:
    text = " ".join(help_parser().format_help().split())
    assert "fourierft: coefficients for each layer (default: 340)" in text
    assert "--learning_rate" in text
    assert "--ddp_bucket_cap_mb" not in text


@pytest.mark.parametrize("name", SHOWN)
def test_help_tells_the_defaults_that_hold(name: str) -> None:
    told = re.search(r"\(default: ([^ ,)]*)\)", SHOWN[name][1])
    value = getattr(build_arguments(NEEDED).training, name)
    if told:
        assert told[1] == str(getattr(value, "value", value))


def test_every_setting_that_the_help_shows_is_one() -> None:
    shown = {action.dest for action in help_parser()._actions}
    assert set(SHOWN) < shown <= known_settings()


def test_the_base_has_aliases_in_a_config_file_but_is_given_once(tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text("base-model: here\n")
    assert read_config(file) == {"model_name_or_path": "here"}
    file.write_text("model_name_or_path: here\nbase: there\n")
    with pytest.raises(ConfigError, match="sets model_name_or_path twice, once as base; remove one"):
        read_config(file)


def test_config_file_is_converted_as_flags_are(tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text(
        "learning_rate: 2e-3\nn-frequency: 200\ntarget_modules: [query, value]\nbf16: false\n"
        "lr_scheduler_kwargs: {num_cycles: 2}\nmax_steps: -1\nhead_learning_rate: null\n"
    )
    assert read_config(file) == {
        "learning_rate": 0.002,
        "n_frequency": 200,
        "target_modules": ["query", "value"],
        "bf16": False,
        "lr_scheduler_kwargs": '{"num_cycles": 2}',
        "max_steps": -1,
    }


@pytest.mark.parametrize("name", ["report_to", "optim_target_modules"])
def test_what_is_one_value_or_several_takes_a_list(tmp_path: Path, name: str) -> None:
    file = tmp_path / "c.yaml"
    for text, expected in (("[a, b]", ["a", "b"]), ("[a]", "a"), ("a", "a")):
        file.write_text(f"{name}: {text}\n")
        assert read_config(file) == {name: expected}
    assert vars(settings_parser().parse_args([f"--{name}", "a", "b"])) == {name: ["a", "b"]}
    assert vars(settings_parser().parse_args([f"--{name}", "a"])) == {name: "a"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("learnig_rate: 1", r"unknown key learnig_rate; did you mean learning_rate\?"),
        ("n_frequency: many", "n_frequency.*invalid int value: 'many'"),
        ("a: [1", "is not valid YAML"),
        ("- a\n- b", "holds list; write one `key: value` a line"),
        ("", "holds NoneType"),
        ("bf16: perhaps", "Truthy value expected"),
        ("seed: [1, 2]", r"seed takes one value, not a list; got \[1, 2\]"),
        ("output_dir: [a]", r"output_dir takes one value, not a list; got \['a'\]"),
    ],
)
def test_bad_config_file_is_refused_in_one_line(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "c.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=message) as caught:
        read_config(file)
    assert str(file) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_config_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="can't be read"):
        read_config(tmp_path / "no.yaml")


@pytest.mark.parametrize(
    ("method", "rate"), [("fourierft", 1e-3), ("lora", 1e-3), ("head", 1e-2), ("bitfit", 1e-3), ("full", 5e-5)]
)
def test_learning_rate_follows_the_method_unless_given(method: str, rate: float) -> None:
    assert build_arguments({**NEEDED, "method": method}).training.learning_rate == rate
    assert build_arguments({**NEEDED, "method": method, "learning_rate": 0.5}).training.learning_rate == 0.5


def test_evaluation_and_checkpoints_come_every_epoch_unless_steps_are_given() -> None:
    plain = build_arguments(NEEDED).training
    assert (plain.eval_strategy, plain.save_strategy) == (IntervalStrategy.EPOCH, SaveStrategy.EPOCH)
    stepped = build_arguments({**NEEDED, "save_steps": 10, "eval_steps": 5}).training
    assert (stepped.eval_strategy, stepped.save_strategy) == (IntervalStrategy.STEPS, SaveStrategy.STEPS)


@pytest.mark.parametrize("missing", ["model_name_or_path", "output_dir"])
def test_missing_setting_is_named_as_a_flag(missing: str) -> None:
    with pytest.raises(ConfigError, match=f"give --{missing}"):
        build_arguments({name: value for name, value in NEEDED.items() if name != missing})


def test_unknown_setting_of_a_call_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match="did you mean n_frequency"):
        build_arguments({**NEEDED, "n_frequencies": 5})


def test_settings_of_lora_without_a_method_are_refused_and_with_one_are_not() -> None:
    with pytest.raises(ConfigError, match=r"lora_r=4 is a setting of LoRA, .*; give --method lora, or leave it out"):
        build_arguments({**NEEDED, "lora_r": 4})
    assert build_arguments({**NEEDED, "lora_r": 4, "method": "lora"}).method.lora_r == 4


def test_contradiction_of_training_arguments_is_a_config_error() -> None:
    with pytest.raises(ConfigError, match="load_best_model_at_end"):
        build_arguments({**NEEDED, "load_best_model_at_end": True, "save_steps": 7})
