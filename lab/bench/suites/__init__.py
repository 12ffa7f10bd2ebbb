"""The suites: a module each, imported when it is run.

A suite has `TITLE`, `cases(settings)` that yields its cases, and `TABLE`: how `lab.bench.page` prints it.
"""

SUITES = {
    "every_layer": "training step and memory, an adapter on every linear layer",
    "every_decoding": "decoding, an adapter on every linear layer",
    "training_step": "training step of whole models",
    "layer": "one layer over widths, tokens and coefficients",
    "decoding": "decoding, unmerged, one adapter and many",
    "fleet": "thousands of adapters of one base, in one batch and in one bank",
    "fleet_training": "many adapters trained together",
    "injection": "putting adapters on a model, and loading them",
    "memory": "bytes kept for the backward, peak resident size",
    "widths": "transforms over the widths of real models",
    "gpu_kernels": "on a GPU: every kernel, dtype and view against float64",
    "gpu_layer": "on a GPU: one layer, a training step and its memory, LLaMA-2 7B's shape",
    "gpu_rows": "on a GPU: decoding, mixed rows, and a graph of them captured",
    "merging": "merging adapters into the weights",
}
