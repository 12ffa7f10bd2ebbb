"""Settings: their bounds, and what stands in adapter_config.json."""

import copy
import dataclasses
import inspect
import json
import pickle

import peft
import pytest

from fourierft.errors import CheckpointError, ConfigError
from fourierft.tuner import FourierFTConfig


def test_defaults_are_those_of_the_design():
    config = FourierFTConfig()
    assert (config.n_frequency, config.scaling, config.random_loc_seed) == (1000, "auto", 777)
    assert config.init_weights is True
    assert config.peft_type == peft.PeftType.FOURIERFT
    assert isinstance(config, peft.FourierFTConfig)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"n_frequency": 0}, r"n_frequency=0 is not a positive integer"),
        ({"n_frequency": 10.0}, r"n_frequency=10\.0 is not a positive integer"),
        ({"n_frequency_pattern": {"q": -1}}, r"n_frequency_pattern\['q'\]=-1 is not a positive integer"),
        ({"n_frequency_pattern": {"q[": 4}}, r"'q\[', which is not a regular expression"),
        ({"scaling": "automatic"}, r"scaling='automatic' is not a valid scaling; use 'auto' or a number"),
        ({"scaling": float("nan")}, r"scaling=nan is not a valid scaling"),
        ({"scaling": 1e31}, r"scaling=1e\+31 is not a valid scaling"),
        ({"random_loc_seed": "777"}, r"random_loc_seed='777' is not an integer"),
        ({"random_loc_seed": 2**64}, r"random_loc_seed=18446744073709551616 is not an integer of at most 64 bits"),
        ({"entries": "lowpass"}, r"entries='lowpass' is unknown; use one of uniform, bandpass"),
        ({"entries": "bandpass"}, r"entries='bandpass' got .*'center': None.*; use numbers center >= 0 and width > 0"),
        ({"entries": "bandpass", "center": 3, "width": 0}, r"center >= 0 and width > 0"),
        ({"entries": "bandpass", "center": 1e308, "width": 1}, r"center >= 0 and width > 0, up to 1e\+06"),
        ({"entries": "bandpass", "center": 3, "width": 1e-200}, r"center >= 0 and width > 0"),
        ({"center": 3.0}, r"has no meaning with entries='uniform'"),
    ],
)
def test_a_wrong_setting_is_refused_with_what_is_allowed(settings, message):
    with pytest.raises(ConfigError, match=message):
        FourierFTConfig(**settings)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"r": 8, "target_modules": ["q_proj"]}, "r is a setting of LoRA; FourierFT has n_frequency"),
        ({"n_frequency": 9, "lora_alpha": 16}, "lora_alpha is a setting of LoRA; FourierFT has scaling"),
        ({"trainable_token_indices": [3]}, "trainable_token_indices is .* name the embedding in target_modules, or in"),
        ({"ensure_weight_tying": True}, "ensure_weight_tying is a setting of LoRA; FourierFT has none like it"),
        ({"use_dora": False}, "use_dora is a setting of LoRA; FourierFT has none like it; leave it out"),
    ],
)
def test_a_setting_of_lora_is_answered_with_its_counterpart(settings, told):
    with pytest.raises(ConfigError, match=told):
        FourierFTConfig(**settings)


def test_editors_see_the_fields():
    shown = inspect.signature(FourierFTConfig).parameters
    assert {"n_frequency", "scaling", "target_parameters"} <= shown.keys()
    assert "self" not in shown


def test_a_plain_config_is_stock_field_for_field(tmp_path):
    FourierFTConfig(scaling=40.0, target_modules=["q"]).save_pretrained(tmp_path)
    ours = json.loads((tmp_path / "adapter_config.json").read_text())
    peft.FourierFTConfig(scaling=40.0, target_modules=["q"], init_weights=True).save_pretrained(tmp_path)
    assert ours == json.loads((tmp_path / "adapter_config.json").read_text())


@pytest.mark.parametrize(
    "settings",
    [
        {"scaling": 40.0},
        {"entries": "bandpass", "center": 8.5, "width": 3, "task_type": "SEQ_CLS"},
        {"n_frequency_pattern": {"q": 4}, "init_weights": False, "layers_to_transform": [0, 2]},
    ],
)
def test_a_saved_config_comes_back_equal(settings, tmp_path):
    config = FourierFTConfig(target_modules=["q", "v"], **settings)
    config.save_pretrained(tmp_path)
    assert peft.PeftConfig.from_pretrained(tmp_path) == config
    assert FourierFTConfig.from_pretrained(tmp_path) == config


def test_an_auto_config_writes_the_number_and_remembers_that_it_was_auto(tmp_path):
    config = FourierFTConfig()
    config.disk_scaling = 123.5
    config.save_pretrained(tmp_path)
    fields = json.loads((tmp_path / "adapter_config.json").read_text())
    assert fields["scaling"] == 123.5
    assert fields["fourierft"] == {"format": 2, "scaling": "auto", "rule": 3}
    loaded = peft.PeftConfig.from_pretrained(tmp_path)
    assert (loaded.scaling, loaded.disk_scaling, loaded.from_disk) == ("auto", 123.5, True)


def test_a_config_survives_copy_pickle_and_replace():
    config = FourierFTConfig(entries="bandpass", center=8.5, width=3)
    config.disk_scaling = 2.0
    for copied in (copy.deepcopy(config), copy.copy(config), pickle.loads(pickle.dumps(config))):
        assert copied == config
        assert copied.disk_scaling == 2.0
    assert dataclasses.replace(config, n_frequency=5).n_frequency == 5


def test_a_record_of_a_newer_version_is_refused():
    with pytest.raises(CheckpointError, match=r"\['wavelet'\].*upgrade fourierft"):
        FourierFTConfig(scaling=2.0, fourierft={"scaling": "auto", "wavelet": "db4"})


def test_a_record_without_its_number_is_refused():
    with pytest.raises(ConfigError, match=r"scaling='auto' beside fourierft\.scaling='auto'"):
        FourierFTConfig(scaling="auto", fourierft={"scaling": "auto"})
