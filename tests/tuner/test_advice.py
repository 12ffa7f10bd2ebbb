"""Settings that match nothing in the model are told, with what was likely meant; settings that do are not."""

from typing import Any

import pytest
import torch
from peft import PeftModel, get_peft_model

from fourierft.errors import ConfigError
from fourierft.tuner import FourierFTConfig

IDS = torch.randint(3, 60, (4, 7), generator=torch.Generator().manual_seed(0))


def config(**settings):
    usual: dict[str, Any] = {"n_frequency": 40, "target_modules": ["q_proj", "v_proj"]}
    return FourierFTConfig(**usual | settings)


def logits(model):
    with torch.no_grad():
        return model.eval()(input_ids=IDS).logits


def test_an_unknown_target_module_is_refused_with_the_nearest_names(make_llama):
    model = make_llama()
    with pytest.raises(ConfigError, match=r"target_modules has 'qproj', the nearest names in the model are q_proj"):
        get_peft_model(model, config(target_modules=["qproj"]))
    with pytest.raises(ConfigError, match=r"has '\.\*self_atn\.\(q\|v\)_prj', the nearest names"):
        get_peft_model(model, config(target_modules=".*self_atn.(q|v)_prj"))


def test_a_target_that_matches_nothing_beside_one_that_does_is_named_in_a_warning(make_llama):
    with pytest.warns(UserWarning, match=r"match nothing in the model: target_modules has 'vproj', .* v_proj"):
        get_peft_model(make_llama(), config(target_modules=["q_proj", "vproj"]))


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"modules_to_save": ["lm_hed"]}, "modules_to_save has 'lm_hed', the nearest names in the model are lm_head"),
        (
            {"n_frequency_pattern": {"qproj": 4}},
            "n_frequency_pattern has 'qproj', the nearest names in the model are q_proj",
        ),
        (
            {"n_frequency_pattern": {"q_proj|v_proj": 4}},
            r"'q_proj\|v_proj', which does not mean model.layers.0.self_attn.v_proj; .* as in '\(q_proj\|v_proj\)'",
        ),
        ({"layers_to_transform": [0, 7]}, "layers_to_transform has 7, the layers are 0, 1, 2$"),
    ],
)
def test_a_setting_that_matches_nothing_is_named_in_a_warning(make_llama, settings, told):
    with pytest.warns(UserWarning, match=told):
        get_peft_model(make_llama(), config(**settings))


def test_settings_that_match_are_not_warned_of(make_llama, make_bert, recwarn):
    settings: dict[str, Any] = {
        "n_frequency_pattern": {"(q_proj|k_proj)": 4, r"0.*.v_proj": 5},
        "modules_to_save": ["lm_head"],
    }
    get_peft_model(make_llama(), config(**settings, layers_to_transform=[0, 1]))
    get_peft_model(make_llama(), config(layers_to_transform=1))
    get_peft_model(make_bert(), FourierFTConfig(n_frequency=9, target_modules=["query"], task_type="SEQ_CLS"))
    assert [str(found.message) for found in recwarn if "match nothing" in str(found.message)] == []


def test_saving_a_module_that_holds_linear_layers_merges_and_does_not_warn(make_bert, randomise, tmp_path, recwarn):
    settings: dict[str, Any] = {"target_modules": "all-linear", "modules_to_save": ["pooler"], "task_type": "SEQ_CLS"}
    model = get_peft_model(make_bert(), FourierFTConfig(n_frequency=9, **settings))
    randomise(model)
    with torch.no_grad():
        model.base_model.model.bert.pooler.modules_to_save["default"].dense.bias += 1
    expected = logits(model)
    model.save_pretrained(tmp_path)
    torch.testing.assert_close(logits(PeftModel.from_pretrained(make_bert(), tmp_path)), expected)
    merged = model.merge_and_unload()
    torch.testing.assert_close(logits(merged), expected, rtol=1e-5, atol=1e-5)
    assert type(merged.bert.pooler).__name__ == "BertPooler"
    assert [str(found.message) for found in recwarn if "match nothing" in str(found.message)] == []
