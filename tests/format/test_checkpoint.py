"""Reading checkpoints: what stock PEFT wrote is what is read, and what is wrong is said in one sentence."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from fourierft import delta_weight
from fourierft.errors import CheckpointError
from fourierft.format.checkpoint import find_checkpoint, read_checkpoint

QUERY = "bert.encoder.layer.0.attention.self.query"
KEY = f"base_model.model.{QUERY}.fourierft_spectrum"


def refused(path: Path) -> str:
    """The sentence a checkpoint is refused with."""
    with pytest.raises(CheckpointError) as caught:
        read_checkpoint(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_coefficients_and_head_are_those_of_the_file(adapter: Path, tiny_bert: Path) -> None:
    checkpoint, tensors = read_checkpoint(adapter), load_file(adapter / "adapter_model.safetensors")
    assert len(checkpoint.coefficients) == 4
    assert torch.equal(checkpoint.coefficients[QUERY], tensors[KEY])
    assert torch.equal(checkpoint.saved_modules["classifier.weight"], tensors["base_model.model.classifier.weight"])
    assert (checkpoint.base_model, checkpoint.task_type) == (str(tiny_bert), "SEQ_CLS")
    assert (checkpoint.scaling, checkpoint.seed, checkpoint.band) == (25.0, 5, None)


def test_basis_gives_the_update_of_stock_peft(adapter: Path) -> None:
    checkpoint = read_checkpoint(adapter)
    coefficients = checkpoint.coefficients[QUERY]
    flat = torch.randperm(32 * 32, generator=torch.Generator().manual_seed(5))[:40]
    spectrum = torch.zeros(32 * 32).index_put((flat,), coefficients).reshape(32, 32)
    expected = torch.fft.ifft2(spectrum).real * 25.0
    torch.testing.assert_close(delta_weight(coefficients, checkpoint.basis(32, 32, 40), checkpoint.scaling), expected)


def test_band_of_the_own_record_is_read(edit_config: Callable[..., Path]) -> None:
    record = {"entries": "bandpass", "center": 3.0, "width": 2.0, "task_type": "SEQ_CLS"}
    checkpoint = read_checkpoint(edit_config(task_type="a sentence", fourierft=record))
    assert (checkpoint.band, checkpoint.task_type) == ((3.0, 2.0), "SEQ_CLS")
    assert checkpoint.basis(32, 32, 40).entries.shape == (2, 40)


def test_pattern_gives_layers_their_own_count(edit_config: Callable[..., Path], edit_weights: Any) -> None:
    edit_weights(lambda tensors: tensors.update({KEY: tensors[KEY][:30].clone()}))
    path = edit_config(n_frequency_pattern={r"layer\.0\.attention\.self\.query": 30})
    assert read_checkpoint(path).coefficients[QUERY].shape == (30,)


def test_what_other_programs_note_in_the_config_is_passed_over(edit_config: Callable[..., Path]) -> None:
    noted = {"base_model_class": "BertForSequenceClassification", "parent_library": "bert", "unsloth_fixed": True}
    path = edit_config(auto_mapping=noted, megatron_core=["x"], corda_config=None, use_rslora={"deep": [1]})
    assert len(read_checkpoint(path).coefficients) == 4


@pytest.mark.parametrize("name", ["adapter_config.json", "adapter_model.safetensors"])
def test_missing_file_is_named(adapter: Path, name: str) -> None:
    (adapter / name).unlink()
    assert f"{name} is missing" in refused(adapter)


def test_missing_folder_is_named(tmp_path: Path) -> None:
    assert "there is no folder" in refused(tmp_path / "nothing")


def test_file_in_place_of_the_folder_is_named(adapter: Path) -> None:
    assert "is a file; give the folder" in refused(adapter / "adapter_config.json")


def test_hub_id_without_network_is_refused() -> None:
    with pytest.raises(CheckpointError, match="no adapter of that id could be fetched from the hub"):
        find_checkpoint("nobody/nothing")


def test_pickle_is_refused(adapter: Path) -> None:
    (adapter / "adapter_model.safetensors").rename(adapter / "adapter_model.bin")
    assert "is a pickle, which can run code" in refused(adapter)


@pytest.mark.parametrize("kept", [0, 5, 200, -10])
def test_truncated_weights_are_refused(adapter: Path, kept: int) -> None:
    file = adapter / "adapter_model.safetensors"
    file.write_bytes(file.read_bytes()[:kept])
    assert "truncated or damaged" in refused(adapter)


@pytest.mark.parametrize(("value", "word"), [(float("nan"), "NaN"), (float("inf"), "infinity")])
def test_layer_with_nan_is_named(edit_weights: Any, value: float, word: str) -> None:
    assert f"holds {word} in {QUERY}" in refused(
        edit_weights(lambda tensors: tensors[KEY].index_fill_(0, torch.tensor(3), value))
    )


def test_nan_in_the_head_is_named(edit_weights: Any) -> None:
    path = edit_weights(lambda tensors: tensors["base_model.model.classifier.bias"].fill_(float("nan")))
    assert "holds NaN in classifier.bias" in refused(path)


def test_other_count_than_the_config_says_is_refused(edit_config: Callable[..., Path]) -> None:
    message = refused(edit_config(n_frequency=41))
    assert "shape [40]" in message
    assert "n_frequency=41" in message


def test_other_method_is_named(edit_config: Callable[..., Path]) -> None:
    assert "peft_type='LORA'" in refused(edit_config(peft_type="LORA"))


def test_weights_of_another_method_are_refused(edit_weights: Any) -> None:
    def rename(tensors: dict[str, torch.Tensor]) -> None:
        for key in [key for key in tensors if key.endswith("spectrum")]:
            tensors[key.replace("fourierft_spectrum", "lora_A.weight")] = tensors.pop(key)

    assert "no FourierFT coefficients" in refused(edit_weights(rename))


@pytest.mark.parametrize("text", ["", "{", '{"peft_type": }', "\x00"])
def test_malformed_config_is_refused(adapter: Path, text: str) -> None:
    (adapter / "adapter_config.json").write_text(text)
    assert "cannot be read as JSON" in refused(adapter)


def test_config_that_is_no_object_is_refused(adapter: Path) -> None:
    (adapter / "adapter_config.json").write_text("[1]")
    assert "JSON list instead of an object" in refused(adapter)


@pytest.mark.parametrize(
    ("fields", "word"),
    [
        ({"n_frequency": 0}, "n_frequency=0"),
        ({"n_frequency": "40"}, "n_frequency='40'"),
        ({"n_frequency": True}, "n_frequency=True"),
        ({"n_frequency_pattern": [1]}, "n_frequency_pattern=[1]"),
        ({"n_frequency_pattern": {"query": -1}}, "n_frequency_pattern['query']=-1"),
        ({"n_frequency_pattern": {"(": 1}}, "a pattern that is not allowed"),
        ({"scaling": "auto"}, "scaling='auto'"),
        ({"scaling": float("nan")}, "NaN is not valid JSON"),
        ({"random_loc_seed": None}, "random_loc_seed=None"),
        ({"random_loc_seed": 2**64}, "it must be an integer of at most 64 bits"),
        ({"scaling": 1e31}, "scaling=1e+31; it must be a finite number, up to 1e+30"),
        ({"base_model_name_or_path": ["a"]}, "base_model_name_or_path=['a']"),
        ({"base_model_name_or_path": "a\nb"}, r"base_model_name_or_path='a\nb'"),
        ({"revision": 7}, "revision=7"),
        ({"target_modules": [["query"]]}, "target_modules=[['query']]"),
        ({"layers_to_transform": ["0"]}, "layers_to_transform=['0']"),
        ({"auto_mapping": {"base_model_class": 3}}, "auto_mapping={'base_model_class': 3}"),
        ({"fan_in_fan_out": "yes"}, "fan_in_fan_out='yes'"),
        ({"fourierft": {"entries": "spiral"}}, "upgrade fourierft"),
        ({"fourierft": {"entries": "bandpass", "center": 1}}, "width=None"),
    ],
)
def test_field_that_makes_no_sense_is_named(
    edit_config: Callable[..., Path], fields: dict[str, Any], word: str
) -> None:
    assert word in refused(edit_config(**fields))


def test_matrices_of_adapted_layers_are_told_from_trained_heads_and_biases(edit_weights: Any) -> None:
    path = edit_weights(
        lambda tensors: tensors.update(
            {
                f"base_model.model.{QUERY}.base_layer.weight": torch.zeros(32, 32),
                f"base_model.model.{QUERY}.base_layer.bias": torch.zeros(32),
                "base_model.model.classifier.modules_to_save.bias": torch.zeros(3),
            }
        )
    )
    checkpoint = read_checkpoint(path)
    assert set(checkpoint.matrices) == {f"{QUERY}.weight"}
    assert set(checkpoint.saved_modules) == {f"{QUERY}.bias", "classifier.weight", "classifier.bias"}
