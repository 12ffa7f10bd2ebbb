"""Does a convolutional UNet learn at the settings that LoRA is used with?

    python -m lab trials unet
    python -m lab trials unet --page

The stand-in of `fourierft dreambooth`, a small Stable Diffusion that knows all handwritten digits but the nine, learns
it from eight photos at LoRA's usual rate. The score is the loss on these photos, at noise that was not trained on and
timesteps that are the same for all; beside it that on sixty other nines, which tells how much is of the photos alone.
Each run adds a line to lab/trials/results/unet.jsonl and is not repeated. Writes docs/quality/unet.md.
About ten minutes on one core, a third of it for the stand-in.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import torch

from fourierft.tables import align_columns
from fourierft.training.assets import cache_root
from fourierft.training.diffusion.arguments import build_arguments
from fourierft.training.diffusion.data import encode_concept, find_images, open_readable
from fourierft.training.diffusion.pipeline import load_pipeline
from fourierft.training.diffusion.sampling import load_trained_pipeline
from fourierft.training.diffusion.small import SIDE
from fourierft.training.diffusion.stand_in import PROMPT, Sizes, make_stand_in
from fourierft.training.diffusion.trainer import TARGETS, train_dreambooth
from fourierft.tuner.scaling import auto_scaling
from lab import pages
from lab.folders import QUALITY
from lab.ledger import Ledger, Row, versions_of
from lab.trials.stock import stock_classes

RESULTS, PAGE = Path(__file__).with_name("results") / "unet.jsonl", QUALITY / "unet.md"
SEEDS, STEPS, RATE, N = (0, 1, 2), 300, 1e-4, 1000
MEASURED = {"photos": 8, "others": 1}  # folder of the stand-in -> times that each image is taken
CONVOLUTIONS = ["conv1", "conv2", "conv_shortcut", "conv"]
EVERYWHERE = [*TARGETS, "proj_in", "proj_out", "ff.net.0.proj", "ff.net.2", "time_emb_proj", *CONVOLUTIONS]
AS_ON_XL = {"method": "fourierft", "n_frequency": N, "scaling": "0.8", "init_weights": False}  # see `TEXT`
AUTO: dict[str, Any] = {"method": "fourierft", "n_frequency": N}
LORA = {"method": "lora", "lora_r": 8}
METHODS: dict[str, dict[str, Any]] = {
    "stock PEFT: scaling 0.8, normal start": AS_ON_XL,
    'scaling="auto"': AUTO,
    "LoRA r=8": LORA,
    'scaling="auto", convolutions too': {**AUTO, "target_modules": EVERYWHERE},
    "LoRA r=8, convolutions too": {**LORA, "target_modules": EVERYWHERE},
}
XL_WIDTH, XL_SHAPES = 1280, ((640, 640), (640, 2048), (1280, 1280), (1280, 2048))  # of its UNet, and of its attention
TEXT = f"""\
# A convolutional UNet

A small Stable Diffusion (a million numbers, widths 32 and 64) learns handwritten nines from eight photos, in {STEPS}
steps of eight at a constant rate of {RATE:g}. FourierFT has n={N}. The table shows the loss on these photos, with noise
that was not trained on and the same timesteps for all, and on sixty other nines: mean and standard deviation over
seeds. The adapters are in the attention (`to_q`, `to_k`, `to_v`, `to_out.0`, all linear). If a row says so, they are
also in the other linear layers and the convolutions of the blocks. Part of the fall does not come from nines: the base
was trained on the means of the autoencoder's latents, and here it is trained on samples of them. Made by
`python -m lab trials unet`.
"""


@contextmanager
def quiet() -> Iterator[None]:
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        yield


@torch.no_grad()
def fixed_loss(pipeline: Any, photos: Path, times: int = 1) -> float:
    """The mean loss of DDPM on the photos of a folder, each so many times, the timesteps spread evenly."""
    images = open_readable(find_images(photos, "photos"), "stop")
    concept = encode_concept(pipeline, images, PROMPT, SIDE, False, torch.device("cpu"))
    means, deviations = (found[:, 0].repeat(times, 1, 1, 1) for found in (concept.means, concept.deviations))
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(means.shape, generator=generator)
    latents = means + deviations * torch.randn(means.shape, generator=generator)  # as they are trained on
    count = pipeline.scheduler.config.num_train_timesteps
    steps = ((torch.arange(len(latents)) + 0.5) * count / len(latents)).long()
    hidden = concept.text["hidden_states"].expand(len(latents), -1, -1)
    predicted = pipeline.unet.eval()(pipeline.scheduler.add_noise(latents, noise, steps), steps, hidden).sample
    return float((predicted - noise).square().mean())


def train(
    model: Path, settings: Mapping[str, Any], seed: int, rate: float = RATE, steps: int = STEPS
) -> dict[str, Any]:
    """Train one adapter and measure it: `photos` and `others`, each before and after, and the numbers `trained`.

    Args:
        model: folder of the stand-in.
        settings: of the method.
    """
    given = {
        "model_name_or_path": str(model / "model"),
        "instance_data_dir": str(model / "photos"),
        "instance_prompt": PROMPT,
        "max_steps": steps,
        "per_device_train_batch_size": 8,
        "learning_rate": rate,
        "seed": seed,
        "save_steps": 0,
        "use_cpu": True,
    }
    is_stock = "scaling" in settings
    with tempfile.TemporaryDirectory() as scratch, quiet():
        folder = Path(scratch) / "adapter"
        with stock_classes() if is_stock else nullcontext():
            metrics = train_dreambooth(build_arguments({**given, **settings, "output_dir": str(folder)}))
        pipelines = load_pipeline(str(model / "model")), load_trained_pipeline(folder)
        found = {
            name: [fixed_loss(pipeline, model / name, times) for pipeline in pipelines]
            for name, times in MEASURED.items()
        }
    return {**found, "trained": metrics["parameters"]["adapter"]}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--page", action="store_true", help="run nothing, only make the page again")


def run(arguments: argparse.Namespace) -> int:
    """Run what is missing, print the table, write the page."""
    cells = [{"method": name, "seed": seed} for seed in SEEDS for name in METHODS]
    ledger = Ledger(RESULTS, {"steps": STEPS, "learning_rate": RATE})
    if not arguments.page:
        model = cache_root() / "stand-in"
        make_stand_in(model, Sizes())
        for cell in ledger.missing(cells, None):
            found = train(model, METHODS[cell["method"]], cell["seed"])
            ledger.add(cell, found)
    write_page(ledger.rows())
    return 0


def table_rows(rows: Sequence[Row]) -> list[tuple[str, ...]]:
    """Headings, the model as it is, and a row a method, as text."""
    cells: list[tuple[str, ...]] = [("method", "trained", "loss on the photos", "on other nines", "seeds")]
    cells.append(("as it is", "0", *(f"{mean(row[name][0] for row in rows):.4f}" for name in MEASURED), ""))
    for method in METHODS:
        own = [row for row in rows if row["method"] == method]
        if own:
            losses = (_spread([row[name][1] for row in own]) for name in MEASURED)
            cells.append((method, f"{own[0]['trained']:,}", *losses, str(len(own))))
    return cells


def _spread(losses: Sequence[float]) -> str:
    deviation = f" ({stdev(losses):.4f})" if len(losses) > 1 else ""
    return f"{mean(losses):.4f}{deviation}"


def write_page(rows: Sequence[Row]) -> None:
    """Print the table of the rows and write the page."""
    cells = table_rows(rows)
    scales = [("layer of Stable Diffusion XL", 'scaling of "auto"', "over 150")]
    for out, width in XL_SHAPES:
        scaling = auto_scaling(out, width, N, XL_WIDTH)
        scales.append((f"{out} x {width}", f"{scaling:,.0f}", f"{scaling / 150:.0f}"))
    why = f"""The scaling that the rule takes at n={N} for the attention of Stable Diffusion XL, {XL_WIDTH} wide, beside
stock PEFT's 150. At the widths of the small model the rule takes 40 to 160, so 0.8 there acts like 150 on XL."""
    pages.write_page(PAGE, [TEXT, cells, why, scales, f"{versions_of(rows)}."])
    print(f"{align_columns(cells)}\n\nwritten to {PAGE}")
