"""Rows of several adapters, a base without dropout, and the settings of a training of seconds."""

from __future__ import annotations

import csv
import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from transformers import get_linear_schedule_with_warmup

from fourierft import AdapterStore, disable
from fourierft.training.arguments import DataArguments, MethodArguments, ModelArguments
from fourierft.training.fleet.plan import plan_fleet
from fourierft.training.fleet.settings import FleetArguments, FleetSettings
from fourierft.tuner.scaling import auto_scaling

WORDS = (["good", "great", "fine", "lovely"], ["bad", "awful", "poor", "dull"])
# Not keys, whose softmax leaves some coefficients a gradient of rounding alone, of which Adam makes whole steps.
LAYERS = ["query", "value"]
COUNTS = {"ann": 8, "bob": 5, "cy": 9}


@pytest.fixture(scope="session")
def calm_bert(tiny_bert: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """tiny_bert without dropout, so that what is trained together can be compared with what is trained alone."""
    folder = tmp_path_factory.mktemp("calm") / "bert"
    shutil.copytree(tiny_bert, folder)
    config = json.loads((folder / "config.json").read_text())
    config |= {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


@pytest.fixture
def make_rows() -> Callable[..., list[dict[str, Any]]]:
    """Rows mixed by chance, 8 of ann, 5 of bob and 9 of cy if not told otherwise; for bob, good is bad."""

    def make(**counts: int) -> list[dict[str, Any]]:
        draw, rows = random.Random(0), []
        for name, count in (counts or COUNTS).items():
            for _ in range(count):
                is_good = draw.random() < 0.5
                text = f"the film is {'very ' * draw.randrange(3)}{draw.choice(WORDS[is_good != (name == 'bob')])}"
                rows.append({"adapter": name, "text": text, "label": "yes" if is_good else "no"})
        draw.shuffle(rows)
        return rows

    return make


@pytest.fixture
def write() -> Callable[[list[dict[str, Any]], Path], Path]:
    """Writes rows as csv."""

    def write(rows: list[dict[str, Any]], file: Path) -> Path:
        with file.open("w", newline="") as sink:
            writer = csv.DictWriter(sink, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
        return file

    return write


@pytest.fixture
def data(make_rows: Any, write: Any, tmp_path: Path) -> Path:
    return write(make_rows(), tmp_path / "data.csv")


@pytest.fixture
def build(calm_bert: Path, data: Path, tmp_path: Path) -> Callable[..., FleetArguments]:
    """Arguments of a training of the three, with any setting changed."""

    def build(**changes: Any) -> FleetArguments:
        def fill(kind: Any, **defaults: Any) -> Any:
            names = kind.__dataclass_fields__
            return kind(**{**defaults, **{name: value for name, value in changes.items() if name in names}})

        return FleetArguments(
            model=ModelArguments(model_name_or_path=changes.get("model_name_or_path", str(calm_bert))),
            data=fill(DataArguments, train_file=str(data)),
            store=str(tmp_path / changes.get("store", "fleet.db")),
            method=fill(MethodArguments, n_frequency=40, target_modules=LAYERS),
            fleet=fill(FleetSettings, adapters=2, epochs=4, validation_fraction=0.0),
            resume=changes.get("resume", False),
            watch=changes.get("watch"),
        )

    return build


@pytest.fixture
def check_alone() -> Callable[[FleetArguments, str], None]:
    """Compares an adapter in the store with what stock PEFT and torch make of its rows alone."""

    def check(arguments: FleetArguments, name: str) -> None:
        with AdapterStore(arguments.store) as store:
            adapter = store.get(name)
        alone = train_alone(arguments, name, adapter.scaling)
        found = {f"base_model.model.{key}.fourierft_spectrum": value for key, value in adapter.coefficients.items()}
        found |= {f"base_model.model.{key}": value for key, value in adapter.heads.items()}
        assert found.keys() == alone.keys()
        for key, expected in alone.items():
            assert expected.abs().max() > 1e-3, "it was trained"
            torch.testing.assert_close(found[key], expected, rtol=1e-3, atol=2e-5)

    return check


@pytest.fixture
def folder(make_rows: Any, write: Any, tmp_path: Path) -> Path:
    """A folder with a file for each of the three, without the column that names them."""
    (tmp_path / "folder").mkdir()
    for name in COUNTS:
        own = [{"text": row["text"], "label": row["label"]} for row in make_rows() if row["adapter"] == name]
        write(own, tmp_path / "folder" / f"{name}.csv")
    return tmp_path / "folder"


def train_alone(arguments: FleetArguments, name: str, scaling: float) -> dict[str, torch.Tensor]:
    """One adapter by stock PEFT, torch's AdamW and transformers' schedule: its head, and coefficients for a scaling."""
    plan, settings, method = plan_fleet(arguments), arguments.fleet, arguments.method
    assert method.n_frequency is not None
    base = plan.trainable.model  # with the head that all start from
    config = peft.FourierFTConfig(
        n_frequency=method.n_frequency,
        scaling=1.0,
        init_weights=True,
        task_type=plan.setup.family.task_type if plan.trainable.heads else None,
        target_modules=method.target_modules,
    )
    disable()
    model = peft.get_peft_model(base, config).train()
    ratios = {}
    for key, module in model.named_modules():
        if hasattr(module, "fourierft_scaling"):  # stock PEFT has one for all layers, whatever their shape
            own = auto_scaling(module.out_features, module.in_features, method.n_frequency)
            module.fourierft_scaling["default"], ratios[f"{key}.fourierft_spectrum.default"] = own, own / scaling
    trained = {key: p for key, p in model.named_parameters() if p.requires_grad}
    groups: dict[tuple[bool, bool], list[torch.nn.Parameter]] = {}
    for key, parameter in trained.items():
        groups.setdefault(("modules_to_save" in key, key.endswith("bias")), []).append(parameter)
    head_rate = settings.head_learning_rate or settings.learning_rate
    optimizer = torch.optim.AdamW(
        [
            {
                "params": parameters,
                "lr": head_rate if in_head else settings.learning_rate,
                "weight_decay": 0.0 if is_bias else settings.weight_decay,
            }
            for (in_head, is_bias), parameters in groups.items()
        ]
    )
    tenant = plan.data.tenants[name]
    total = tenant.total_steps(settings)
    schedule = get_linear_schedule_with_warmup(optimizer, settings.warmup_steps, total)
    for step in range(total):
        model(**plan.data.collate(tenant.batch(step, settings))).loss.backward()
        torch.nn.utils.clip_grad_norm_(trained.values(), settings.max_grad_norm)
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
    values = {key: p.detach() * ratios.get(key, 1.0) for key, p in trained.items()}
    return {key.replace(".default", "").replace("modules_to_save.", ""): value for key, value in values.items()}
