"""axolotl's own command trains this package's adapter through a plug-in."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from fourierft.errors import ConfigError

from .conftest import Logits, Run, assert_stock_reads_it

SETTINGS = {
    "plugins": ["fourierft.integrations.axolotl.FourierFTPlugin"],
    "adapter": "fourierft",
    "fourierft": {"n_frequency": 50},
    "lora_target_linear": True,
    "chat_template": "tokenizer_default",
    "sequence_len": 64,
    "output_dir": "out",
    "max_steps": 5,
    "micro_batch_size": 2,
    "gradient_accumulation_steps": 1,
    "learning_rate": 0.01,
    "optimizer": "adamw_torch",
    "lr_scheduler": "constant",
    "save_strategy": "no",
    "bf16": False,
    "tf32": False,
    "flash_attention": False,
    "dataset_num_proc": 1,
}


def test_five_steps_train_an_adapter_that_stock_peft_reads(
    run: Run, logits: Logits, base: Path, chats: Path, tmp_path: Path
) -> None:
    data = {"path": str(chats), "ds_type": "json", "type": "chat_template"}
    (tmp_path / "run.yaml").write_text(yaml.safe_dump({**SETTINGS, "base_model": str(base), "datasets": [data]}))
    run("axolotl", "train", "run.yaml", AXOLOTL_DO_NOT_TRACK="1")
    config = json.loads((tmp_path / "out" / "adapter_config.json").read_text())
    assert config["fourierft"]["scaling"] == "auto"
    assert config["n_frequency"] == 50
    assert_stock_reads_it(logits, tmp_path / "out")


def load(base: Path, **settings: Any) -> Any:
    """What the plug-in makes of a base, by axolotl's settings."""
    from axolotl.utils.dict import DictDefault
    from transformers import AutoModelForCausalLM

    from fourierft.integrations.axolotl import FourierFTPlugin

    options = {name: settings.pop(name) for name in ("inference", "config_only") if name in settings}
    model = AutoModelForCausalLM.from_pretrained(base)
    return FourierFTPlugin().load_adapter(model, DictDefault(settings), **options)


@pytest.mark.filterwarnings("ignore")  # of axolotl's imports
def test_the_plug_in_makes_loads_and_leaves_alone_what_it_is_asked_for(base: Path, tmp_path: Path) -> None:
    assert load(base, adapter="lora") is None
    with pytest.raises(ConfigError, match="needs target modules; set lora_target_linear: true"):
        load(base, adapter="fourierft")
    places = {"adapter": "fourierft", "lora_target_modules": ["q_proj", "v_proj"]}
    nothing, config = load(base, config_only=True, fourierft={"n_frequency": 7, "scaling": 16.0}, **places)
    assert (nothing, config.n_frequency, config.scaling, config.task_type) == (None, 7, 16.0, "CAUSAL_LM")
    model, _ = load(base, fourierft={"n_frequency": 7}, **places)
    assert sum(one.numel() for one in model.parameters() if one.requires_grad) == 4 * 7  # two layers, two places
    model.save_pretrained(tmp_path / "adapter")
    for inference, trained in ((False, 4 * 7), (True, 0)):
        again, _ = load(base, lora_model_dir=str(tmp_path / "adapter"), inference=inference, **places)
        assert sum(one.numel() for one in again.parameters() if one.requires_grad) == trained
