"""Three devices as their makers describe them, and how long a kernel takes on one at best."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

FLOAT, HALF = 4, 2  # bytes of a float32, and of a bfloat16


@dataclass(frozen=True)
class Device:
    """What a device does at most in a second, from its data sheet: dense products, clocks at boost.

    Shared memory moves 128 bytes a clock and multiprocessor.
    """

    name: str
    memory: float  # bytes of its main memory
    half: float  # flops of bfloat16 products on tensor cores, summed in float32
    tf32: float  # flops of tf32 products on tensor cores
    vector: float  # flops of float32 on vector units
    shared: float  # bytes of shared memory
    latency: float = 2e-6  # seconds that the smallest kernel of a captured graph takes


DEVICES = (
    Device("H200", 4.8e12, 989e12, 495e12, 66.9e12, 33.4e12),
    Device("L40S", 0.864e12, 362e12, 183e12, 91.6e12, 45.8e12),
    Device("RTX 4090", 1.008e12, 165e12, 82.6e12, 82.6e12, 41.3e12),
)


@dataclass(frozen=True)
class Kernel:
    """What one kernel moves and computes. `half` and `tf32` count every pass of a product that is split."""

    memory: float = 0.0
    half: float = 0.0
    tf32: float = 0.0
    vector: float = 0.0
    shared: float = 0.0

    def seconds(self, device: Device) -> float:
        """At best: the unit that has most to do hides all others."""
        tensor = self.half / device.half + self.tf32 / device.tf32
        units = self.memory / device.memory, tensor, self.vector / device.vector, self.shared / device.shared
        return max(device.latency, *units)


def seconds(kernels: Sequence[Kernel], device: Device) -> float:
    """Of kernels that run one after another."""
    return sum(kernel.seconds(device) for kernel in kernels)
