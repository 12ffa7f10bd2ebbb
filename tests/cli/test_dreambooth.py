"""`fourierft dreambooth` from the outside: train, sample, score."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fourierft.cli.main import main
from fourierft.training.diffusion import stand_in
from fourierft.training.diffusion.arguments import REQUIRED, build_arguments, read_config

RECIPES = Path(__file__).parents[2] / "recipes" / "dreambooth"


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder of two photos."""
    (tmp_path / "photos").mkdir()
    for number in range(2):
        pixels = np.random.default_rng(number).integers(0, 255, (20, 20, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "photos" / f"{number}.png")
    return tmp_path / "photos"


def arguments(model: Path, photos: Path, *more: str) -> list[str]:
    return [
        *("dreambooth", "--model_name_or_path", str(model), "--instance_data_dir", str(photos), "--max_steps", "1"),
        *("--instance_prompt", "a photo of sks dog", "--output_dir", str(photos.parent / "out"), "--use_cpu", *more),
    ]


def test_trains_samples_and_scores(
    tiny_sd: Path, tiny_dinov2: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "c.yaml").write_text("n_frequency: 30\nmax_steps: 5\n")
    assert main(arguments(tiny_sd, photos, "--config", str(tmp_path / "c.yaml"))) == 0
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert metrics["parameters"]["adapter"] == 32 * 30
    assert metrics["train"]["steps"] == 1
    assert "loss before" in capsys.readouterr().out
    sample = [
        "dreambooth",
        "sample",
        str(tmp_path / "out"),
        "--prompt",
        "a dog",
        "--images_dir",
        str(tmp_path / "made"),
    ]
    assert main([*sample, "--num_images", "2", "--num_inference_steps", "2", "--use_cpu"]) == 0
    assert sorted(path.name for path in (tmp_path / "made").iterdir()) == ["0000.png", "0001.png"]
    score = ["dreambooth", "score", str(tmp_path / "made"), "--photos", str(photos), "--clip", "none", "--use_cpu"]
    models = ["--dino", str(tiny_dinov2), "--features", str(tiny_dinov2), "--json", str(tmp_path / "scores.json")]
    capsys.readouterr()
    assert main([*score, *models]) == 0
    scores = json.loads((tmp_path / "scores.json").read_text())
    assert f"fid     {scores['fid']:.4f}" in capsys.readouterr().out
    assert -1 <= scores["dino"] <= 1


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--instance_data_dir", "nowhere"], "instance_data_dir=nowhere is not a folder"),
        (["--class_prompt", "a dog"], "class_data_dir and class_prompt belong together"),
        (["--max_steps", "0"], "max_steps=0 is not positive"),
        (["--image_size", "20"], "image_size=20 is not a multiple of 8; use one, such as 16"),
        (["--instance_data_dir", __file__], "test_dreambooth.py is not a folder; name a folder of images"),
        (["--class_data_dir", __file__, "--class_prompt", "dog"], "can't be a folder for images (File exists); name"),
        (["--model_name_or_path", "nowhere/at/all"], "nowhere/at/all can't be loaded"),
        (["--instance_prompt", ""], "instance_prompt is missing; give --instance_prompt"),
        (["--mixed_precision", "int4"], "mixed_precision=int4 is unknown; use one of no, fp16, bf16"),
        (["--unreadable_images", "hide"], "unreadable_images=hide is unknown; use stop or skip"),
        (["--lr_scheduler_type", "zigzag"], "lr_scheduler_type=zigzag is unknown"),
        (["--method", "forierft"], "did you mean fourierft"),
        (
            ["--method", "full"],
            "method=full is not an adapter method; use fourierft, lora, or a PEFT adapter_config.json",
        ),
    ],
)
def test_wrong_input_is_one_line_on_stderr_and_status_two(
    more: list[str], message: str, tiny_sd: Path, photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments(tiny_sd, photos, *more)) == 2
    assert message in capsys.readouterr().err.splitlines()[-1]
    assert not (photos.parent / "out" / "adapter_model.safetensors").exists()


@pytest.fixture
def broken(photos: Path) -> Path:
    """A folder of images of which one can't be read."""
    (photos / "2.png").write_text("no image")
    return photos


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("sample nowhere/at/all --prompt dog --images_dir {new}", "nowhere/at/all can't be loaded"),
        ("sample {file} --prompt dog --images_dir {new}", "file.txt can't be loaded"),
        ("sample {photos} --prompt dog --images_dir {new}", "photos can't be loaded"),
        ("sample {sd} --prompt dog --images_dir {file}", "file.txt can't be a folder for images (File exists); name"),
        ("sample {sd} --prompt dog --images_dir {file}/x", "can't be a folder for images (Not a directory); name"),
        (
            "sample {sd} --prompt dog --images_dir {new} --image_size 20",
            "image_size=20 is not a multiple of 8; use one",
        ),
        ("stand-in {file}", "file.txt is a file, not a folder; choose another name"),
        ("score nowhere --photos {photos}", "IMAGES=nowhere is not a folder; name a folder of images"),
        ("score {file} --photos {photos}", "file.txt is not a folder; name a folder of images"),
        ("score {photos} --photos {file}", "file.txt is not a folder; name a folder of images"),
        ("score {photos} --photos {photos} --dino {dino} --clip none", "2.png can't be read as an image; replace or"),
        ("score {photos} --photos {photos} --dino nowhere/at/all", "nowhere/at/all can't be loaded"),
        (
            "score {photos} --photos {photos} --json {file}/scores.json",
            "file.txt: a part of the path is a file, not a folder",
        ),
    ],
)
def test_wrong_input_of_an_action_is_one_sentence_and_status_two(
    words: str,
    message: str,
    tiny_sd: Path,
    tiny_dinov2: Path,
    broken: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "file.txt").write_text("")
    places = {"sd": tiny_sd, "dino": tiny_dinov2, "photos": broken, "file": tmp_path / "file.txt"}
    given = [word.format(**places, new=tmp_path / "new") for word in words.split()]
    assert main(["dreambooth", *given]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert message in lines[-1]
    assert lines[-1].startswith("fourierft: error: ")


def test_photo_that_cannot_be_read_stops_the_training_and_names_the_way_out(
    tiny_sd: Path, broken: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments(tiny_sd, broken)) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert "2.png can't be read as an image; replace or remove it, or leave it out with --unreadable_images" in error


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("sample out --images_dir made", "the following arguments are required: --prompt"),
        (
            "sample out --prompt dog --images_dir made --num_images 0",
            "argument --num_images: 0 is not a whole number of at least 1",
        ),
        (
            "sample out --prompt dog --images_dir made --num_images two",
            "argument --num_images: two is not a whole number of at least 1",
        ),
        ("score images", "the following arguments are required: --photos"),
    ],
)
def test_wrong_usage_names_the_action_in_one_line(words: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["dreambooth", *words.split()])
    assert stopped.value.code == 2
    error = capsys.readouterr().err
    action = f"fourierft dreambooth {words.split()[0]}"
    assert error.startswith(f"usage: {action} [-h] ")
    assert error.splitlines()[-1].startswith(f"{action}: error: {message}")


def test_missing_setting_and_unknown_key_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["dreambooth", "--model_name_or_path", "x"]) == 2
    assert "instance_data_dir is missing; give --instance_data_dir" in capsys.readouterr().err
    (tmp_path / "c.yaml").write_text("n_frequenzy: 30\n")
    assert main(["dreambooth", "--config", str(tmp_path / "c.yaml")]) == 2
    assert "unknown key n_frequenzy; did you mean n_frequency?" in capsys.readouterr().err


def test_stand_in_prints_what_it_scored(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {"method": "before", "fid": 148.407, "dino": 0.91515}
    after = {"method": "LoRA r=4", "fid": 117.811, "dino": 0.9286, "probe": {"after": 0.23817}, "parameters": 23296}
    monkeypatch.setattr(stand_in, "run_stand_in", lambda folder: [before, after])
    assert main(["dreambooth", "stand-in", str(tmp_path)]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    expected = [["before", "148.41", "0.9152", "-", "0"], ["LoRA", "r=4", "117.81", "0.9286", "0.2382", "23,296"]]
    assert lines[1:] == expected


def test_help_teaches(capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["dreambooth"], ["dreambooth", "sample"], ["dreambooth", "stand-in"], ["dreambooth", "score"]):
        with pytest.raises(SystemExit):
            main([*words, "--help"])
    text = capsys.readouterr().out
    assert "--instance_prompt PROMPT" in text
    assert "(default: facebook/dino-vits16)" in text
    assert "head_learning_rate" not in text


@pytest.mark.parametrize("recipe", sorted(RECIPES.glob("*.yaml")), ids=lambda path: path.stem)
def test_recipe_is_read_whole(recipe: Path) -> None:
    settings = build_arguments({**dict.fromkeys(REQUIRED, "x"), **read_config(recipe)})
    assert settings.method.n_frequency * 2 * 2 * 16 == 192_000 or recipe.stem != "sd15"
    assert settings.method.scaling == "auto"
    assert f"fourierft dreambooth --config recipes/dreambooth/{recipe.name}" in recipe.read_text()
