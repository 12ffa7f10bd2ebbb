"""What is trained together is what each adapter becomes alone, with the same rows, in PEFT and torch's optimiser."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from datasets import Dataset, Features, Image, Value
from PIL import Image as Pillow
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

from fourierft import AdapterStore, FleetModel
from fourierft.errors import (
    BusyError,
    CheckpointError,
    ConfigError,
    DataError,
    FourierFTError,
    OutputExistsError,
    StoreError,
)
from fourierft.training.evaluation import load_trained
from fourierft.training.fleet import run as fleet_run
from fourierft.training.fleet.plan import plan_fleet
from fourierft.training.fleet.run import default_folder, train_fleet
from fourierft.training.fleet.settings import FleetArguments
from fourierft.training.fleet.trainer import FleetTrainer
from fourierft.training.lock import held
from fourierft.training.trainer import TrainingInterrupted

Build = Callable[..., FleetArguments]
ROLES = ("user", "assistant")
COUNTS = {"ann": 8, "bob": 5, "cy": 9}
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"rows": 3, "adapters": 3, "weight_decay": 0.1, "head_learning_rate": 5e-3, "warmup_steps": 3},
        {"task": "regression", "adapters": 1, "max_steps": 7, "max_grad_norm": 0.05},
    ],
)
def test_every_adapter_is_what_it_becomes_alone(
    build: Build, make_rows: Any, write: Any, tmp_path: Path, check_alone: Any, settings: dict[str, Any]
) -> None:
    rows = make_rows()
    if settings.get("task") == "regression":
        rows = [{**row, "label": 1.5 if row["label"] == "yes" else -0.5} for row in rows]
    arguments = build(learning_rate=1e-2, train_file=str(write(rows, tmp_path / "rows.csv")), **settings)
    results = train_fleet(arguments)
    assert set(results["adapters"]) == set(COUNTS)
    for name in COUNTS:
        check_alone(arguments, name)


def test_a_language_model_learns_answers_by_adapter(
    build: Build, tiny_llama: Path, write: Any, tmp_path: Path, check_alone: Any
) -> None:
    rows = [
        {"adapter": name, "prompt": f"the {thing} is", "answer": answer}
        for name, answer in (("up", "very good"), ("down", "bad"))
        for thing in ("film", "book", "film", "book", "film")
    ]
    file = write(rows, tmp_path / "answers.csv")
    layers = ["q_proj", "v_proj", "up_proj", "down_proj"]
    given = {"model_name_or_path": str(tiny_llama), "train_file": str(file), "target_modules": layers}
    arguments = build(**given, epochs=2, learning_rate=1e-2)
    train_fleet(arguments)
    for name in ("up", "down"):
        check_alone(arguments, name)
    fleet = FleetModel(AutoModelForCausalLM.from_pretrained(tiny_llama), arguments.store)
    assert fleet(names=["up", "down"], input_ids=torch.ones(2, 3, dtype=torch.long)).logits.shape[0] == 2


@pytest.fixture
def chats(tmp_path: Path) -> Path:
    """Conversations of two adapters, from one short answer to three long ones."""
    lines = []
    for place in range(24):
        turns = [[f"the {('film', 'book')[place % 2]} is", " ".join(["very"] * (place % 5) + ["good"])]] * (
            1 + place % 3
        )
        messages = [{"role": role, "content": text} for turn in turns for role, text in zip(ROLES, turn, strict=True)]
        lines.append(json.dumps({"adapter": ("up", "down")[place // 12], "messages": messages}))
    (tmp_path / "chats.jsonl").write_text("\n".join(lines))
    return tmp_path / "chats.jsonl"


def token_losses(rows: Any, numbers: Any, logits: Callable[..., Any]) -> tuple[float, int]:
    """The sum of -log p over the answers' tokens of rows, in float64, one row after the other; and their number."""
    total, count = 0.0, 0
    for number in numbers:
        batch = rows([number])
        with torch.no_grad():
            found = logits(batch["input_ids"])[0, :-1].double().log_softmax(-1)
        expected = batch["labels"][0, 1:]
        learned = expected != -100
        total -= float(found[learned].gather(1, expected[learned, None]).sum())
        count += int(learned.sum())
    return total, count


def test_chats_are_learned_and_scored_by_the_token(
    build: Build, tiny_llama: Path, chats: Path, check_alone: Any
) -> None:
    given = {"model_name_or_path": str(tiny_llama), "train_file": str(chats), "target_modules": ["q_proj", "v_proj"]}
    first = build(**given, store="first", rows=5, max_steps=1, learning_rate=1e-2)
    metrics, plan = train_fleet(first)["adapters"], plan_fleet(first)
    base = AutoModelForCausalLM.from_pretrained(tiny_llama).double().eval()
    for name, tenant in plan.data.tenants.items():
        own = tenant.batch(0, first.fleet)
        total, count = token_losses(plan.data.collate, own, lambda ids: base(input_ids=ids).logits)
        assert metrics[name]["train_loss"] == pytest.approx(total / count, rel=1e-5)
        check_alone(first, name)
    arguments = build(**given, store="whole", rows=3, epochs=2, learning_rate=1e-2, validation_fraction=0.8)
    metrics, plan = train_fleet(arguments)["adapters"], plan_fleet(arguments)
    fleet = FleetModel(AutoModelForCausalLM.from_pretrained(tiny_llama), arguments.store)
    for name, tenant in plan.data.tenants.items():
        assert len(tenant.held_out) == 10  # more than are scored at once, so of several widths
        said = partial(lambda ids, name: fleet(names=[name], input_ids=ids).logits, name=name)
        total, count = token_losses(plan.data.collate, tenant.held_out, said)
        assert metrics[name]["answer_loss"] == pytest.approx(total / count, rel=1e-4)


def test_adapters_learn_what_their_own_rows_say_and_are_scored_on_others(
    build: Build, calm_bert: Path, make_rows: Any, write: Any, tmp_path: Path
) -> None:
    file = write(make_rows(ann=60, bob=60), tmp_path / "more.csv")
    arguments = build(
        train_file=str(file), epochs=12, learning_rate=3e-3, head_learning_rate=1e-2, validation_fraction=0.2, rows=4
    )
    metrics = train_fleet(arguments)["adapters"]
    assert metrics["ann"]["accuracy"] >= 0.9
    assert metrics["bob"]["accuracy"] >= 0.9
    assert metrics["bob"]["rows"] == 48
    plan = plan_fleet(arguments)
    base = AutoModelForSequenceClassification.from_pretrained(calm_bert, num_labels=2)
    fleet = FleetModel(base, arguments.store)
    batch = dict(plan.data.collate(range(120)))
    labels = batch.pop("labels")
    for name in ("ann", "bob"):
        tenant = plan.data.tenants[name]
        own = torch.tensor([row in tenant.train + tenant.held_out for row in range(120)])
        said = fleet(names=[name] * 120, **batch).logits.argmax(1)
        assert (said == labels)[own].float().mean() >= 0.9
        assert (said == labels)[~own].float().mean() <= 0.2  # the other one says the opposite


def test_an_exported_adapter_is_one_of_fourierft_train(build: Build, tmp_path: Path) -> None:
    arguments = build(epochs=1)
    train_fleet(arguments)
    with AdapterStore(arguments.store) as store:
        store.export("ann", tmp_path / "ann")
    trained = load_trained(tmp_path / "ann")
    assert trained.family.labels == ("no", "yes")


def test_a_folder_of_files_is_an_adapter_a_file(build: Build, folder: Path) -> None:
    assert set(train_fleet(build(train_file=str(folder), epochs=1))["adapters"]) == set(COUNTS)


def test_an_adapter_that_is_not_in_a_step_does_not_move(build: Build) -> None:
    arguments = build(weight_decay=0.1, learning_rate=1e-2)
    plan = plan_fleet(arguments)
    trainer = FleetTrainer(plan.trainable, plan.setup.family, plan.data.collate, arguments.fleet, plan.data.lengths)
    for tenant in plan.data.tenants.values():
        trainer.join(tenant)
    trainer.step()
    absent = trainer.members[trainer.queue[0]].slot
    names = ("numbers", "first", "second", "steps")
    before = {name: getattr(trainer.optimizer, name).clone() for name in names}
    assert before["steps"][absent] == 0
    trainer.queue.rotate(-1)
    trainer.step()
    for name in names:
        after = getattr(trainer.optimizer, name)
        assert torch.equal(after[absent], before[name][absent])
        assert not torch.equal(after, before[name])
    trainer.close()


@pytest.fixture
def interrupted(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Sends Ctrl-C in a step, once."""

    def arm(step: int) -> None:
        real, count = FleetTrainer.step, [0]

        def stepped(trainer: FleetTrainer) -> Any:
            count[0] += 1
            if count[0] == step:
                os.kill(os.getpid(), signal.SIGINT)
            return real(trainer)

        monkeypatch.setattr(FleetTrainer, "step", stepped)

    return arm


def test_an_interrupted_training_goes_on_to_the_same_result_and_takes_new_adapters_in(
    build: Build, make_rows: Any, write: Any, tmp_path: Path, tiny_bert: Path, interrupted: Callable[[int], None]
) -> None:
    with_dropout = {"model_name_or_path": str(tiny_bert), "learning_rate": 1e-2}
    train_fleet(build(store="whole.db", **with_dropout))
    interrupted(9)
    with pytest.raises(TrainingInterrupted, match="is saved in"):
        train_fleet(build(**with_dropout))
    with pytest.raises(OutputExistsError, match="continue with --resume"):
        train_fleet(build(**with_dropout))
    with pytest.raises(ConfigError, match=r"learning_rate 0.01 before, 0.02 now\); resume with the settings"):
        train_fleet(build(**with_dropout | {"learning_rate": 2e-2}, resume=True))
    odd = [*make_rows(), {"adapter": "dee", "text": "a book", "label": "perhaps"}]
    with pytest.raises(ConfigError, match=r"belongs to another run \(labels "):
        train_fleet(build(**with_dropout, resume=True, train_file=str(write(odd, tmp_path / "odd.csv"))))
    with pytest.raises(ConfigError, match=r"n_frequency .* before, 30 now"):
        train_fleet(build(**with_dropout, resume=True, n_frequency=30))
    with pytest.raises(
        ConfigError, match=r"trained the adapter 'ann' on other rows \(8, digest \w+ before, none now\)"
    ):
        train_fleet(build(**with_dropout, resume=True, train_file=str(write(make_rows(cy=9), tmp_path / "less.csv"))))
    flipped = [row | {"label": {"yes": "no", "no": "yes"}.get(row["label"], row["label"])} for row in make_rows()]
    with pytest.raises(ConfigError, match=r"other rows \(8, digest (\w+) before, 8, digest (?!\1)\w+ now\)"):
        train_fleet(build(**with_dropout, resume=True, train_file=str(write(flipped, tmp_path / "flipped.csv"))))
    results = train_fleet(build(**with_dropout, resume=True))
    assert not (tmp_path / "fleet.db.training").exists()
    assert set(results["adapters"]) <= set(COUNTS)
    with AdapterStore(tmp_path / "whole.db") as whole, AdapterStore(tmp_path / "fleet.db") as resumed:
        for name in COUNTS:
            assert torch.equal(whole.get(name).values, resumed.get(name).values)
            assert list(resumed.versions(name)) == [1]


def test_adapters_that_came_into_the_data_join_on_resuming(
    build: Build, make_rows: Any, write: Any, tmp_path: Path, interrupted: Callable[[int], None]
) -> None:
    interrupted(3)
    with pytest.raises(TrainingInterrupted):
        train_fleet(build())
    rows = make_rows() + [row | {"adapter": "dee"} for row in make_rows(dee=6)]
    results = train_fleet(build(resume=True, train_file=str(write(rows, tmp_path / "more.csv"))))
    assert set(results["adapters"]) == {*COUNTS, "dee"}


@pytest.mark.parametrize(
    ("settings", "kind", "text"),
    [
        (
            {"adapter_column": "customer"},
            DataError,
            "no column customer; the data has the columns adapter, text, label",
        ),
        ({"schedule": "cosine"}, ConfigError, "schedule=cosine is unknown; use one of linear, constant"),
        ({"rows": 0}, ConfigError, "rows=0 is too small"),
        ({"dtype": "int4"}, ConfigError, "dtype=int4 is unknown"),
        ({"method": "lora"}, ConfigError, "method=lora cannot be trained as a fleet"),
        ({"n_frequency": 5000}, FourierFTError, "5000.*1024"),
        ({"resume": True}, CheckpointError, "has no complete checkpoint to resume from"),
        ({"validation_fraction": 1.0}, ConfigError, "validation_fraction=1.0"),
        ({"watch": 5.0}, ConfigError, "watch=5 needs a folder as train_file"),
        ({"shared_head": True}, ConfigError, "has no trained head that adapters could share .classifier.bias"),
    ],
)
def test_wrong_input_is_refused_before_anything_is_written(
    build: Build, tmp_path: Path, settings: dict[str, Any], kind: type[Exception], text: str
) -> None:
    with pytest.raises(kind, match=text) as caught:
        train_fleet(build(**settings))
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "fleet.db").exists()


def test_rows_without_an_adapter_and_a_store_of_another_base_are_refused(
    build: Build, make_rows: Any, write: Any, tmp_path: Path, calm_bert: Path
) -> None:
    rows = make_rows()
    rows[3]["adapter"] = ""
    with pytest.raises(DataError, match="column adapter is empty in row 4"):
        train_fleet(build(train_file=str(write(rows, tmp_path / "gaps.csv"))))
    rows[3]["adapter"] = "__base__"
    with pytest.raises(DataError, match=r"row 4 of .*base\.csv names '__base__'"):
        train_fleet(build(train_file=str(write(rows, tmp_path / "base.csv"))))
    train_fleet(build(epochs=1))
    other = shutil.copytree(calm_bert, tmp_path / "other")
    weights = load_file(other / "model.safetensors")
    save_file({name: value.flip(0).contiguous() for name, value in weights.items()}, other / "model.safetensors")
    with pytest.raises(StoreError, match="keeps adapters of the base"):
        train_fleet(build(model_name_or_path=str(other)))


def test_a_head_that_is_too_large_is_refused(build: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fourierft.training.fleet.trainable.LARGEST_HEAD", 10)
    with pytest.raises(ConfigError, match="the head classifier is a Linear of 66 numbers"):
        plan_fleet(replace(build()))


def test_the_last_complete_checkpoint_is_found_after_a_crash(build: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = build(save_steps=2)
    publish = fleet_run._publish
    monkeypatch.setattr(fleet_run, "_publish", lambda *_: (_ for _ in ()).throw(RuntimeError("power cut")))
    with pytest.raises(RuntimeError, match="power cut"):
        train_fleet(arguments)
    monkeypatch.setattr(fleet_run, "_publish", publish)
    assert set(train_fleet(replace(arguments, resume=True))["adapters"]) == set(COUNTS)


def test_a_damaged_checkpoint_is_passed_over_and_no_adapter_is_made_twice(
    build: Build, tmp_path: Path, interrupted: Callable[[int], None], capsys: pytest.CaptureFixture[str]
) -> None:
    settings = {"epochs": 1, "adapters": 2, "save_steps": 2}
    train_fleet(build(store="whole.db", **settings))
    interrupted(5)
    with pytest.raises(TrainingInterrupted):
        train_fleet(build(**settings))
    with AdapterStore(tmp_path / "fleet.db") as store:
        before = set(store.names())
        assert before
    first, last = sorted((tmp_path / "fleet.db.training").iterdir(), key=lambda path: path.name[-1])
    state = last / "state.safetensors"
    state.write_bytes(state.read_bytes()[:-1] + b"?")
    assert before & set(train_fleet(build(**settings, resume=True))["adapters"])
    assert f"state.safetensors has changed since it was written; resuming from {first.name}" in capsys.readouterr().err
    with AdapterStore(tmp_path / "whole.db") as whole, AdapterStore(tmp_path / "fleet.db") as resumed:
        for name in COUNTS:
            assert torch.equal(whole.get(name).values, resumed.get(name).values)
            assert list(resumed.versions(name)) == [1]


def test_two_trainings_of_one_fleet_are_one(build: Build, tmp_path: Path) -> None:
    with (
        held(tmp_path / "fleet.db.training"),
        pytest.raises(BusyError, match=r"has been writing into .*fleet\.db\.training"),
    ):
        train_fleet(build())
    assert not (tmp_path / "fleet.db").exists()
    assert default_folder("postgresql://user:secret@host/fleets/ours?sslmode=require") == "fleets-ours.training"


def test_images_are_trained_by_adapter(build: Build, tiny_dinov2: Path, tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 60, (16, 16, 20), dtype=np.uint8)
    images = [Pillow.fromarray(own + np.uint8(180 * (k % 2))) for k, own in enumerate(noise)]
    adapters = ["plain"] * 8 + ["twisted"] * 8
    labels = [("dark", "light")[(k + (name == "twisted")) % 2] for k, name in enumerate(adapters)]
    features = Features({"image": Image(), "label": Value("string"), "adapter": Value("string")})
    rows = Dataset.from_dict({"image": images, "label": labels, "adapter": adapters}, features=features)
    rows.to_parquet(tmp_path / "images.parquet")
    arguments = build(
        model_name_or_path=str(tiny_dinov2),
        train_file=str(tmp_path / "images.parquet"),
        target_modules=["q_proj", "v_proj"],
        learning_rate=1e-2,
        epochs=10,
    )
    metrics = train_fleet(arguments)["adapters"]
    assert all(own["train_loss"] < 0.4 for own in metrics.values())
