"""A training step and a token of decoding of whole models, as multiples of those of the frozen base."""

from __future__ import annotations

from dataclasses import dataclass

from lab.bench.limits.hardware import HALF, Device, Kernel, seconds
from lab.bench.limits.paths import Kernels, Path, product


@dataclass(frozen=True)
class Model:
    """A decoder by its public configuration: widths, blocks, words."""

    name: str
    hidden: int
    key_value: int  # width of k and v
    inner: int
    blocks: int
    words: int

    @property
    def layers(self) -> dict[str, tuple[int, int]]:
        """Width of the input and output of each linear layer of a block."""
        h, kv, m = self.hidden, self.key_value, self.inner
        attention = {"q_proj": (h, h), "k_proj": (h, kv), "v_proj": (h, kv), "o_proj": (h, h)}
        return {**attention, "gate_proj": (h, m), "up_proj": (h, m), "down_proj": (m, h)}


LLAMA_2_7B = Model("LLaMA-2 7B", 4096, 4096, 11008, 32, 32000)
LLAMA_3_2_3B = Model("Llama-3.2-3B", 3072, 1024, 8192, 28, 128256)
QUERY_VALUE = ("q_proj", "v_proj")
ALL = tuple(LLAMA_2_7B.layers)


def frozen_step(model: Model, rows: int, length: int) -> Kernels:
    """A step with nothing to train but what comes before all layers: forward, and the gradients of all inputs.

    Attention is fused and computes half of its square. Norms, rotations, activations and sums read and write each
    tensor once. The loss takes the words' logits through memory three times in either direction.
    """
    tokens = rows * length
    h, m = model.hidden, model.inner
    products = [product(tokens, i, o) for i, o in model.layers.values()]
    attention = Kernel(memory=HALF * 4 * tokens * h, half=2.0 * tokens * length * h)
    small = [Kernel(memory=HALF * 2 * tokens * h)] * 4 + [Kernel(memory=HALF * 3 * tokens * h)] * 2
    block = [*products, attention, *small, Kernel(memory=HALF * 3 * tokens * m)]
    twice = [*products, attention, attention, *small, *small, Kernel(memory=HALF * 5 * tokens * m)]
    head, loss = product(tokens, h, model.words), Kernel(memory=HALF * 3 * tokens * model.words)
    return (block + twice) * model.blocks + [head, loss, loss, head]


def adapted_step(model: Model, path: Path, names: tuple[str, ...], size: int, rows: int, length: int) -> Kernels:
    """What an adapter adds to `frozen_step`: its forward and backward in all layers of these names."""
    tokens = rows * length
    shapes = [model.layers[name] for name in names]
    both = [kernel for i, o in shapes for way in (path.forward, path.backward) for kernel in way(tokens, i, o, size)]
    return both * model.blocks


def decoding(model: Model, rows: int) -> Kernels:
    """One token of each row by the frozen base: its weights are read once; caches of keys and values are left out."""
    block = [product(rows, i, o) for i, o in model.layers.values()] + [Kernel()] * 6
    return block * model.blocks + [product(rows, model.hidden, model.words)]


def adapted_decoding(model: Model, path: Path, names: tuple[str, ...], size: int, rows: int) -> Kernels:
    """What adapters, each row its own, add to `decoding`."""
    shapes = [model.layers[name] for name in names]
    return [kernel for i, o in shapes for kernel in path.forward(rows, i, o, size)] * model.blocks


def ratio(base: Kernels, added: Kernels, device: Device) -> float:
    """How long both take, as a multiple of the base."""
    return 1 + seconds(added, device) / seconds(base, device)
