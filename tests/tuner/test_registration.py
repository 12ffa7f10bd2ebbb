"""enable() and disable() change PEFT's tables and nothing else."""

import subprocess
import sys
from contextlib import nullcontext

import peft
import pytest
import torch
from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING, PEFT_TYPE_TO_TUNER_MAPPING

from fourierft.errors import ConfigError
from fourierft.tuner import FourierFTConfig, FourierFTModel, disable, enable


def tables():
    return PEFT_TYPE_TO_CONFIG_MAPPING[peft.PeftType.FOURIERFT], PEFT_TYPE_TO_TUNER_MAPPING[peft.PeftType.FOURIERFT]


def test_enabling_twice_and_disabling_twice_is_enabling_and_disabling_once():
    enable()
    enable()
    assert tables() == (FourierFTConfig, FourierFTModel)
    disable()
    assert tables() == (peft.FourierFTConfig, peft.FourierFTModel)
    disable()
    assert tables() == (peft.FourierFTConfig, peft.FourierFTModel)
    enable()
    assert tables() == (FourierFTConfig, FourierFTModel)


def test_importing_the_tuner_changes_no_table():
    code = (
        "import fourierft.tuner, peft, peft.mapping as m; t = peft.PeftType.FOURIERFT; "
        "assert m.PEFT_TYPE_TO_TUNER_MAPPING[t] is peft.FourierFTModel; "
        "assert m.PEFT_TYPE_TO_CONFIG_MAPPING[t] is peft.FourierFTConfig"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("init_weights", [False, True])
def test_code_with_a_stock_config_gives_the_same_model_after_enable(make_bert, stock, init_weights):
    ids = torch.randint(3, 60, (4, 7))
    outputs, states = [], []
    for context in (stock, None):
        config = peft.FourierFTConfig(n_frequency=40, target_modules=["query", "value"], init_weights=init_weights)
        model = make_bert()
        torch.manual_seed(3)
        if context is None:
            adapted = peft.get_peft_model(model, config)
        else:
            with context():
                adapted = peft.get_peft_model(model, config)
        assert isinstance(adapted.base_model, FourierFTModel) == (context is None)
        states.append((peft.get_peft_model_state_dict(adapted), torch.rand(1)))
        outputs.append(adapted.eval()(input_ids=ids).logits)
    assert config.scaling == 150.0
    assert states[0][0].keys() == states[1][0].keys()
    assert all(torch.equal(states[0][0][key], states[1][0][key]) for key in states[0][0])
    assert torch.equal(states[0][1], states[1][1]), "the random generator went another way"
    torch.testing.assert_close(outputs[1], outputs[0], rtol=1e-5, atol=1e-6)


def test_a_config_can_be_made_before_enable(stock, make_mlp):
    with stock():
        config = FourierFTConfig(n_frequency=9, target_modules=["square", "tall"])
    assert isinstance(peft.get_peft_model(make_mlp(), config).base_model, FourierFTModel)


def test_entries_that_stock_would_draw_otherwise_ask_for_enable(stock):
    with stock(), pytest.raises(ConfigError, match=r"call fourierft\.enable\(\) first"):
        FourierFTConfig(entries="bandpass", center=3.0, width=2.0)


WAYS = {
    "get_peft_model": lambda model, config: peft.get_peft_model(model, config),
    "PeftModel": lambda model, config: peft.PeftModel(model, config),
    "inject": lambda model, config: peft.inject_adapter_in_model(config, model),
    "transformers": lambda model, config: model.add_adapter(config),
    "a second one": lambda model, config: peft.get_peft_model(model, plain()).add_adapter("more", config),
}


def plain():
    return peft.FourierFTConfig(n_frequency=9, target_modules=["query"])


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("scaling", ["auto", 150.0])
def test_stock_in_place_makes_no_adapter_of_our_config(stock, make_bert, transformers_own, way, scaling):
    config = FourierFTConfig(n_frequency=9, target_modules=["query"], scaling=scaling)
    with transformers_own if way == "transformers" else nullcontext():
        with stock():
            model = make_bert()
            with pytest.raises(ConfigError, match=r"stock PEFT's is active; call fourierft\.enable\(\) first"):
                WAYS[way](model, config)
            assert not any("more" in name for name, _ in model.named_parameters())
        adapted = make_bert()
        WAYS[way](adapted, config)
        assert any("fourierft_coefficients" in name for name, _ in adapted.named_parameters())


def test_a_model_that_was_made_keeps_running_with_stock_in_place(stock, make_bert):
    config = FourierFTConfig(n_frequency=9, target_modules=["query"], task_type="SEQ_CLS", init_weights=False)
    model = peft.get_peft_model(make_bert(), config).eval()
    ids = torch.randint(3, 60, (2, 5))
    expected = model(input_ids=ids).logits
    with stock():
        assert torch.equal(model(input_ids=ids).logits, expected)


def test_a_checkpoint_is_not_saved_with_stock_in_place(make_mlp, stock, tmp_path):
    model = peft.get_peft_model(make_mlp(), FourierFTConfig(n_frequency=9, target_modules=["square", "tall"]))
    with stock(), pytest.raises(ConfigError, match=r"call fourierft\.enable\(\) first"):
        model.save_pretrained(tmp_path)
    assert not (tmp_path / "adapter_config.json").exists()
