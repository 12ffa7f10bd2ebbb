"""Pretrained models that the package index carries in another format, as directories for `from_pretrained`.

    folder = convert(SMOLLM2, convert_gguf, "gguf")      # converts once; later calls only verify what is there

The directory is written beside the cache's other folders and renamed when it is whole.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, AutoTokenizer, BitImageProcessorPil, Dinov2Config, Dinov2Model

from fourierft.adapters.base import quiet
from fourierft.errors import DataError
from fourierft.extras import needs
from fourierft.training.assets import (
    CONVERTED,
    MADE,
    Asset,
    Fetch,
    cache_root,
    fetch_with_pip,
    make_once,
    obtain,
    replacing,
)
from fourierft.training.joined import Joined, obtain_whole

IMAGENET_MEAN = [0.485, 0.456, 0.406]
IMAGENET_STD = [0.229, 0.224, 0.225]
ROUNDING = 0.15  # of two copies of a matrix in 4 to 8 bits, relative; unrelated ones differ by more than 1

Converter = Callable[[Path, Path], None]
"""Writes, from a file of the archive, a directory that `from_pretrained` reads."""


def convert(
    asset: Asset | Joined,
    converter: Converter,
    package: str,
    root: Path | None = None,
    fetch: Fetch = fetch_with_pip,
) -> Path:
    """The directory of a model whose archive holds it, one file, in another format.

    Args:
        asset: the archive; its `members` match that file alone.
        converter: reads it.
        package: that the converter needs; missed before anything is downloaded.
        root: the cache; `cache_root()` if None.
        fetch: how to download.

    Raises: DataError, if it can't be downloaded or read. MissingExtraError, if a package that reads it is absent.
    """
    root = cache_root() if root is None else root
    folder = root / f"{asset.folder}{CONVERTED}"

    def make() -> None:
        with needs("compare", "reading this model"):
            importlib.import_module(package)
        whole = obtain_whole(asset, root, fetch) if isinstance(asset, Joined) else obtain(asset, root, fetch)
        source = find_member(whole, asset)
        with replacing(folder) as work:
            print(f"converting {source.name}", flush=True)
            converter(source, work / MADE)

    return make_once(folder, make)


def find_member(folder: Path, asset: Asset | Joined) -> Path:
    """The one file of an unpacked asset that its `members` match.

    Raises: DataError, if there is none.
    """
    found = sorted(path for pattern in asset.members for path in folder.rglob(Path(pattern).name))
    if not found:
        raise DataError(f"{folder} holds no {', '.join(asset.members)}; remove it and run the command again")
    return found[0]


def convert_gguf(source: Path, target: Path, dtype: torch.dtype = torch.float32) -> None:
    """Save a causal language model in GGUF, its weights unpacked, with its tokenizer.

    Args:
        source: the GGUF file.
        target: folder to be made.
        dtype: of the weights saved.

    Raises: DataError, if it can't be read. MissingExtraError, if gguf is not installed.
    """
    with needs("compare", "reading GGUF"):
        import gguf  # noqa: F401
    try:
        with quiet():
            model: Any = AutoModelForCausalLM.from_pretrained(source.parent, gguf_file=source.name, dtype=torch.float32)
            tokenizer = AutoTokenizer.from_pretrained(source.parent, gguf_file=source.name)
    except (OSError, ValueError, KeyError) as error:
        raise DataError(
            f"{source} is not a readable GGUF model ({error}); remove it and run the command again"
        ) from error
    if hasattr(model.config, "quantization_config"):  # the weights are plain numbers now
        del model.config.quantization_config
    model.hf_quantizer, model.is_quantized = None, False
    tie_copies(model)
    model.to(dtype)
    with quiet():
        model.save_pretrained(target)
        tokenizer.save_pretrained(target)


def tie_copies(model: Any) -> None:
    """Tie a head to the embeddings where a GGUF file holds one matrix twice, the head's copy at the higher precision.

    transformers unties whatever has two copies. Two that differ by no more than rounding were one before; the head's
    values then serve both, as in the model that was quantised.
    """
    embeddings, head = model.get_input_embeddings().weight, model.get_output_embeddings().weight
    if head is embeddings or head.shape != embeddings.shape:
        return
    error = torch.linalg.vector_norm(head - embeddings) / torch.linalg.vector_norm(head)
    if error < ROUNDING:
        model.config.tie_word_embeddings = True
        embeddings.data = head.data
        model.tie_weights()


def convert_onnx_dinov2(source: Path, target: Path) -> None:
    """Save the DINOv2 backbone of an exported ONNX graph, with its image processor.

    Biases and norms stand in the graph under the names of the Hugging Face model; weights of linear layers are the
    second inputs of products, transposed, and have only the name of the product; the positions of the class token and
    of the patches are two constants without a name.

    Raises: DataError, if it is no such graph. MissingExtraError, if onnx is not installed.
    """
    with needs("compare", "reading ONNX"):
        import onnx
        from google.protobuf.message import DecodeError
    try:
        graph = onnx.load(source).graph
        arrays = {item.name: onnx.numpy_helper.to_array(item) for item in graph.initializer}
        tensors = read_backbone(arrays, [(node.op_type, node.name, list(node.input)) for node in graph.node])
    except (OSError, ValueError, KeyError, StopIteration, DecodeError) as error:
        raise DataError(
            f"{source} is not a DINOv2 model in ONNX ({error}); remove it and run the command again"
        ) from error
    patch = tensors["embeddings.patch_embeddings.projection.weight"]
    layers = {name.split(".")[2] for name in tensors if name.startswith("encoder.layer.")}
    config = Dinov2Config(
        hidden_size=patch.shape[0],
        num_hidden_layers=len(layers),
        num_attention_heads=patch.shape[0] // 64,
        patch_size=patch.shape[2],
        image_size=round((tensors["embeddings.position_embeddings"].shape[1] - 1) ** 0.5) * patch.shape[2],
    )
    target.mkdir()
    config.architectures = ["Dinov2Model"]
    config.save_pretrained(target)
    save_file(tensors, target / "model.safetensors", metadata={"format": "pt"})
    with quiet():
        Dinov2Model.from_pretrained(target).save_pretrained(target)  # under this release's names of the layers
    BitImageProcessorPil(size={"shortest_edge": 256}, image_mean=IMAGENET_MEAN, image_std=IMAGENET_STD).save_pretrained(
        target
    )


def read_backbone(arrays: dict[str, Any], nodes: list[tuple[str, str, list[str]]]) -> dict[str, torch.Tensor]:
    """Tensors by the names they have in Hugging Face's DINOv2.

    Args:
        arrays: the graph's constants.
        nodes: operator, name and inputs of its nodes.
    """
    prefix = "backbone."
    found = {name.removeprefix(prefix): value for name, value in arrays.items() if name.startswith(prefix)}
    for operator, name, inputs in nodes:
        if operator == "MatMul" and name.startswith("/backbone/") and inputs[1] in arrays:
            layer = name.strip("/").replace("/", ".").removeprefix(prefix).removesuffix(".MatMul")
            found[f"{layer}.weight"] = arrays[inputs[1]].T
    width = found["embeddings.cls_token"].shape[-1]
    tables = [value for name, value in arrays.items() if value.ndim == 3 and not name.startswith(prefix)]
    first = next(value for value in tables if value.shape == (1, 1, width))
    others = next(value for value in tables if value.shape[1] > 1 and value.shape[2] == width)
    tensors = {name: torch.tensor(value) for name, value in found.items()}
    tensors["embeddings.position_embeddings"] = torch.cat([torch.tensor(first), torch.tensor(others)], dim=1)
    tensors["embeddings.mask_token"] = torch.zeros(1, width)
    return {name: tensor.contiguous() for name, tensor in tensors.items()}
