"""A folder for a browser: a page, the base as a graph, adapters, and onnxruntime-web."""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fourierft.adapters.base import BaseSource
from fourierft.adapters.merge import save_processor
from fourierft.errors import ConfigError, DataError, ExportError
from fourierft.export.exported import Exported, file_size
from fourierft.export.graphs import ADAPTERS, MODEL, export_graph
from fourierft.export.numbers import open_adapters
from fourierft.export.tracing import check_packages, open_session
from fourierft.files import as_path, check_output, write_text, written_beside
from fourierft.format.json_file import read_json
from fourierft.training.assets import Asset, Fetch, obtain

PAGE = Path(__file__).parent / "page"
RUNTIME = Asset(
    project="onnxruntime-web",
    version="1.30.0",
    filename="onnxruntime-web-1.30.0.tgz",
    sha256="d2228df7e4616bc3348bf504ee888f3bec43789a273f0a63f3e68d203ce3bf71",
    size=33_106_585,
    members=("*/ort.wasm.min.mjs", "*/ort-wasm-simd-threaded.mjs", "*/ort-wasm-simd-threaded.wasm", "*/LICENSE"),
)


def fetch_with_npm(asset: Asset, folder: Path) -> None:
    """Download one package with npm from whatever registry it is set up for; nothing of it is run.

    Raises: DataError, if npm is missing, or the registry can't be reached or has no such package.
    """
    npm = shutil.which("npm")
    if npm is None:
        raise DataError(
            f"{asset.filename} is downloaded with npm, which is not installed; install Node.js, or Debian's npm"
        )
    command = [npm, "pack", f"{asset.project}@{asset.version}", "--pack-destination", str(folder), "--silent"]
    outcome = subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder)
    if outcome.returncode != 0 or not (folder / asset.filename).is_file():
        said = [line for line in (outcome.stderr + outcome.stdout).splitlines() if line.strip()]
        raise DataError(
            f"could not download {asset.filename} with npm ({said[-1] if said else 'it left no file'}); "
            "check the network and npm's registry, then run the same command again"
        )


def export_site(
    sources: Sequence[str | Path],
    output: str | Path,
    max_length: int = 128,
    *,
    base: str | None = None,
    trust_remote_code: bool = False,
    allow_other_base: bool = False,
    fetch: Fetch = fetch_with_npm,
) -> Exported:
    """Write the folder.

    Args:
        sources: folders or hub ids of adapters, or stores of them.
        output: folder to make; may be there if it is empty.
        max_length: tokens that a text is cut to, with those at its ends; or as many as the base takes, if fewer.
        base, trust_remote_code, allow_other_base: as of `load_subject`.
        fetch: how to download onnxruntime-web.

    Raises: ExportError, if the page can't show such adapters, or the graph answers otherwise. DataError, if
        onnxruntime-web can't be had. OutputExistsError, if `output` holds something.
    """
    check_packages()
    if max_length < 3:
        raise ConfigError(f"--max_length {max_length} leaves no room for a word; use 3 or more")
    output = as_path(output, "output")
    check_output(output)
    options: dict[str, Any] = {"trust_remote_code": trust_remote_code, "allow_other_base": allow_other_base}
    with open_adapters(sources) as adapters, tempfile.TemporaryDirectory() as scratch:
        first = next(iter(adapters.values()))
        place = BaseSource(first, base, **options)
        max_length = min(max_length, getattr(place.config, "max_position_embeddings", max_length))
        save_processor(Path(scratch), first.path, place)
        check_tokenizer(Path(scratch) / "tokenizer.json")
    runtime = obtain(RUNTIME, fetch=fetch)
    with written_beside(output) as folder:
        model = folder / "model"
        graph = export_graph(sources, model, base=base, **options)
        check_shown(model / MODEL)
        for name in ("index.html", "page.js", "tokenizer.js"):
            shutil.copyfile(PAGE / name, folder / name)
        (folder / "ort").mkdir()
        for path in runtime.rglob("*"):
            if path.is_file() and path.suffix in (".mjs", ".wasm"):
                shutil.copyfile(path, folder / "ort" / path.name)
        names = sorted(path.stem for path in (model / ADAPTERS).iterdir())
        write_text(folder / "settings.json", json.dumps({"adapters": names, "max_length": max_length}) + "\n")
    sizes = {**graph.sizes, "onnxruntime": file_size(output / "ort"), "the folder": file_size(output)}
    return Exported(output, [*graph.notes, f"see it with: python -m http.server --directory {output}"], sizes)


def check_tokenizer(file: Path) -> None:
    """Raise ExportError if the page can't read texts with this tokenizer."""
    tokenizer: Any = read_json(file) if file.is_file() else {}
    kinds = [(tokenizer.get(part) or {}).get("type") for part in ("model", "normalizer", "pre_tokenizer")]
    if kinds != ["WordPiece", "BertNormalizer", "BertPreTokenizer"]:
        raise ExportError("the page needs BERT's tokenizer, but this base has another; use `fourierft export onnx`")


def check_shown(graph: Path) -> None:
    """Raise ExportError if the page can't load a graph, or show its outputs."""
    if len(list(graph.parent.glob(f"{graph.name}*"))) > 1:
        raise ExportError("the base has about 2 GB or more, too much for a page; use `fourierft export onnx`")
    if len(open_session(graph).get_outputs()[0].shape) != 2:
        raise ExportError(
            "the page shows only models that give a text classes or a number; use `fourierft export onnx`"
        )
