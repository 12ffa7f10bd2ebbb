"""Suite (g): the update of one token, there and back, over the hidden and MLP widths of real models.

Input and output have the same width. An operation is one element of one token, so that widths compare; a width with a
large prime factor shows as a step.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator

import torch

from fourierft.spectral import uniform_basis
from fourierft.spectral.compiled.build import load_kernel
from fourierft.spectral.token_transforms import carry
from fourierft.spectral.tokens import token_product
from fourierft.spectral.transforms import link_factors
from lab.bench.harness import LAYER_TOLERANCE, Case, Contender, Settings, relative_rms

TITLE = "Transforms over the widths of real models"
TOKENS, N_FREQUENCY = 128, 340
WIDTHS = {
    384: "MiniLM",
    576: "SmolLM2-135M",
    640: "Gemma 3 270M",
    768: "RoBERTa base",
    896: "Qwen2.5-0.5B",
    960: "SmolLM2-360M",
    1024: "BERT large",
    1152: "SigLIP",
    1408: "ViT-g",
    1536: "Qwen2.5-1.5B",
    1600: "GPT-2 XL",
    1664: "ViT-bigG",
    2048: "TinyLlama",
    2304: "Gemma 2 2B",
    2560: "Phi-2",
    2624: "ModernBERT large, MLP",
    2816: "T5 v1.1 large, MLP",
    3072: "Phi-3 mini",
    3352: "Mamba-2 130M, in_proj",
    3420: "Qwen2.5-VL, vision MLP",
    3584: "Qwen2.5-7B",
    4096: "LLaMA-2 7B",
    4304: "SigLIP, MLP",
    4384: "Mamba-2 370M, in_proj",
    4544: "Falcon 7B",
    4672: "Falcon 7B, fused qkv",
    4864: "Qwen2.5-0.5B, MLP",
    5120: "LLaMA-2 13B",
    5504: "Qwen1.5-1.8B, MLP",
    5632: "TinyLlama, MLP",
    6656: "LLaMA 30B",
    6912: "Gemma 3 1B, MLP",
    8192: "LLaMA-2 70B",
    8640: "OpenLLaMA 3B, MLP",
    8960: "Qwen2.5-1.5B, MLP",
    9216: "Gemma 2 2B, MLP",
    9728: "Qwen3-4B, MLP",
    10944: "DeepSeek-V2 Lite, MLP",
    11008: "LLaMA-2 7B, MLP",
    13696: "Baichuan 2 13B, MLP",
    13824: "LLaMA-2 13B, MLP",
    14336: "Llama 3 8B, MLP",
    17408: "Qwen3-14B, MLP",
    18176: "Falcon 7B, MLP",
    18944: "Qwen2.5-7B, MLP",
    22016: "LLaMA 65B, MLP",
    28672: "Llama 3 70B, MLP",
    29568: "Qwen2.5-72B, MLP",
}


def cases(settings: Settings) -> Iterator[Case]:
    """A case a width, on a CPU in float32, where there is a kernel."""
    if settings.device != "cpu" or settings.dtype != "float32" or load_kernel() is None:
        return
    smoke = settings.grid == "smoke"
    tokens = 4 if smoke else TOKENS
    for width, model in list(WIDTHS.items())[:: 16 if smoke else 1]:
        yield Case(
            name=f"{width} = {factors(width)}, {model}",
            shapes={"width": width, "tokens": tokens, "n": N_FREQUENCY},
            contenders={
                "torch": functools.partial(through_torch, width, tokens),
                "ours": functools.partial(through_kernel, width, tokens),
            },
            operations=tokens * width,
            baseline="torch",
            tolerance=LAYER_TOLERANCE,
        )


class Square:
    """The update of a layer of this width, in and out, beside tokens and a sum that it is added to."""

    def __init__(self, width: int, tokens: int) -> None:
        self.basis = uniform_basis(width, width, N_FREQUENCY, 777)
        self.x, self.c, self.y = (
            torch.randn(1, tokens, width),
            torch.randn(1, N_FREQUENCY),
            torch.zeros(1, tokens, width),
        )


def through_torch(width: int, tokens: int) -> Contender:
    """By torch's real transforms, as where the kernel does not serve."""
    layer = Square(width, tokens)
    links = layer.basis.links(layer.x.device)
    factors = link_factors(layer.c, links, 1.0 / width)
    return Contender(lambda: carry(layer.x, factors, links, width, layer.y), None)


def through_kernel(width: int, tokens: int) -> Contender:
    layer = Square(width, tokens)

    def error() -> float:
        picked = layer.x[:, :2]
        found = token_product(picked, layer.c, layer.basis, 1.0)[0]
        rows, columns = (torch.arange(width) * bins[:, None] % width for bins in layer.basis.entries)
        into, out = columns.double() * (2 * math.pi / width), rows.double() * (2 * math.pi / width)
        along, across = (layer.c[0] * (picked[0].double() @ wave.T) for wave in (into.cos(), into.sin()))
        return relative_rms(found, (along @ out.cos() - across @ out.sin()) / width**2)

    return Contender(lambda: token_product(layer.x, layer.c, layer.basis, 1.0, onto=layer.y), error)


def factors(number: int) -> str:
    """Prime factors, as 2^8 x 19."""
    found: dict[int, int] = {}
    for prime in range(2, number + 1):
        while number % prime == 0:
            found[prime] = found.get(prime, 0) + 1
            number //= prime
        if number == 1:
            break
    return " x ".join(f"{prime}^{power}" if power > 1 else f"{prime}" for prime, power in found.items())
