"""Make a folder with a web page in which a model answers through many adapters at once.

Any file server can serve the folder. It holds the base once, as an ONNX graph, and each adapter as a file of some kB.
onnxruntime runs them in the browser, on computers and phones. You type a sentence and see the answers of all adapters;
switching loads nothing. The page loads nothing from other hosts. `npm` fetches onnxruntime-web (33 MB, 14 MB of it in
the folder) by pinned version and SHA-256 into a cache (~/.cache/fourierft; set $FOURIERFT_CACHE to move it).

  fourierft export web fleet-demo/fleet.db web-demo      all adapters of a store, here of `fourierft fleet demo`
  fourierft export web runs/reviews runs/tweets web-demo
  python -m http.server --directory web-demo             then open http://localhost:8000

The adapters must give texts one answer each, a class or a number. Their base needs BERT's tokenizer. They must have the
same layers, n_frequency, seed and heads. The graph is compared with PyTorch, as in `fourierft export onnx`.
"""

from __future__ import annotations

import argparse

from fourierft.export.exported import Exported

TAKES_MANY = True
ADAPTERS = "folders or hub ids of FourierFT adapters, or one store"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments that this format alone has."""
    parser.add_argument(
        "--max_length",
        type=int,
        default=128,
        metavar="N",
        help="most tokens of a sentence, if the base takes as many; the rest is cut (default: 128)",
    )


def export(arguments: argparse.Namespace) -> Exported:
    """Write the folder.

    Raises: ExportError, if the page can't show such adapters, or the graph answers otherwise. DataError, if
        onnxruntime-web can't be had. MissingExtraError, if a package is not installed. OutputExistsError, if OUT holds
        something.
    """
    from fourierft.export.site import export_site

    return export_site(
        arguments.adapters,
        arguments.output,
        arguments.max_length,
        base=arguments.model_name_or_path,
        trust_remote_code=arguments.trust_remote_code,
        allow_other_base=arguments.allow_other_base,
    )
