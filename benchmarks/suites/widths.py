"""Suite (g): transforming one token there and back, over the hidden and MLP widths of real models.

An operation is one element of one token, so that widths compare; a width with a large prime factor shows as a step.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator

import torch

from benchmarks.harness import LAYER_TOLERANCE, Case, Contender, Settings, relative_rms
from fourierft.spectral import hold, uniform_basis
from fourierft.spectral.compiled.build import load_kernel
from fourierft.spectral.transforms import from_token_spectrum, token_spectrum

TITLE = "Transforms over the widths of real models"
TOKENS = 64
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
            shapes={"width": width, "tokens": tokens, "n": 4 * width},
            contenders={
                "torch": functools.partial(through_torch, width, tokens),
                "ours": functools.partial(through_kernel, width, tokens),
            },
            operations=tokens * width,
            baseline="torch",
            tolerance=LAYER_TOLERANCE,
        )


def through_torch(width: int, tokens: int) -> Contender:
    """By torch's real transforms, as where the kernel does not serve."""
    x = torch.randn(1, tokens, width)
    return Contender(lambda: from_token_spectrum(token_spectrum(x), width), None)


def through_kernel(width: int, tokens: int) -> Contender:
    """What the compiled kernel does to an input, and to the gradient of its spectrum, of which nearly all is held."""
    x, basis = torch.randn(tokens, width, requires_grad=True), uniform_basis(width, width, 4 * width, 777)
    held = hold(x, [basis]).spectrum

    def run() -> torch.Tensor:
        with torch.no_grad():
            spectrum = hold(x, [basis]).spectrum
        return torch.autograd.grad(held, x, spectrum, retain_graph=True)[0]

    def error() -> float:
        columns = torch.cat([basis.entries[1], -basis.entries[1] % width]).unique()
        spectrum, kept = torch.fft.fft(x.detach().double()), torch.zeros(tokens, width, dtype=torch.complex128)
        kept[:, columns] = spectrum[:, columns]
        # Both transforms have positive exponents, so that the token comes back `width` times as large, and backwards.
        return relative_rms(run(), width * torch.fft.ifft(kept).real.flip(1).roll(1, 1))

    return Contender(run, error)


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
