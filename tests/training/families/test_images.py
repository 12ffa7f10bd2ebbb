"""Images in folders or parquet: classified, and refused by name if they can't be read."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from datasets import Dataset, Features, Image, Value
from PIL import Image as Pillow
from safetensors.torch import load_file
from transformers import AutoImageProcessor

from fourierft import AdapterStore
from fourierft.adapters.merge import merge_adapter
from fourierft.cli.main import main
from fourierft.errors import ConfigError, DataError
from fourierft.training.arguments import Arguments, DataArguments
from fourierft.training.columns import Columns
from fourierft.training.data import load_splits
from fourierft.training.evaluation import evaluate, load_processor, load_trained
from fourierft.training.families.images import ImageClasses, crop_randomly
from fourierft.training.pictures import skip_unreadable
from fourierft.training.plan import plan_training
from fourierft.training.reading import read_rows
from fourierft.training.run import train
from fourierft.training.settings import build_arguments


def picture(is_bright: bool, seed: int) -> Pillow.Image:
    """A grey image of noise, 20 x 16, light or dark."""
    noise = np.random.default_rng(seed).integers(0, 60, (16, 20), dtype=np.uint8)
    return Pillow.fromarray(noise + np.uint8(180 * is_bright))


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """A parquet file of 24 images, light and dark."""
    features = Features({"image": Image(), "label": Value("string")})
    rows = {"image": [picture(bool(k % 2), k) for k in range(24)], "label": ["dark", "light"] * 12}
    Dataset.from_dict(rows, features=features).to_parquet(tmp_path / "pictures.parquet")
    return tmp_path / "pictures.parquet"


@pytest.fixture
def build_images(tiny_dinov2: Path, pictures: Path, tmp_path: Path) -> Callable[..., Arguments]:
    """Arguments of a training of 3 steps on those images, with any setting changed."""

    def build(**settings: Any) -> Arguments:
        given: dict[str, Any] = {
            "model_name_or_path": str(tiny_dinov2),
            "train_file": str(pictures),
            "validation_file": str(pictures),
        }
        given |= {"output_dir": str(tmp_path / "out"), "target_modules": ["q_proj", "v_proj"], "n_frequency": 50}
        return build_arguments({**given, "max_steps": 3, "use_cpu": True, "disable_tqdm": True, **settings})

    return build


def test_light_and_dark_are_told_apart(
    build_images: Callable[..., Arguments], pictures: Path, tmp_path: Path, run_card: Any
) -> None:
    metrics = train(build_images(learning_rate=1e-2, max_steps=20))
    assert metrics["eval"]["accuracy"] == 1.0
    assert metrics["parameters"]["adapter"] == 4 * 50
    assert metrics["parameters"]["head"] == 2 * 64 * 2 + 2
    evaluation = evaluate(tmp_path / "out", DataArguments(test_file=str(pictures)), use_cpu=True)
    assert evaluation.metrics["accuracy"] == 1.0
    assert evaluation.predictions[1]["row"] == 2
    assert evaluation.predictions[1]["prediction"] == "light"
    for names in run_card(tmp_path / "out").values():
        shown = evaluation.predictions[1]
        with torch.no_grad():
            pixels = names["processor"](picture(True, 1).convert("RGB"), return_tensors="pt")
            said = names["model"].eval()(**pixels).logits
        assert said.argmax() == ("dark", "light").index(shown["prediction"])


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")  # PEFT's use of it
def test_trained_adapter_merges_with_its_head(build_images: Callable[..., Arguments], tmp_path: Path) -> None:
    train(build_images())
    merged = merge_adapter(tmp_path / "out", tmp_path / "merged")
    assert merged.model_class == "Dinov2ForImageClassification"
    assert merged.layers == 4


def test_pixels_are_those_of_the_processor(tiny_dinov2: Path, pictures: Path) -> None:
    rows = Dataset.from_parquet(str(pictures))
    encoded = ImageClasses().encode_rows(
        rows, Columns(("image",), "label"), list(range(24)), AutoImageProcessor.from_pretrained(tiny_dinov2), None
    )
    expected = AutoImageProcessor.from_pretrained(tiny_dinov2)(rows[3]["image"].convert("RGB"), return_tensors="pt")
    assert torch.equal(encoded[3]["pixel_values"], expected["pixel_values"][0])
    assert encoded[3]["labels"] == 3


def test_training_images_are_cropped_and_mirrored_at_random(build_images: Callable[..., Arguments]) -> None:
    splits = plan_training(build_images(augment_images=True)).splits
    whole = splits["validation"][0]["pixel_values"]
    first = splits["train"][0]["pixel_values"]
    assert torch.equal(splits["train"][0]["pixel_values"], first)
    splits["train"].epoch = 1
    assert not torch.equal(splits["train"][0]["pixel_values"], first)
    assert not torch.equal(whole, first)
    ramp = Pillow.fromarray(np.tile(np.arange(40, dtype=np.uint8) * 6, (30, 1)))
    draw = np.random.default_rng(0)
    crops = [crop_randomly(ramp, draw) for _ in range(200)]
    shares = [crop.width * crop.height / 1200 for crop in crops]
    assert 0.07 < min(shares) < 0.2
    assert 0.8 < max(shares) <= 1
    assert all(0.7 < crop.width / crop.height < 1.45 for crop in crops if crop.size != ramp.size)
    mirrored = sum(int(np.asarray(crop)[0, 0]) > int(np.asarray(crop)[0, -1]) for crop in crops)
    assert 70 < mirrored < 130


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")  # Python 3.12 and later, of threads
def test_workers_that_persist_crop_anew_in_every_epoch(tiny_dinov2: Path, pictures: Path) -> None:
    processor = AutoImageProcessor.from_pretrained(tiny_dinov2)
    rows = Dataset.from_parquet(str(pictures)).select(range(4))
    encoded = ImageClasses().encode_rows(rows, Columns(("image",), "label"), [0] * 4, processor, None)
    encoded.crop_seed = 3
    loader = torch.utils.data.DataLoader(
        encoded, batch_size=2, num_workers=2, persistent_workers=True, multiprocessing_context="fork"
    )
    epochs = []
    for epoch in range(2):
        encoded.epoch = epoch
        epochs.append(torch.cat([batch["pixel_values"] for batch in loader]))
        assert torch.equal(epochs[-1], torch.stack([encoded[row]["pixel_values"] for row in range(4)]))
    assert not any(torch.equal(first, second) for first, second in zip(*epochs, strict=True))


def test_texts_are_not_augmented(build: Callable[..., Arguments]) -> None:
    with pytest.raises(ConfigError, match="augment_images=True works only with images, but the data are text"):
        plan_training(build(augment_images=True))


def test_augmented_training_resumes_to_the_same_bits(build_images: Callable[..., Arguments], tmp_path: Path) -> None:
    settings = {
        "augment_images": True,
        "max_steps": 5,
        "save_steps": 2,
        "save_total_limit": 9,
        "per_device_train_batch_size": 8,
    }
    train(build_images(**settings, output_dir=str(tmp_path / "whole")))
    train(build_images(**settings))
    for step in (4, 5):  # go on in the middle of the first of two epochs
        shutil.rmtree(tmp_path / "out" / f"checkpoint-{step}")
    train(build_images(**settings, resume_from_checkpoint="true"))
    whole, resumed = (load_file(tmp_path / name / "adapter_model.safetensors") for name in ("whole", "out"))
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


def test_image_size_wins_over_the_model_s_and_is_kept(build_images: Callable[..., Arguments], tmp_path: Path) -> None:
    train(build_images(image_size=14))
    saved = AutoImageProcessor.from_pretrained(tmp_path / "out")
    assert saved(picture(True, 0).convert("RGB"), return_tensors="pt")["pixel_values"].shape == (1, 3, 14, 14)
    with pytest.raises(ConfigError, match="image_size=0 is not positive"):
        train(build_images(image_size=0, output_dir=str(tmp_path / "other")))


def test_folder_of_folders_is_a_data_set_and_a_broken_file_is_named(
    build_images: Callable[..., Arguments], tmp_path: Path
) -> None:
    for label in ("dark", "light"):
        (tmp_path / "photos" / label).mkdir(parents=True)
        for k in range(4):
            picture(label == "light", k).save(tmp_path / "photos" / label / f"{k}.png")
    settings = {"dataset_name": str(tmp_path / "photos"), "train_file": None, "validation_file": None}
    metrics = train(build_images(**settings, validation_fraction=0.25))
    assert metrics["rows"] == {"train": 6, "validation": 2}
    (tmp_path / "photos" / "light" / "2.png").write_bytes(b"no image")
    with pytest.raises(
        DataError, match=r"the image in row 7 of the train split of .* \(.*light.2\.png\) can't be read"
    ):
        train(build_images(**settings, output_dir=str(tmp_path / "again")))
    assert not (tmp_path / "again").exists()


def test_image_cut_short_stops_or_is_skipped_by_name(
    build_images: Callable[..., Arguments], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for label in ("dark", "light"):
        (tmp_path / "photos" / label).mkdir(parents=True)
        for k in range(4):
            picture(label == "light", k).save(tmp_path / "photos" / label / f"{k}.jpg")
    broken = tmp_path / "photos" / "dark" / "1.jpg"
    broken.write_bytes(broken.read_bytes()[:-60])  # its head is whole
    settings = {"dataset_name": str(tmp_path / "photos"), "train_file": None, "validation_file": None}
    with pytest.raises(DataError, match=r"dark.1\.jpg\) can't be read \(.*\); replace or remove it, or give --unr"):
        train(build_images(**settings))
    metrics = train(build_images(**settings, unreadable_images="skip", validation_fraction=0.3))
    assert metrics["rows"] == {"train": 5, "validation": 2}
    assert re.search(r"skipped the image in row 2 of the train split of .* \(.*dark.1\.jpg\)", capsys.readouterr().out)
    broken.with_name("0.jpg").write_bytes(b"")
    test = DataArguments(dataset_name=str(tmp_path / "photos"), test_split_name="train", unreadable_images="skip")
    assert [row["row"] for row in evaluate(tmp_path / "out", test, use_cpu=True).predictions] == [3, 4, 5, 6, 7, 8]
    command = f"evaluate {tmp_path}/out --dataset_name {tmp_path}/photos --test_split_name train --use_cpu"
    assert main(command.split()) == 2
    assert "row 1 of the train split of" in capsys.readouterr().err
    assert main([*command.split(), "--unreadable_images", "skip", "--output", str(tmp_path / "scores.json")]) == 0
    assert json.loads((tmp_path / "scores.json").read_text())["rows"] == 6
    with pytest.raises(ConfigError, match="unreadable_images=hide is unknown; use stop or skip"):
        train(build_images(**settings, unreadable_images="hide", output_dir=str(tmp_path / "other")))


def test_data_without_one_readable_image_is_refused() -> None:
    stored = [{"bytes": value, "path": None} for value in (b"", b"x")]
    rows = Dataset.from_dict({"image": stored, "label": [0, 1]}).cast_column("image", Image())
    with pytest.raises(DataError, match="none of the images of the data can be read"):
        skip_unreadable(rows)


def stored(*arrays: Any) -> Dataset:
    """Rows of images as files, TIFF or PNG."""
    return Dataset.from_dict(
        {"image": arrays, "label": ["a"] * len(arrays)}, features=Features({"image": Image(), "label": Value("string")})
    )


def test_images_of_16_and_32_bits_and_floats_are_what_they_show(tiny_dinov2: Path) -> None:
    grey = np.asarray(picture(True, 1))
    rows = stored(
        grey, grey.astype(np.uint16) * np.uint16(257), grey.astype(np.int32) * 8421504, grey.astype(np.float32) / 255
    )
    ImageClasses().check_rows(rows, Columns(("image",), "label"))
    processor = AutoImageProcessor.from_pretrained(tiny_dinov2)
    encoded = ImageClasses().encode_rows(rows, Columns(("image",), "label"), [0] * 4, processor, None)
    for row in (1, 2, 3):
        assert torch.equal(encoded[row]["pixel_values"], encoded[0]["pixel_values"])


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        (
            [np.ones((2, 2), np.float32), np.full((2, 2), 9, np.float32)],
            "ranges of numbers: up to 1 in row 1, but up to 9 in row 2",
        ),
        (
            [np.full((2, 2), 70_000, np.int32), np.full((2, 2), 9, np.int32)],
            "up to 70000 in row 1, but up to 9",
        ),
        (
            [np.full((2, 2), 200, np.uint16)] * 2,
            "row 1 would be black: its largest number is 200, but white is 65535",
        ),
        ([np.full((2, 2), 200, np.int32)] * 2, "like the one in row 1 would be black: its largest number is 200"),
        ([np.full((2, 2), -1.0, np.float32)], r"the image in row 1 can't be read \(its numbers go from -1 to -1"),
    ],
)
def test_images_whose_numbers_may_mean_something_else_are_refused(arrays: list[Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        ImageClasses().check_rows(stored(*arrays), Columns(("image",), "label"))


def test_black_images_among_others_are_black_images() -> None:
    dark = [np.zeros((2, 2), np.float32), np.full((2, 2), 1e-3, np.float32), np.ones((2, 2), np.float32)]
    ImageClasses().check_rows(stored(*dark), Columns(("image",), "label"))
    ImageClasses().check_rows(stored(np.zeros((2, 2), np.uint16)), Columns(("image",), "label"))


def test_frames_that_are_not_looked_at_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for label in ("dark", "light"):
        (tmp_path / "photos" / label).mkdir(parents=True)
        frames = [picture(label == "light", k) for k in range(3)]
        frames[0].save(tmp_path / "photos" / label / "a.gif", save_all=True, append_images=frames[1:])
        frames[0].save(tmp_path / "photos" / label / "b.png")
    data = DataArguments(dataset_name=str(tmp_path / "photos"))
    read_rows(load_splits(data), data)
    assert re.search(r"images with several frames: 2, first in row 1 of .*a\.gif\); the first", capsys.readouterr().out)


def test_column_without_images_is_refused() -> None:
    rows = Dataset.from_dict({"photo": ["a.png"], "label": [1]})
    with pytest.raises(DataError, match="column photo holds no images; name another --image_column"):
        ImageClasses().find_columns(rows, ["photo"], None)
    with pytest.raises(DataError, match="there is no column picture; the data has the columns photo, label"):
        ImageClasses().find_columns(rows, ["picture"], None)


def test_an_adapter_out_of_a_store_sees_images_as_its_training_did(
    build_images: Callable[..., Arguments], pictures: Path, tmp_path: Path, tiny_dinov2: Path
) -> None:
    train(build_images(image_size=14, learning_rate=1e-2))
    with AdapterStore(tmp_path / "fleet.db") as store:
        store.add("pictures", tmp_path / "out", base=str(tiny_dinov2))
        store.export("pictures", tmp_path / "got")
        record = json.loads(store.get("pictures").record or "")
    assert not list((tmp_path / "got").glob("*processor*"))
    data = DataArguments(test_file=str(pictures))
    first, second = (evaluate(tmp_path / name, data, use_cpu=True).predictions for name in ("out", "got"))
    assert first == second
    pixels = load_processor(record)(picture(True, 1).convert("RGB"), return_tensors="pt")["pixel_values"]
    assert pixels.shape[-2:] == (14, 14)
    sample = load_trained(tmp_path / "out").processor(picture(True, 1).convert("RGB"), return_tensors="pt")
    assert torch.equal(pixels, sample["pixel_values"])
