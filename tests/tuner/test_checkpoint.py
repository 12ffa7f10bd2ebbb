"""Adapters on disk: the same model in stock PEFT and back, and an error where stock PEFT cannot follow."""

import json
import os
import subprocess
import sys
import warnings
from typing import Any

import peft
import pytest
import torch
from peft import (
    PeftModel,
    get_peft_model,
    get_peft_model_state_dict,
    load_peft_weights,
    set_peft_model_state_dict,
)
from safetensors.torch import load_file, save_file

from fourierft.errors import CheckpointError, ShapeError
from fourierft.tuner import FourierFTConfig, FourierFTLayer, scaling

IDS = torch.randint(3, 60, (4, 7), generator=torch.Generator().manual_seed(0))
DTYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float16]
# Rounding of the base model's own products; the update itself is the same numbers.
TOLERANCE = {torch.float64: 1e-6, torch.float32: 2e-5, torch.bfloat16: 4e-2, torch.float16: 5e-3}
SETTINGS = {
    "number": {"scaling": 40.0},
    "auto": {"scaling": "auto"},
    "normal start": {"scaling": 150.0, "init_weights": False},
    "no pattern": {"n_frequency_pattern": None},
    "pattern": {"n_frequency_pattern": {"layers.1.self_attn.v_proj": 11}},
    "some layers": {"layers_to_transform": [0, 2]},
}
TARGETS = ["q_proj", "v_proj", "down_proj"]


def config(**settings):
    usual: dict[str, Any] = {"n_frequency": 60, "target_modules": TARGETS, "task_type": "CAUSAL_LM"}
    return FourierFTConfig(**usual | settings)


def logits(model):
    with torch.no_grad():
        return model.eval()(input_ids=IDS).logits


def load_in_stock(make, stock, path, dtype=torch.float32):
    with stock(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"Unexpected keyword arguments \['fourierft'\]")
        return PeftModel.from_pretrained(make().to(dtype), path)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
def test_a_checkpoint_gives_the_same_logits_in_stock_peft_and_back(
    make_llama, stock, randomise, tmp_path, settings, dtype
):
    model = get_peft_model(make_llama().to(dtype), config(**settings))
    randomise(model)
    expected = logits(model)
    assert (expected - logits(make_llama().to(dtype))).abs().max() > 10 * TOLERANCE[dtype], "the adapter does nothing"
    model.save_pretrained(tmp_path / "ours")

    theirs = load_in_stock(make_llama, stock, tmp_path / "ours", dtype)
    assert isinstance(theirs.base_model, peft.FourierFTModel)
    torch.testing.assert_close(logits(theirs), expected, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype])

    with stock():
        theirs.save_pretrained(tmp_path / "theirs")
    back = PeftModel.from_pretrained(make_llama().to(dtype), tmp_path / "theirs")
    torch.testing.assert_close(logits(back), expected, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype])


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_stock_checkpoint_gives_the_same_logits_here_and_back(make_llama, stock, tmp_path, dtype):
    with stock():
        theirs = get_peft_model(
            make_llama().to(dtype), peft.FourierFTConfig(n_frequency=60, target_modules=TARGETS, scaling=40.0)
        )
        expected = logits(theirs)
        theirs.save_pretrained(tmp_path / "theirs")
    ours = PeftModel.from_pretrained(make_llama().to(dtype), tmp_path / "theirs")
    torch.testing.assert_close(logits(ours), expected, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype])
    ours.save_pretrained(tmp_path / "ours")
    files = [tmp_path / name / "adapter_model.safetensors" for name in ("ours", "theirs")]
    assert files[0].read_bytes() == files[1].read_bytes()
    fields = [json.loads((tmp_path / name / "adapter_config.json").read_text()) for name in ("ours", "theirs")]
    assert fields[0].pop("fourierft")["layers"] == 9
    fields[1]["target_modules"].sort()  # a set's order differs from process to process
    assert fields[0] == fields[1]


def test_names_are_saved_in_the_order_of_the_alphabet_whatever_process_saves_them(tmp_path):
    names = [f"{letter}_proj" for letter in "qkvabcdef"]
    FourierFTConfig(target_modules=names, exclude_modules=names[3:]).save_pretrained(tmp_path / "here")
    script = (
        "import json, sys, fourierft; fourierft.enable(); "
        "fourierft.FourierFTConfig(**json.loads(sys.argv[1])).save_pretrained(sys.argv[2])"
    )
    given = json.dumps({"target_modules": names, "exclude_modules": names[3:]})
    environment = {**os.environ, "PYTHONHASHSEED": "1"}  # sets lie in another order than here
    subprocess.run([sys.executable, "-c", script, given, str(tmp_path / "there")], check=True, env=environment)
    saved = [(tmp_path / process / "adapter_config.json").read_bytes() for process in ("here", "there")]
    assert saved[0] == saved[1]
    fields = json.loads(saved[0])
    assert fields["target_modules"] == [f"{letter}_proj" for letter in "abcdefkqv"]
    assert fields["exclude_modules"] == [f"{letter}_proj" for letter in "abcdef"]


def test_of_a_plain_checkpoint_stock_peft_says_only_that_it_does_not_know_the_record(make_llama, stock, tmp_path):
    get_peft_model(make_llama(), config(scaling=40.0)).save_pretrained(tmp_path)
    with stock(), pytest.warns(UserWarning, match=r"Unexpected keyword arguments \['fourierft'\]") as caught:
        PeftModel.from_pretrained(make_llama(), tmp_path)
    assert len([warning for warning in caught if warning.category is UserWarning]) == 1


def test_auto_comes_back_as_auto_with_the_same_scale_and_coefficients(make_llama, randomise, tmp_path):
    model = get_peft_model(make_llama(), config())
    randomise(model)
    model.save_pretrained(tmp_path)
    loaded = PeftModel.from_pretrained(make_llama(), tmp_path, is_trainable=True)
    told: Any = loaded.peft_config["default"]
    assert told.scaling == "auto"
    layers = [dict(m.base_model.model.model.layers[1].self_attn.named_children()) for m in (model, loaded)]
    for name in ("q_proj", "v_proj"):
        assert layers[0][name].fourierft_scaling == layers[1][name].fourierft_scaling
        torch.testing.assert_close(
            layers[1][name].fourierft_spectrum["default"],
            layers[0][name].fourierft_spectrum["default"],
            rtol=2 * torch.finfo(torch.float32).eps,
            atol=0,
        )
    assert layers[0]["q_proj"].fourierft_scaling != layers[0]["v_proj"].fourierft_scaling
    on_disk = json.loads((tmp_path / "adapter_config.json").read_text())
    assert on_disk["scaling"] == layers[0]["q_proj"].fourierft_scaling["default"]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_saving_and_loading_is_exact_where_all_layers_have_one_shape(make_bert, randomise, tmp_path, dtype):
    settings = FourierFTConfig(n_frequency=60, target_modules=["query", "value"], task_type="SEQ_CLS")
    model = get_peft_model(make_bert().to(dtype), settings, autocast_adapter_dtype=False)
    randomise(model)
    model.save_pretrained(tmp_path)
    loaded = PeftModel.from_pretrained(make_bert().to(dtype), tmp_path, autocast_adapter_dtype=False)
    assert torch.equal(logits(loaded), logits(model))


def test_half_precision_coefficients_survive_folding_exactly(make_llama, randomise, tmp_path):
    model = get_peft_model(make_llama().to(torch.bfloat16), config(), autocast_adapter_dtype=False)
    randomise(model)
    model.save_pretrained(tmp_path)
    loaded = PeftModel.from_pretrained(make_llama().to(torch.bfloat16), tmp_path, autocast_adapter_dtype=False)
    for (key, ours), theirs in zip(model.state_dict().items(), loaded.state_dict().values(), strict=True):
        assert ours.dtype == theirs.dtype == torch.bfloat16
        assert torch.equal(ours, theirs), key


def test_training_goes_on_from_a_checkpoint_as_if_it_had_not_stopped(make_llama, tmp_path):
    def train(model, steps):
        optimiser = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=1e-3)
        for _ in range(steps):
            optimiser.zero_grad()
            model(input_ids=IDS, labels=IDS).loss.backward()
            optimiser.step()
        return model

    straight = train(get_peft_model(make_llama(), config()), 6)
    train(get_peft_model(make_llama(), config()), 3).save_pretrained(tmp_path)
    resumed = train(PeftModel.from_pretrained(make_llama(), tmp_path, is_trainable=True), 3)
    assert (logits(straight) - logits(make_llama())).abs().max() > 1e-2, "nothing was learned"
    torch.testing.assert_close(logits(resumed), logits(straight), rtol=1e-4, atol=1e-5)


def test_a_checkpoint_stays_the_same_model_when_the_auto_rule_changes(make_llama, randomise, tmp_path, monkeypatch):
    model = get_peft_model(make_llama(), config())
    randomise(model)
    model.save_pretrained(tmp_path)
    monkeypatch.setattr(scaling, "TRAVEL", 3.0)
    loaded = PeftModel.from_pretrained(make_llama(), tmp_path)
    torch.testing.assert_close(logits(loaded), logits(model), rtol=1e-5, atol=1e-5)


def test_an_adapter_made_under_rule_1_trains_on_at_its_scale_and_says_so_again(make_llama, randomise, tmp_path):
    model = get_peft_model(make_llama(), config())
    randomise(model)
    model.save_pretrained(tmp_path / "new")
    fields = json.loads((tmp_path / "new" / "adapter_config.json").read_text())
    assert fields["fourierft"].pop("rule") == scaling.RULE  # before there was a second rule, files did not say
    (tmp_path / "new" / "adapter_config.json").write_text(json.dumps(fields))
    old = PeftModel.from_pretrained(make_llama(), tmp_path / "new", is_trainable=True)
    torch.testing.assert_close(logits(old), logits(model), rtol=1e-5, atol=1e-5)
    old.train()
    for layer in (module for module in old.modules() if isinstance(module, FourierFTLayer)):
        n = layer.fourierft_basis["default"].n_frequency
        expected = scaling.auto_scaling(layer.out_features, layer.in_features, n, rule=1)
        assert layer.fourierft_scaling["default"] == expected
    old.save_pretrained(tmp_path / "again")
    assert json.loads((tmp_path / "again" / "adapter_config.json").read_text())["fourierft"]["rule"] == 1
    torch.testing.assert_close(
        logits(PeftModel.from_pretrained(make_llama(), tmp_path / "again")), logits(model), rtol=1e-5, atol=1e-5
    )


@pytest.mark.parametrize("low_cpu_mem_usage", [False, True])
def test_a_state_dict_moves_between_models_by_pefts_functions(make_llama, randomise, low_cpu_mem_usage):
    model = get_peft_model(make_llama(), config())
    randomise(model)
    state = get_peft_model_state_dict(model)
    assert all(key.endswith("fourierft_spectrum") for key in state)
    other = get_peft_model(make_llama(), config(), adapter_name="other", low_cpu_mem_usage=low_cpu_mem_usage)
    result: Any = set_peft_model_state_dict(other, state, adapter_name="other", low_cpu_mem_usage=low_cpu_mem_usage)
    assert not result.unexpected_keys
    torch.testing.assert_close(logits(other), logits(model), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("scaling", [0.0, 7.0])
def test_a_layer_whose_scaling_was_changed_by_hand_keeps_its_coefficients(make_llama, randomise, tmp_path, scaling):
    model = get_peft_model(make_llama(), config(scaling=40.0))
    randomise(model)
    layer = model.base_model.model.model.layers[0].self_attn.q_proj
    before = layer.fourierft_spectrum["default"].detach().clone()
    layer.fourierft_scaling["default"] = layer.own_scaling["default"] = scaling
    model.train().save_pretrained(tmp_path)
    assert torch.equal(layer.fourierft_spectrum["default"], before)
    saved = load_file(tmp_path / "adapter_model.safetensors")
    key = "base_model.model.model.layers.0.self_attn.q_proj.fourierft_spectrum"
    torch.testing.assert_close(saved[key], before * (scaling / 40.0 if scaling else 1.0))


def test_a_scaling_of_zero_is_saved_and_loaded(make_llama, tmp_path):
    model = get_peft_model(make_llama(), config(scaling=0.0, init_weights=False)).train()
    model.save_pretrained(tmp_path)
    loaded = PeftModel.from_pretrained(make_llama(), tmp_path)
    for key, value in get_peft_model_state_dict(model).items():
        assert torch.equal(get_peft_model_state_dict(loaded)[key], value)


@pytest.mark.parametrize("wrap", [torch.compile, torch.nn.DataParallel])
def test_a_state_dict_taken_of_a_wrapped_model_is_the_same(make_llama, randomise, wrap):
    model = get_peft_model(make_llama(), config())
    randomise(model)
    expected = get_peft_model_state_dict(model)
    layer = model.base_model.model.model.layers[0]
    if wrap is torch.compile:
        model.base_model.model.model.layers[0] = torch.compile(layer, backend="eager")
        expected = {k.replace("layers.0.", "layers.0._orig_mod."): v for k, v in expected.items()}
        state = get_peft_model_state_dict(model)
    else:
        raw = {key: value.clone() for key, value in wrap(model).module.state_dict().items()}
        state = get_peft_model_state_dict(model, state_dict=raw)
    assert state.keys() == expected.keys()
    assert all(torch.equal(state[key], expected[key]) for key in expected)


def test_a_model_with_injected_layers_only_saves_the_same_coefficients(make_llama, randomise):
    wrapped = get_peft_model(make_llama(), config())
    injected = peft.inject_adapter_in_model(config(), make_llama())
    for model in (wrapped, injected):
        randomise(model)
    state = get_peft_model_state_dict(injected)
    expected = get_peft_model_state_dict(wrapped)
    assert {f"base_model.model.{key}" for key in state} == set(expected)
    assert all(torch.equal(value, expected[f"base_model.model.{key}"]) for key, value in state.items())
    fresh = peft.inject_adapter_in_model(config(), make_llama())
    set_peft_model_state_dict(fresh, expected)
    torch.testing.assert_close(logits(fresh), logits(wrapped), rtol=1e-5, atol=1e-5)


BAND = {"entries": "bandpass", "center": 6.0, "width": 4.0}


def test_bandpass_entries_come_back_and_fail_in_stock_peft(make_llama, stock, randomise, tmp_path):
    model = get_peft_model(make_llama(), config(**BAND))
    randomise(model)
    model.save_pretrained(tmp_path)
    loaded = PeftModel.from_pretrained(make_llama(), tmp_path)
    assert loaded.peft_config["default"].task_type == "CAUSAL_LM"
    torch.testing.assert_close(logits(loaded), logits(model), rtol=1e-5, atol=1e-5)
    message = r"entries='bandpass', which only the package fourierft reads: .* call fourierft\.enable\(\)"
    with stock(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for load in (
            lambda: PeftModel.from_pretrained(make_llama(), tmp_path),
            lambda: peft.PeftConfig.from_pretrained(tmp_path),
            lambda: peft.FourierFTConfig.from_pretrained(tmp_path),
            lambda: peft.AutoPeftModelForCausalLM.from_pretrained(tmp_path),
            lambda: get_peft_model(make_llama(), peft.LoraConfig(target_modules=TARGETS)).load_adapter(tmp_path, "x"),
        ):
            with pytest.raises(ValueError, match=message):
                load()


def test_a_checkpoint_with_nan_is_refused(make_llama, tmp_path):
    get_peft_model(make_llama(), config()).save_pretrained(tmp_path)
    weights = load_file(tmp_path / "adapter_model.safetensors")
    weights[sorted(weights)[0]][3] = float("nan")
    save_file(weights, tmp_path / "adapter_model.safetensors")
    with pytest.raises(CheckpointError, match=r"fourierft_spectrum\.default has 1 values .* not finite"):
        PeftModel.from_pretrained(make_llama(), tmp_path)


def test_a_checkpoint_of_another_n_frequency_is_refused(make_llama, tmp_path):
    get_peft_model(make_llama(), config()).save_pretrained(tmp_path)
    path = tmp_path / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"n_frequency": 61}))
    with pytest.raises(CheckpointError, match=r"shape \[60\] in the checkpoint, but this adapter has \[61\]"):
        PeftModel.from_pretrained(make_llama(), tmp_path)


def test_mismatched_sizes_can_be_ignored_as_in_peft(make_llama, randomise, tmp_path):
    model = get_peft_model(make_llama(), config())
    randomise(model)
    state = get_peft_model_state_dict(model)
    first = sorted(state)[0]
    state[first] = state[first][:5]
    other = get_peft_model(make_llama(), config())
    with pytest.warns(UserWarning, match="ignored because you passed `ignore_mismatched_sizes=True`"):
        set_peft_model_state_dict(other, state, ignore_mismatched_sizes=True)


def test_a_checkpoint_of_another_model_is_refused(make_llama, make_bert, tmp_path):
    get_peft_model(make_llama(), config()).save_pretrained(tmp_path)
    path = tmp_path / "adapter_config.json"
    other = json.loads(path.read_text()) | {"target_modules": ["query"], "task_type": None}
    path.write_text(json.dumps(other))
    with pytest.raises(ShapeError, match="made for 9 layers, but its settings match 2 of this model"):
        PeftModel.from_pretrained(make_bert(), tmp_path)
    path.write_text(json.dumps({key: value for key, value in other.items() if key != "fourierft"}))
    with pytest.raises(CheckpointError, match=r"coefficients of 9 layers, such as .* none of them is adapted"):
        PeftModel.from_pretrained(make_bert(), tmp_path)


def test_coefficients_that_find_no_layer_are_named(make_llama):
    state = get_peft_model_state_dict(get_peft_model(make_llama(), config()))
    fewer = get_peft_model(make_llama(), config(layers_to_transform=[0]))
    with pytest.warns(UserWarning, match=r"coefficients of 6 layers that are not adapted in this model"):
        set_peft_model_state_dict(fewer, state)


def test_a_new_adapter_from_the_config_of_a_checkpoint_starts_like_the_first(make_llama, tmp_path):
    settings = config(init_weights=False)
    models = []
    for _ in range(2):
        torch.manual_seed(9)
        models.append(get_peft_model(make_llama(), settings))
        models[-1].save_pretrained(tmp_path)
        settings = peft.PeftConfig.from_pretrained(tmp_path)
    torch.testing.assert_close(logits(models[1]), logits(models[0]), rtol=1e-5, atol=1e-5)
    scalings = [
        [m.fourierft_scaling for m in model.train().modules() if hasattr(m, "fourierft_scaling")] for model in models
    ]
    assert scalings[0] == scalings[1]


def test_an_adapter_loaded_over_another_is_the_one_of_the_file_or_refused(make_llama, tmp_path):
    """PEFT keeps the settings of the adapter that is there: a file of the same ones is read right, bit for bit."""
    for name, targets in (("a", ["q_proj", "v_proj"]), ("b", ["q_proj", "v_proj"]), ("c", ["q_proj", "k_proj"])):
        model = get_peft_model(make_llama(), config(target_modules=targets, init_weights=False))
        model.save_pretrained(tmp_path / name)
    ids = torch.randint(3, 60, (2, 5))
    expected = PeftModel.from_pretrained(make_llama(), tmp_path / "b")(input_ids=ids).logits
    for load in (
        lambda model, path: model.load_adapter(path, "default"),
        lambda model, path: set_peft_model_state_dict(model, load_peft_weights(path)),
    ):
        model = PeftModel.from_pretrained(make_llama(), tmp_path / "a")
        load(model, tmp_path / "b")
        assert torch.equal(model(input_ids=ids).logits, expected)
        with pytest.raises(CheckpointError, match=r"k_proj, which is not adapted .* none of .*v_proj, which is"):
            load(model, tmp_path / "c")
        assert torch.equal(model(input_ids=ids).logits, expected)
