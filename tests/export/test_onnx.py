"""One graph for all adapters, in onnxruntime, against stock PEFT; and what can't be one is told."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import peft
import pytest
import torch
from safetensors.numpy import load_file
from torch import nn
from transformers import AutoModelForQuestionAnswering, AutoModelForSequenceClassification, AutoTokenizer
from transformers.pytorch_utils import Conv1D

import fourierft
from fourierft.adapters.merge import own_tuner
from fourierft.cli.main import main
from fourierft.errors import CheckpointError, ExportError
from fourierft.export.factors import hand_in
from fourierft.export.graphs import check_bases, export_graph
from fourierft.export.numbers import flatten, open_adapters, order_of
from fourierft.export.site import check_shown
from fourierft.export.subject import hide_masked
from fourierft.format.checkpoint import read_checkpoint
from fourierft.store import AdapterStore

from .making import TEXTS, make_adapter, stock_logits


def test_every_row_has_the_adapter_that_it_asks_for(tiny_bert: Path, adapters: list[Path], exported: Path) -> None:
    session = onnxruntime.InferenceSession(exported / "model.onnx")
    table = np.stack([load_file(exported / "adapters" / f"{path.name}.safetensors")["adapter"] for path in adapters])
    rows = np.array([1, 0, 1, 0])
    batch = AutoTokenizer.from_pretrained(exported)(TEXTS, padding=True, return_tensors="np")
    found = session.run(None, {**batch, "adapters": table, "rows": rows})[0]
    expected = [stock_logits(tiny_bert, path, TEXTS) for path in adapters]
    np.testing.assert_allclose(found, [expected[row][k] for k, row in enumerate(rows)], rtol=1e-4, atol=1e-5)
    assert np.abs(expected[0] - expected[1]).max() > 0.1


def test_the_graph_has_operators_of_the_standard_alone_and_no_factors(exported: Path) -> None:
    graph = onnx.load(exported / "model.onnx")
    assert {node.domain for node in graph.graph.node} == {""}
    assert list(graph.functions) == []
    largest = max(np.prod(each.dims) for each in graph.graph.initializer)
    assert largest == 32 * 64  # a weight of the base, not a factor [64, 80]


def test_a_file_has_the_numbers_of_each_layer_and_names_the_classes(adapters: list[Path], exported: Path) -> None:
    record = json.loads((exported / "export.json").read_text())
    row = load_file(exported / "adapters" / "one.safetensors")["adapter"]
    saved = load_file(adapters[0] / "adapter_model.safetensors")
    layer = "bert.encoder.layer.1.attention.self.query"
    start, n = record["places"][layer]
    expected = saved[f"base_model.model.{layer}.fourierft_spectrum"] * 25.0 / (32 * 32)
    np.testing.assert_allclose(row[start : start + n], expected, rtol=1e-6)
    start, *shape = record["places"]["classifier.weight"]
    head = row[start : start + 96].reshape(shape)
    np.testing.assert_array_equal(head, saved["base_model.model.classifier.weight"])
    assert (record["numbers"], record["inputs"]) == (len(row), ["input_ids", "attention_mask"])
    with (exported / "adapters" / "one.safetensors").open("rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    assert json.loads(header["__metadata__"]["labels"]) == ["bad", "so-so", "good"]


def test_a_merged_graph_takes_the_inputs_of_the_model_alone(
    tiny_bert: Path, adapters: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["export", "onnx", str(adapters[1]), str(tmp_path / "merged"), "--form", "merged"]) == 0
    assert capsys.readouterr().out.startswith("in onnxruntime it gives what the adapter gives: off by ")
    session = onnxruntime.InferenceSession(tmp_path / "merged" / "model.onnx")
    batch = AutoTokenizer.from_pretrained(tiny_bert)(TEXTS, padding=True, return_tensors="np")
    (found,) = session.run(None, dict(batch))
    np.testing.assert_allclose(found, stock_logits(tiny_bert, adapters[1], TEXTS), rtol=1e-4, atol=1e-5)
    assert sorted(path.name for path in (tmp_path / "merged").iterdir())[:2] == ["export.json", "model.onnx"]


def test_a_store_stands_for_all_its_adapters(adapters: list[Path], tmp_path: Path) -> None:
    with AdapterStore(tmp_path / "fleet.db") as store:
        for path in adapters:
            store.add(path.name, path)
    with open_adapters([tmp_path / "fleet.db"]) as found:
        assert list(found) == ["one", "two"]
        kept = found["two"].coefficients
    for layer, values in read_checkpoint(adapters[1]).coefficients.items():
        torch.testing.assert_close(kept[layer], values)
    with pytest.raises(ExportError, match="two adapters have the name one"), open_adapters([adapters[0], adapters[0]]):
        pass


@pytest.mark.parametrize(
    "settings",
    [{"n_frequency": 30}, {"random_loc_seed": 1}, {"target_modules": ["query"]}],
    ids=["n", "seed", "layers"],
)
def test_adapters_of_another_kind_are_refused(
    tiny_bert: Path, adapters: list[Path], tmp_path: Path, settings: dict[str, Any]
) -> None:
    other = make_adapter(tiny_bert, tmp_path / "other", 5, **settings)
    model = AutoModelForSequenceClassification.from_pretrained(tiny_bert)
    first = read_checkpoint(adapters[0])
    order = order_of(first, {name: tuple(model.get_submodule(name).weight.shape) for name in first.coefficients})
    with pytest.raises(ExportError, match=r"other has other layers, n_frequency, entries or heads .* export it alone"):
        flatten(read_checkpoint(other), order)


def test_weights_beyond_one_file_are_beside_the_graph_wherever_it_goes(
    tiny_bert: Path, adapters: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fourierft.export.tracing.LARGEST", 0)
    made = export_graph(adapters[:1], tmp_path / "out", merged=True)
    files = [path for path in made.output.iterdir() if path.name.startswith("model.onnx")]
    assert len(files) == 2
    assert made.sizes == {"the graph": sum(path.stat().st_size for path in files)}
    moved = made.output.rename(tmp_path / "moved")
    batch = AutoTokenizer.from_pretrained(tiny_bert)(TEXTS, padding=True, return_tensors="np")
    (found,) = onnxruntime.InferenceSession(moved / "model.onnx").run(None, dict(batch))
    np.testing.assert_allclose(found, stock_logits(tiny_bert, adapters[0], TEXTS), rtol=1e-4, atol=1e-5)
    with pytest.raises(ExportError, match="the base has about 2 GB or more, too much for a page"):
        check_shown(moved / "model.onnx")


def test_several_adapters_are_not_merged(adapters: list[Path], tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="got 2 adapters, but --form merged takes one"):
        export_graph(adapters, tmp_path / "out", merged=True)
    assert list(tmp_path.iterdir()) == []


class Reader(nn.Module):
    """A model with one linear layer and one that is stored transposed."""

    def __init__(self) -> None:
        super().__init__()
        self.up, self.down, self.table = nn.Linear(6, 10), Conv1D(6, 10), nn.Embedding(4, 6)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.down(self.up(x).tanh())


def test_layers_of_both_layouts_take_their_updates_weights_and_biases_with_the_call(tmp_path: Path) -> None:
    from fourierft.export.numbers import Order, Part
    from fourierft.spectral import SpectralBasis, uniform_entries

    model = Reader()
    plain = {name: value.detach().clone() for name, value in model.state_dict().items()}
    bases = {
        "up": SpectralBasis(10, 6, uniform_entries(10, 6, 5, 1)),
        "down": SpectralBasis(6, 10, uniform_entries(6, 10, 5, 1)),
    }
    heads = {"up.weight": Part(10, (10, 6)), "up.bias": Part(70, (10,)), "down.bias": Part(80, (6,))}
    order = Order({"up": Part(0, (5,)), "down": Part(5, (5,))}, heads, bases, 86)
    call = hand_in(model, order)
    numbers, x = torch.randn(2, 86), torch.randn(2, 3, 6)
    call.begin(numbers)
    found = model(x)
    for row in range(2):
        own = numbers[row]
        up = own[10:70].view(10, 6) + true_update(bases["up"].entries, own[:5], 10, 6)
        down = plain["down.weight"].T + true_update(bases["down"].entries, own[5:10], 6, 10)
        expected = ((x[row] @ up.T + own[70:80]).tanh()) @ down.T + own[80:]
        torch.testing.assert_close(found[row], expected, rtol=1e-4, atol=1e-5)
    with pytest.raises(ExportError, match="sees other rows than the texts of a batch"):
        model(x[:1])
    other = Order({"table": Part(0, (5,))}, {}, {"table": SpectralBasis(4, 6, uniform_entries(4, 6, 5, 1))}, 5)
    with pytest.raises(ExportError, match="the adapter changes table, of type Embedding"):
        hand_in(Reader(), other)


def true_update(entries: torch.Tensor, c: torch.Tensor, rows: int, columns: int) -> torch.Tensor:
    """rows * columns * Re(ifft2(F)), by numpy in float64."""
    spectrum = np.zeros((rows, columns))
    spectrum[entries[0].numpy(), entries[1].numpy()] = c.numpy()
    return torch.tensor(np.fft.ifft2(spectrum).real * rows * columns).float()


def test_every_adapter_of_a_graph_was_made_for_its_base(tiny_bert: Path, tmp_path: Path) -> None:
    bases = [tiny_bert, tmp_path / "retrained"]
    retrained = AutoModelForSequenceClassification.from_pretrained(tiny_bert)
    with torch.no_grad():
        for parameter in retrained.parameters():
            parameter.normal_()
    retrained.save_pretrained(bases[1])
    made = []
    with own_tuner():
        for number, base in enumerate(bases):
            model = AutoModelForSequenceClassification.from_pretrained(base)
            config = fourierft.FourierFTConfig(n_frequency=8, target_modules=["query"], task_type="SEQ_CLS")
            peft.get_peft_model(model, config).save_pretrained(str(tmp_path / str(number)))
            made.append(read_checkpoint(tmp_path / str(number)))
    first = AutoModelForSequenceClassification.from_pretrained(tiny_bert)
    check_bases(made[:1], first, allow_other_base=False)
    check_bases(made, first, allow_other_base=True)
    with pytest.raises(CheckpointError, match=r"1 was made for the base .*retrained.* is another model"):
        check_bases(made, first, allow_other_base=False)


def test_classes_as_many_as_tokens_are_no_tokens() -> None:
    mask = torch.tensor([[1, 1, 0], [1, 0, 0]])
    classes = torch.ones(2, 3)
    assert torch.equal(hide_masked(classes, {"attention_mask": mask}), classes)
    tokens = hide_masked(torch.ones(2, 3, 4), {"attention_mask": mask})
    assert torch.equal(tokens.sum(-1), 4.0 * mask)


def test_a_model_with_two_outputs_is_no_graph(tiny_bert: Path, tmp_path: Path) -> None:
    model = AutoModelForQuestionAnswering.from_pretrained(tiny_bert)
    config = peft.FourierFTConfig(n_frequency=8, target_modules=["query"], task_type="QUESTION_ANS")
    peft.get_peft_model(model, config).save_pretrained(str(tmp_path / "answers"))
    with pytest.raises(ExportError, match="a BertForQuestionAnswering has two outputs and a graph has one"):
        export_graph([tmp_path / "answers"], tmp_path / "out")
