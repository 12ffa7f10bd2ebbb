"""Adapters from strangers: whatever a folder holds, it is read right, or refused by one of our errors, at once."""

from __future__ import annotations

import json
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from fourierft import delta_weight
from fourierft.errors import CheckpointError, FourierFTError
from fourierft.format.checkpoint import AdapterCheckpoint, read_checkpoint
from fourierft.format.record import made_for, with_record

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
VALUES: list[Any] = [
    *(None, True, False, 0, -1, 1, 40, 2**31, 2**64, 10**23, 0.5, -0.0, 1e30, 1e300, "", "x", "auto", "FOURIERFT"),
    *([], [1], ["x"], [["x"]], [None], {}, {"a": 1}, {"": None}, {"x": {"y": []}}, "x" * 2000, "\n", "é", "a\0b"),
    *("(a+)+b", ".*", "(", "../../etc/passwd", "bandpass", {"query": 40}, {"(a+)+": 40}, {"query": True}),
]


@pytest.fixture
def hostile(adapter: Path) -> Path:
    """An adapter that says what it was made for."""
    file = adapter / CONFIG
    names = [key.removeprefix("base_model.model.") for key in load_file(adapter / WEIGHTS) if key.endswith("spectrum")]
    shapes = {name.removesuffix(".fourierft_spectrum"): (32, 32) for name in names}
    content = with_record(json.loads(file.read_text()), file, is_auto=True, digest="sha256:1", **made_for(shapes))
    file.write_text(json.dumps(content))
    return adapter


def read_or_refuse(path: Path) -> AdapterCheckpoint | None:
    """The adapter, if it is read; then it can be used. None, if it is refused."""
    try:
        checkpoint = read_checkpoint(path)
    except FourierFTError as error:
        message = str(error)
        assert "\n" not in message
        assert len(message) < 3000
        message.encode()
        return None
    for name, coefficients in checkpoint.coefficients.items():
        update = delta_weight(coefficients.float(), checkpoint.basis(32, 32, len(coefficients)), checkpoint.scaling)
        assert torch.isfinite(update).all(), name
    return checkpoint


def test_changed_configs_are_read_right_or_refused(hostile: Path) -> None:
    rng = random.Random(11)
    file, text = hostile / CONFIG, (hostile / CONFIG).read_text()
    read = 0
    for _ in range(250):
        content = json.loads(text)
        for _ in range(rng.choice((1, 1, 2))):
            place = content
            while True:
                key = rng.choice([*place, "new"])
                if isinstance(place.get(key), dict) and rng.random() < 0.8:
                    place = place[key]
                    continue
                place[key] = rng.choice(VALUES)
                break
        file.write_text(json.dumps(content))
        checkpoint = read_or_refuse(hostile)
        if checkpoint is not None:
            read += 1
            assert {len(values) for values in checkpoint.coefficients.values()} == {40}
    assert 30 < read < 220


def test_changed_bytes_of_a_config_are_read_right_or_refused(hostile: Path) -> None:
    rng = random.Random(12)
    file, original = hostile / CONFIG, (hostile / CONFIG).read_bytes()
    for _ in range(200):
        data = bytearray(original)
        for _ in range(rng.randint(1, 4)):
            at = rng.randrange(len(data))
            data[at : at + rng.choice((0, 1, 1, 9))] = rng.choice((b"", b"}", b"[", b'"', b"9" * 30, b"\xff", b"1e999"))
        file.write_bytes(data)
        read_or_refuse(hostile)


def test_changed_headers_are_read_right_or_refused(hostile: Path) -> None:
    rng = random.Random(13)
    file, original = hostile / WEIGHTS, (hostile / WEIGHTS).read_bytes()
    length = int.from_bytes(original[:8], "little")
    header, data = json.loads(original[8 : 8 + length]), original[8 + length :]
    changes: list[Callable[[dict[str, Any], str], Any]] = [
        lambda told, name: told[name].update(dtype=rng.choice(["F64", "F8_E4M3", "I32", "BOOL", "C64", "X", 3, None])),
        lambda told, name: told[name].update(shape=rng.choice([[], [0], [1, 40], [-1], [1 << 60], [40.0], "x", None])),
        lambda told, name: told[name].update(data_offsets=rng.choice([[0, 0], [0, 1 << 50], [9, 2], [-4, 4], [0], 3])),
        lambda told, name: told.update(
            {rng.choice(["", "x" * 5000, "a\0b", "\ud800", "é", name + "2"]): told.pop(name)}
        ),
        lambda told, name: told.update({name: rng.choice([None, [], 3, {}, {"dtype": "F32"}])}),
        lambda told, name: told.update(__metadata__=rng.choice([None, 3, {"a": 3}, {"a": "b"}])),
        lambda told, name: told.pop(name),
    ]
    for _ in range(200):
        told = json.loads(json.dumps(header))
        rng.choice(changes)(told, rng.choice([name for name in told if name != "__metadata__"]))
        text = json.dumps(told).encode()
        size = rng.choice((len(text), len(text), len(text), len(text) + 1, 0, 1 << 62)).to_bytes(8, "little")
        file.write_bytes(size + text + data)
        read_or_refuse(hostile)


def test_any_tensors_are_read_right_or_refused(hostile: Path) -> None:
    tensors = load_file(hostile / WEIGHTS)
    key = next(key for key in tensors if key.endswith("spectrum"))
    for dtype, is_read in {
        **dict.fromkeys((torch.float64, torch.float16, torch.bfloat16), True),
        **dict.fromkeys((torch.float8_e4m3fn, torch.int64, torch.uint8, torch.bool, torch.complex64), False),
    }.items():
        save_file({**tensors, key: tensors[key].to(dtype)}, hostile / WEIGHTS)
        assert (read_or_refuse(hostile) is not None) == is_read, dtype
    for dtype in (torch.float8_e4m3fn, torch.int64, torch.bool, torch.float16):
        save_file({**tensors, "base_model.model.classifier.extra": torch.ones(3).to(dtype)}, hostile / WEIGHTS)
        assert read_or_refuse(hostile) is not None, dtype
    save_file({**tensors, "base_model.model.classifier.weight": torch.zeros(0)}, hostile / WEIGHTS)
    with pytest.raises(CheckpointError, match="which is empty; it was saved before its parts"):
        read_checkpoint(hostile)
    for values in (torch.zeros(0), torch.zeros(40, 1), torch.tensor(1.0), torch.full((40,), 3e38), torch.zeros(41)):
        save_file({**tensors, key: values}, hostile / WEIGHTS)
        assert read_or_refuse(hostile) is None
    save_file({**tensors, key.removeprefix("base_model.model."): tensors[key].clone()}, hostile / WEIGHTS)
    with pytest.raises(CheckpointError, match="a layer with and without"):
        read_checkpoint(hostile)


@pytest.mark.parametrize("name", [CONFIG, WEIGHTS])
@pytest.mark.parametrize("put", ["folder", "pipe", "loop", "device", "socket", "empty"])
def test_what_is_no_file_is_refused_at_once(hostile: Path, name: str, put: str) -> None:
    file = hostile / name
    file.unlink()
    if put == "folder":
        file.mkdir()
    elif put == "pipe":
        os.mkfifo(file)
    elif put == "empty":
        file.touch()
    elif put == "socket":
        os.mknod(file, 0o140600)
    else:
        file.symlink_to({"loop": name, "device": "/dev/zero"}[put])
    assert read_or_refuse(hostile) is None


def test_links_to_the_files_are_followed(hostile: Path, tmp_path: Path) -> None:
    (tmp_path / "linked").mkdir()
    for name in (CONFIG, WEIGHTS):
        (tmp_path / "linked" / name).symlink_to(hostile / name)
    assert read_or_refuse(tmp_path / "linked") is not None


def test_deep_long_and_endless_configs_are_refused(hostile: Path) -> None:
    content = json.loads((hostile / CONFIG).read_text())
    inner = json.dumps(content)[:-1]
    for more in (
        '"x": ' + "[" * 5000 + "]" * 5000,
        '"x": ' + '{"a":' * 968 + "1" + "}" * 968,
        '"scaling": ' + "1" + "0" * 400,
        '"scaling": 1e400',
        '"random_loc_seed": ' + str(10**400),
        '"peft_type": "FOURIERFT"',
        '"x": NaN',
        '"x": "\\ud800"',
    ):
        (hostile / CONFIG).write_text(f"{inner}, {more}}}")
        assert read_or_refuse(hostile) is None
    with (hostile / CONFIG).open("wb") as file:
        file.truncate(1 << 33)
    assert read_or_refuse(hostile) is None


def test_a_folder_that_was_copied_is_read_as_before(hostile: Path, tmp_path: Path) -> None:
    copied = read_checkpoint(shutil.copytree(hostile, tmp_path / "copied"))
    assert copied.shapes == dict.fromkeys(copied.coefficients, (32, 32))
    assert copied.config.record.is_auto
