"""How like the photos of a subject are images that were made: distances and likenesses in the eyes of vision models.

- FID: the Frechet distance of two sets' features (torchmetrics; arXiv 1706.08500).
- DINO, CLIP-I: the mean cosine between the features of each image made and each photo (DreamBooth, arXiv 2208.12242).
- CLIP-T: the mean cosine between the images made and the text.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import AutoImageProcessor, AutoModel, AutoTokenizer

from fourierft.adapters.base import quiet
from fourierft.bars import bar
from fourierft.errors import ConfigError, DataError, MissingExtraError
from fourierft.extras import needs
from fourierft.training.diffusion.data import open_photo
from fourierft.training.models import explained

INCEPTION = "inception"
BATCH = 16


class Eye(nn.Module):
    """A vision model of transformers and what makes its pixels of an image.

    Args:
        name: hub id or folder; of a model like CLIP the image side is used.

    Raises: ConfigError, if it can't be had. MissingExtraError, without Pillow.
    """

    def __init__(self, name: str, device: torch.device | None = None) -> None:
        super().__init__()
        self.name = name
        with needs("diffusion", "reading images"):
            import PIL  # noqa: F401  transformers' image processors stand on it
        with explained(name), quiet():
            self.processor = AutoImageProcessor.from_pretrained(name, backend="pil")
            self.model = AutoModel.from_pretrained(name).eval().requires_grad_(False)
        self.device = device or torch.device("cpu")
        self.model.to(self.device)

    @torch.no_grad()
    def forward(self, pixels: Tensor) -> Tensor:
        """Features [images, width] of pixels [images, 3, height, width]: the class token's, or the mean over places."""
        if hasattr(self.model, "get_image_features"):
            return _tensor(self.model.get_image_features(pixel_values=pixels))
        states = self.model(pixel_values=pixels).last_hidden_state
        return states[:, 0] if states.ndim == 3 else states.mean(dim=(2, 3))

    @torch.no_grad()
    def look(self, paths: Sequence[Path]) -> Tensor:
        """Features [images, width] of image files, on the CPU."""
        rows = []
        for start in bar(range(0, len(paths), BATCH), Path(self.name).name, "batches"):
            images = [open_photo(path) for path in paths[start : start + BATCH]]
            pixels = torch.stack([self.processor(image, return_tensors="pt")["pixel_values"][0] for image in images])
            rows.append(self(pixels.to(self.device)).float().cpu())
        return torch.cat(rows)

    @torch.no_grad()
    def read(self, text: str) -> Tensor:
        """Features [1, width] of a text, of a model like CLIP.

        Raises: ConfigError, if the model reads no text.
        """
        if not hasattr(self.model, "get_text_features"):
            raise ConfigError(
                f"{self.name} cannot read text; use a model such as openai/clip-vit-base-patch32 for --clip"
            )
        with explained(self.name), quiet():
            tokenizer = AutoTokenizer.from_pretrained(self.name)
        tokens = tokenizer(text, truncation=True, return_tensors="pt").to(self.device)
        return _tensor(self.model.get_text_features(**tokens)).float().cpu()


def frechet_distance(made: Tensor, photos: Tensor) -> float:
    """FID of two sets of features [images, width].

    Raises: DataError, if a set has fewer than two images. MissingExtraError, without torchmetrics.
    """
    metric = _fid(nn.Identity(), made.shape[1])
    for features, is_real in ((photos, True), (made, False)):
        if len(features) < 2:
            raise DataError("FID needs at least two images on each side; give more")
        metric.update(features.double(), real=is_real)
    return float(metric.compute())


def inception_distance(made: Sequence[Path], photos: Sequence[Path]) -> float:
    """FID in the features of Inception-v3, whose weights torch-fidelity downloads.

    Raises: MissingExtraError, without torch-fidelity.
    """
    try:
        metric = _fid(2048, None)
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            "FID by Inception-v3 needs torch-fidelity, which brings torchvision; pip install torch-fidelity, or name "
            "a vision model of transformers with --features"
        ) from error
    for paths, is_real in ((photos, True), (made, False)):
        for path in bar(paths, INCEPTION, "images"):
            pixels = torch.from_numpy(np.array(open_photo(path)))
            metric.update(pixels.permute(2, 0, 1)[None], real=is_real)
    return float(metric.compute())


def likeness(left: Tensor, right: Tensor) -> float:
    """Mean cosine between each row of one set and each of the other."""
    normal = [nn.functional.normalize(rows.double(), dim=-1) for rows in (left, right)]
    return float((normal[0] @ normal[1].T).mean())


def score_images(
    made: Sequence[Path],
    photos: Sequence[Path],
    *,
    features: str | None = None,
    dino: str | None = None,
    clip: str | None = None,
    prompt: str | None = None,
    device: torch.device | None = None,
) -> dict[str, float]:
    """Scores of images that were made, beside photos of the subject; those whose model is None are left out.

    Args:
        features: model of the FID, or `inception`.
        dino: model of DINO.
        clip: model of CLIP-I, and with a prompt of CLIP-T.

    Returns: fid (lower is better), dino, clip_i, clip_t.
    """
    scores = {}
    if features == INCEPTION:
        scores["fid"] = inception_distance(made, photos)
    elif features:
        eye = Eye(features, device)
        scores["fid"] = frechet_distance(eye.look(made), eye.look(photos))
    if dino:
        eye = Eye(dino, device)
        scores["dino"] = likeness(eye.look(made), eye.look(photos))
    if clip:
        eye = Eye(clip, device)
        seen = eye.look(made)
        scores["clip_i"] = likeness(seen, eye.look(photos))
        if prompt:
            scores["clip_t"] = likeness(seen, eye.read(prompt))
    return scores


def _fid(feature: Any, width: int | None) -> Any:
    with needs("diffusion", "FID"):
        from torchmetrics.image.fid import FrechetInceptionDistance
    if width is not None:
        feature.num_features = width
    return FrechetInceptionDistance(feature=feature, normalize=width is not None)


def _tensor(output: Any) -> Tensor:
    return output if isinstance(output, Tensor) else output.pooler_output
