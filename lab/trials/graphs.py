"""How a graph of ONNX takes an adapter: factors in it, or a second graph that makes weights once a switch.

    python -m lab trials graphs

MiniLM, n = 340 on every linear layer, onnxruntime on one thread. The contenders take turns, the shortest time of each
counts, and a table is printed, which docs/export.md has.
"""

from __future__ import annotations

import argparse
import copy
import tempfile
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from fourierft.errors import ConfigError
from fourierft.tables import markdown_table

N_FREQUENCY, SEED = 340, 777
BATCHES = ((1, 16), (12, 16))
ROUNDS = 7


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="turns of each (default: %(default)s)")


def run(arguments: argparse.Namespace) -> int:
    """Make the graphs, time them in turn, print.

    Raises: ConfigError, if there is to be no round.
    """
    if arguments.rounds < 1:
        raise ConfigError(f"--rounds {arguments.rounds} is none; use 1 or more")
    import torch

    with tempfile.TemporaryDirectory() as folder:
        calls, switch, sizes = make_calls(Path(folder))
    rows: list[tuple[str, ...]] = [
        ("", *sizes),
        ("MB of the graphs", *(f"{size / 1e6:.1f}" for size in sizes.values())),
    ]
    for batch in BATCHES:
        ids = torch.randint(1000, 5000, batch, generator=torch.Generator().manual_seed(0))
        best = fastest({name: partial(call, ids) for name, call in calls.items()}, arguments.rounds)
        rows.append((f"{batch[0]} x {batch[1]} tokens, ms", *(f"{1e3 * best[name]:.1f}" for name in sizes)))
    rows.append(("a switch, ms", "", "0", f"{1e3 * fastest({'switch': switch}, arguments.rounds)['switch']:.1f}"))
    print(markdown_table(rows))
    return 0


def fastest(calls: Mapping[str, Callable[[], Any]], rounds: int) -> dict[str, float]:
    """The shortest time of each, taken in turn after one call that does not count."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(rounds + 1):
        for name, call in calls.items():
            begin = time.perf_counter()
            call()
            if turn:
                times[name].append(time.perf_counter() - begin)
    return {name: min(own) for name, own in times.items()}


def make_calls(folder: Path) -> tuple[dict[str, Callable[[Any], Any]], Callable[[], Any], dict[str, int]]:
    """The contenders: a call with token numbers each, the switch of the last, and the bytes of their graphs."""
    import onnxruntime
    import torch
    from torch import nn
    from transformers import AutoModelForSequenceClassification

    from fourierft.export.cosines import cosines
    from fourierft.export.factors import hand_in
    from fourierft.export.numbers import Order, Part
    from fourierft.export.tracing import Handed, Plain, write_graph
    from fourierft.spectral import SpectralBasis, uniform_entries
    from fourierft.training.assets import find_model, obtain
    from fourierft.training.catalogue import MINILM

    model = AutoModelForSequenceClassification.from_pretrained(find_model(obtain(MINILM)), num_labels=2).eval()
    layers: dict[str, Any] = {
        name: layer
        for name, layer in model.named_modules()
        if isinstance(layer, nn.Linear) and "classifier" not in name
    }
    bases = {}
    for name, layer in layers.items():
        out, in_ = layer.weight.shape
        bases[name] = SpectralBasis(out, in_, uniform_entries(out, in_, N_FREQUENCY, SEED))
    parts = {name: Part(N_FREQUENCY * place, (N_FREQUENCY,)) for place, name in enumerate(layers)}
    order = Order(parts, {}, bases, N_FREQUENCY * len(layers))
    names = ["input_ids", "attention_mask"]

    class Weights(nn.Module):
        """The second graph: an adapter to all weights."""

        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, adapter: torch.Tensor) -> tuple[torch.Tensor, ...]:
            found: dict[str, Any] = {}
            weights = []
            for name, layer in layers.items():
                basis, c = bases[name], parts[name].take(adapter)[0]
                if basis.key not in found:
                    found[basis.key] = [
                        cosines(index, length, torch.float32)
                        for index, length in zip(basis.entries, layer.weight.shape, strict=True)
                    ]
                rows, columns = found[basis.key]
                weights.append(layer.weight + (rows * torch.cat([c, -c])) @ columns.T)
            return tuple(weights)

    class Taking(Plain):
        """The base, whose weights are inputs."""

        def forward(self, *tensors: torch.Tensor) -> torch.Tensor:
            inputs = dict(zip(self.names, tensors, strict=False))
            weights = {f"{name}.weight": own for name, own in zip(layers, tensors[2:], strict=True)}
            return torch.func.functional_call(self.model, weights, (), inputs).logits

    ids = torch.randint(1000, 5000, (3, 7))
    mask, numbers = torch.ones_like(ids), torch.randn(1, order.length) * 1e-3
    texts = {"input_ids": ids, "attention_mask": mask}
    write_graph(Plain(model, names), texts, folder / "base.onnx")
    handed = copy.deepcopy(model)
    table = {"adapters": numbers.expand(2, -1).contiguous(), "rows": torch.zeros(3, dtype=torch.int64)}
    write_graph(Handed(handed, names, hand_in(handed, order)), {**texts, **table}, folder / "factors.onnx")
    weights = {f"w{place}": layer.weight.detach().clone() for place, layer in enumerate(layers.values())}
    batch, tokens = torch.export.Dim("batch"), torch.export.Dim("tokens")
    shapes = ({0: batch, 1: tokens}, {0: batch, 1: tokens}, *({} for _ in weights))
    options: dict[str, Any] = {"dynamo": True, "optimize": True, "verbose": False}
    for own, given, file, axes in (
        (Taking(model, names), (ids, mask, *weights.values()), "taking.onnx", (shapes,)),
        (Weights(), (numbers,), "weights.onnx", None),
    ):
        program = torch.onnx.export(own.eval(), given, dynamic_shapes=axes, **options)
        assert program is not None
        program.save(str(folder / file))

    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads, settings.log_severity_level = 1, 3
    opened = {path.stem: onnxruntime.InferenceSession(path, settings) for path in sorted(folder.glob("*.onnx"))}
    size = {path.stem: path.stat().st_size for path in folder.glob("*.onnx")}
    places = [each.name for each in opened["taking"].get_inputs()]
    held = {
        name: onnxruntime.OrtValue.ortvalue_from_numpy(w.numpy())
        for name, w in zip(places[2:], weights.values(), strict=True)
    }
    binding = opened["weights"].io_binding()
    binding.bind_cpu_input(opened["weights"].get_inputs()[0].name, numbers.numpy())
    for output in opened["weights"].get_outputs():
        binding.bind_output(output.name)

    def text(given: torch.Tensor) -> dict[str, Any]:
        return {"input_ids": given.numpy(), "attention_mask": torch.ones_like(given).numpy()}

    def take(given: torch.Tensor) -> Any:
        fed = [onnxruntime.OrtValue.ortvalue_from_numpy(value) for value in text(given).values()]
        return opened["taking"].run_with_ort_values(None, {**held, places[0]: fed[0], places[1]: fed[1]})

    def hand(given: torch.Tensor) -> Any:
        rows = torch.zeros(len(given), dtype=torch.int64)
        return opened["factors"].run(None, {**text(given), "adapters": numbers.numpy(), "rows": rows.numpy()})

    calls: dict[str, Callable[[Any], Any]] = {
        "base alone": lambda given: opened["base"].run(None, text(given)),
        "factors in the graph": hand,
        "weights as inputs": take,
    }
    sizes = {"base alone": size["base"], "factors in the graph": size["factors"]}
    sizes["weights as inputs"] = size["taking"] + size["weights"]
    return calls, lambda: opened["weights"].run_with_iobinding(binding), sizes
