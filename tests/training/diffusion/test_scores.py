"""Scores against numpy, scipy and cases known by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm
from transformers import AutoImageProcessor, AutoModel

from fourierft.errors import ConfigError, DataError, MissingExtraError
from fourierft.training.diffusion.data import find_images, open_photo
from fourierft.training.diffusion.scores import Eye, frechet_distance, inception_distance, likeness, score_images

from .conftest import save_photos


def test_distance_is_that_of_numpy() -> None:
    draw = np.random.default_rng(0)
    left, right = draw.normal(size=(40, 6)), draw.normal(1.0, 2.0, size=(30, 6)) @ draw.normal(size=(6, 6))
    means, covariances = [rows.mean(0) for rows in (left, right)], [np.cov(rows.T) for rows in (left, right)]
    root = sqrtm(covariances[0] @ covariances[1]).real
    expected = ((means[0] - means[1]) ** 2).sum() + np.trace(covariances[0] + covariances[1] - 2 * root)
    assert frechet_distance(torch.tensor(left), torch.tensor(right)) == pytest.approx(expected, rel=1e-8)


def test_distance_of_equal_sets_is_zero() -> None:
    rows = torch.randn(20, 5, dtype=torch.float64)
    assert frechet_distance(rows, rows.flip(0)) == pytest.approx(0.0, abs=1e-6)


def test_distance_of_fewer_images_than_features_is_that_of_their_means() -> None:
    rows = torch.randn(3, 8, dtype=torch.float64)
    assert frechet_distance(rows + 2.0, rows) == pytest.approx(8 * 4.0, rel=1e-3)
    with pytest.raises(DataError, match="at least two images on each side"):
        frechet_distance(rows[:1], rows)


def test_likeness_is_the_mean_cosine_of_all_pairs() -> None:
    left, right = torch.tensor([[2.0, 0.0], [0.0, 3.0]]), torch.tensor([[1.0, 0.0], [5.0, 5.0]])
    assert likeness(left, right) == pytest.approx((1 + 2**-0.5 + 0 + 2**-0.5) / 4)


def test_features_are_those_of_the_class_token(tiny_dinov2: Path, photos: Path) -> None:
    paths = find_images(photos, "")
    processor = AutoImageProcessor.from_pretrained(tiny_dinov2, backend="pil")
    pixels = torch.cat([processor(open_photo(path), return_tensors="pt")["pixel_values"] for path in paths])
    with torch.no_grad():
        expected = AutoModel.from_pretrained(tiny_dinov2)(pixel_values=pixels).last_hidden_state[:, 0]
    torch.testing.assert_close(Eye(str(tiny_dinov2)).look(paths), expected)


def test_photos_are_nearer_to_themselves_than_others(
    tiny_dinov2: Path, tiny_clip: Path, photos: Path, tmp_path: Path
) -> None:
    models: dict[str, Any] = {"features": str(tiny_dinov2), "dino": str(tiny_dinov2), "clip": str(tiny_clip)}
    mine = find_images(photos, "")
    others = find_images(save_photos(tmp_path / "others", 4, seed=5, size=(16, 40)), "")
    same = score_images(mine, mine, prompt="a dog", **models)
    far = score_images(others, mine, prompt="a dog", **models)
    assert list(same) == ["fid", "dino", "clip_i", "clip_t"]
    assert same["fid"] == pytest.approx(0.0, abs=1e-4)
    assert far["fid"] > 10 * max(same["fid"], 1e-3)
    assert far["dino"] < same["dino"]
    assert far["clip_i"] < same["clip_i"] <= 1
    assert score_images(mine, mine, dino=str(tiny_dinov2)).keys() == {"dino"}


def test_model_that_reads_no_text_is_refused(tiny_dinov2: Path) -> None:
    with pytest.raises(ConfigError, match="cannot read text; use a model such as openai/clip"):
        Eye(str(tiny_dinov2)).read("a dog")


def test_inception_needs_its_package(photos: Path) -> None:
    with pytest.raises(MissingExtraError, match=r"needs torch-fidelity.*or name a vision model"):
        inception_distance(find_images(photos, ""), find_images(photos, ""))
