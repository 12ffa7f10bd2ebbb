"""Make a folder that any server of files can serve: a page in which a model answers through many adapters at once.

The base is there once, as an ONNX graph, each adapter as a file of some kB; onnxruntime runs them in the browser, on
computers and phones. A person types a sentence, sees the answers of all, and switches without a load. The page asks for
nothing from elsewhere. onnxruntime-web (33 MB, 14 MB of it in the folder) comes from the registry of npm, by pinned
version and SHA-256, with `npm`, into a cache (~/.cache/fourierft; $FOURIERFT_CACHE puts it elsewhere).

  fourierft export web fleet-demo/fleet.db web-demo      all adapters of a store: of `fourierft fleet demo`
  fourierft export web runs/reviews runs/tweets web-demo
  python -m http.server --directory web-demo             then open http://localhost:8000

The adapters are those of texts with one answer each, classes or numbers, on a base with BERT's tokenizer, of the same
layers, n_frequency, seed and heads. The graph is compared with PyTorch in onnxruntime, as `fourierft export onnx` does.
"""

from __future__ import annotations

import argparse

from fourierft.export.exported import Exported

TAKES_MANY = True
ADAPTERS = "folders or hub ids of FourierFT adapters, or a store of them"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments that this format alone has."""
    parser.add_argument(
        "--max_length",
        type=int,
        default=128,
        metavar="N",
        help="tokens a sentence is cut to, if the base takes as many (default: 128)",
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
