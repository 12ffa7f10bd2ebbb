"""Write a model as one ONNX graph for onnxruntime, without custom operators or Python packages.

--form adapter, the default, writes the base once and each adapter as a file of its numbers, some kB. A call passes
adapters in, and each row of the batch may use a different one. `adapters` [any, numbers] holds them, and `rows` [batch]
gives the index for each row. The adapters must have the same layers, n_frequency, seed and shapes of heads.

  fourierft export onnx runs/reviews exported            model.onnx, adapters/reviews.safetensors, the tokenizer
  fourierft export onnx runs/reviews runs/tweets exported
  fourierft export onnx fleet.db exported                all adapters of a store

--form merged merges one adapter into the base, and the graph takes only the model's inputs.

  fourierft export onnx runs/reviews merged --form merged

Then, in Python:

  session = onnxruntime.InferenceSession("exported/model.onnx")
  numbers = safetensors.numpy.load_file("exported/adapters/reviews.safetensors")["adapter"]
  texts = tokenizer(["so good", "so bad"], padding=True, return_tensors="np")
  session.run(None, {**texts, "adapters": numbers[None], "rows": np.zeros(2, dtype=np.int64)})

The command runs the graph with other batch sizes than it was traced with, and compares it with the adapter in PyTorch.
"""

from __future__ import annotations

import argparse

from fourierft.export.exported import Exported

TAKES_MANY = True
ADAPTERS = "folders or hub ids of FourierFT adapters, or one store; --form merged takes one adapter"
FORMS = ("adapter", "merged")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments that this format alone has."""
    parser.add_argument(
        "--form",
        choices=FORMS,
        default=FORMS[0],
        help="adapter: each call passes adapters in; merged: the adapter is part of the weights (default: adapter)",
    )


def export(arguments: argparse.Namespace) -> Exported:
    """Write the graph, run it in onnxruntime, compare.

    Raises: ExportError, if the model or the adapters can't be exported so, or the graph answers otherwise.
        MissingExtraError, if a package is not installed. OutputExistsError, if OUT holds something.
    """
    from fourierft.export.graphs import export_graph

    return export_graph(
        arguments.adapters,
        arguments.output,
        merged=arguments.form == "merged",
        base=arguments.model_name_or_path,
        trust_remote_code=arguments.trust_remote_code,
        allow_other_base=arguments.allow_other_base,
    )
