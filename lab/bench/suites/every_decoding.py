"""Suite (i): decoding with the recommended form, n = 340 on every linear layer, beside LoRA on the same layers.

As suite (c): one adapter for all rows, one a row out of at most eight, and both in turn, token by token. Wide layers
decode one adapter alone, since the truth of each takes a merged copy of the model.
"""

from __future__ import annotations

from collections.abc import Iterator

from lab.bench.harness import Case, Settings
from lab.bench.stage import Stage
from lab.bench.suites.decoding import Decoder, Turns

TITLE = "Decoding, an adapter on every linear layer"
MODELS = {  # and whether rows are mixed, too
    "smollm2-135m, 2 layers": True,
    "qwen2.5-0.5b, 2 layers": True,
    "qwen2.5-1.5b, 2 layers": False,
    "tinyllama, 2 layers": False,
    "llama-2-7b, 1 layer": False,
}
ROWS, ADAPTERS = (1, 4, 16, 64), 8
METHODS = ("base", "lora-8", "ours")


def cases(settings: Settings) -> Iterator[Case]:
    """Rows of each model, with one adapter, one a row, and in turn."""
    for model, is_mixed in MODELS.items():
        stage = Stage(model, settings, every=True)
        for rows in ROWS:
            name, adapters = f"{model}, {rows} {'row' if rows == 1 else 'rows'}", min(rows, ADAPTERS)
            yield Decoder(stage, rows, None).case(f"{name}, one adapter", METHODS)
            if not is_mixed or rows == 1:
                continue
            mixed = Decoder(stage, rows, "distinct", adapters)
            yield mixed.case(f"{name}, {adapters} adapters", METHODS)
            yield Turns(Decoder(stage, rows, None, adapters), mixed).case(f"{name}, in turn", METHODS)
