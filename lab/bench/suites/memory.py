"""Suite (e): bytes that autograd keeps for the backward of each adapted layer, and the peak resident size of a step.

Kept bytes are counted on whole models: the storages of all tensors saved in a forward, each once, without weights and
buffers; what the frozen base keeps anyway is subtracted, and the rest shared among the adapted layers. The baseline
is LoRA r=8.
"""

from __future__ import annotations

import functools
import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import nn

from fourierft.errors import BackendError
from lab.bench.harness import Case, Contender, Settings
from lab.bench.methods import METHODS
from lab.bench.stage import Stage
from lab.bench.suites.training_step import training_step
from lab.folders import ROOT

TITLE = "Memory"
MODELS = ("roberta-base", "llama-2048")


def cases(settings: Settings) -> Iterator[Case]:
    """Kept bytes of each model, then the peak of a step."""
    for name in MODELS:
        stage = Stage(name, settings)
        yield Case(
            name=f"{name}, kept for the backward of an adapted layer",
            shapes=stage.shapes(),
            contenders={method: functools.partial(kept, stage, method) for method in METHODS},
            unit="B",
            rounds=1,
            baseline="lora-8",
        )
    for name in MODELS if settings.device == "cpu" else ():
        yield Case(
            name=f"{name}, peak resident size of a step",
            shapes=Stage(name, settings).shapes(),
            contenders={m: functools.partial(peak, name, m, settings) for m in ("base", *METHODS)},
            unit="B",
            rounds=1,  # a process of its own each time, whose peak hardly varies
        )


def kept(stage: Stage, method: str) -> Contender:
    """Bytes a layer, beside those of the base."""
    model = stage.adapted(method, train=True)

    def run() -> float:
        own = saved_bytes(stage.adapted("base", train=True), stage.batch)
        return (saved_bytes(model, stage.batch) - own) / len(stage.paths)

    return Contender(run, functools.partial(stage.distance, model) if method == "ours" else None)


def saved_bytes(model: nn.Module, batch: dict[str, torch.Tensor]) -> int:
    """Bytes of the storages that a forward keeps for its backward, each counted once, weights and buffers left out."""
    fixed = {t.untyped_storage().data_ptr() for t in (*model.parameters(), *model.buffers(), *batch.values())}
    storages: dict[int, int] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in fixed:
            storages[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        loss = model(**batch).loss
    total = sum(storages.values())
    del loss  # the graph kept every storage alive until here, so that no address was used twice
    return total


def peak(name: str, method: str, settings: Settings, every: bool = False) -> Contender:
    """Peak resident bytes of a process of its own that makes three steps; `every`: with each linear layer adapted."""
    command = [sys.executable, "-m", "lab.bench.suites.memory", name, method]
    command += [settings.grid, settings.dtype, str(settings.threads), "every" if every else ""]
    environment = {**os.environ, "OMP_NUM_THREADS": str(settings.threads)}

    def run() -> float:
        finished = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
        if finished.returncode != 0:
            raise BackendError(f"a step of {method} on {name} failed: {finished.stderr.strip()[-500:]}")
        return float(finished.stdout.split()[-1])

    def distance() -> float:
        stage = Stage(name, settings, every=every)
        return stage.distance(stage.adapted(method, train=True))

    return Contender(run, distance if method == "ours" else None)


def _print_peak(name: str, method: str, grid: str, dtype: str, threads: str, every: str) -> None:
    torch.set_num_threads(int(threads))
    stage = Stage(name, Settings(grid=grid, dtype=dtype, threads=int(threads)), every=bool(every))
    step = training_step(stage.adapted(method, train=True), stage.batch)
    for _ in range(3):
        step()
    print(peak_resident_bytes())


def peak_resident_bytes() -> int:
    """Highest resident size of this process.

    On Linux from the process's own status: getrusage also counts what the parent held when it started the process.
    """
    if sys.platform == "linux":
        status = Path("/proc/self/status").read_text(encoding="utf-8")
        return 1024 * int(status.partition("VmHWM:")[2].split()[0])
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


if __name__ == "__main__":
    _print_peak(*sys.argv[1:])
