"""A graph that answers otherwise than the adapters is refused, whatever is wrong with it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from fourierft.errors import ExportError
from fourierft.export.graphs import export_graph


def weight_off(graph: Any) -> None:
    weight = next(each for each in graph.initializer if list(each.dims) in ([32, 64], [64, 32]))
    weight.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(weight) * 1.05, weight.name))


def weight_not_finite(graph: Any) -> None:
    weight = next(each for each in graph.initializer if list(each.dims) in ([32, 64], [64, 32]))
    weight.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(weight) * np.nan, weight.name))


def other_rows(graph: Any, *nodes: Any) -> None:
    for node in graph.node:
        node.input[:] = ["read" if name == "rows" else name for name in node.input]
    for node in reversed(nodes):
        graph.node.insert(0, node)


def first_adapter_for_all(graph: Any) -> None:
    other_rows(graph, onnx.helper.make_node("Sub", ["rows", "rows"], ["read"]))


def adapter_of_the_first_row_for_all(graph: Any) -> None:
    graph.initializer.append(onnx.numpy_helper.from_array(np.array(0), "start"))
    nothing = onnx.helper.make_node("Sub", ["rows", "rows"], ["nothing"])
    first = onnx.helper.make_node("Gather", ["rows", "start"], ["first"])
    other_rows(graph, nothing, first, onnx.helper.make_node("Add", ["nothing", "first"], ["read"]))


def one_class_less(graph: Any) -> None:
    bounds = [onnx.numpy_helper.from_array(np.array([value]), name) for name, value in (("from", 0), ("to", 2))]
    graph.initializer.extend([*bounds, onnx.numpy_helper.from_array(np.array([1]), "axis")])
    last = next(node for node in graph.node if "logits" in node.output)
    last.output[list(last.output).index("logits")] = "whole"
    graph.node.append(onnx.helper.make_node("Slice", ["whole", "from", "to", "axis"], ["logits"]))
    del graph.output[0].type.tensor_type.shape.dim[:]
    graph.output[0].type.tensor_type.ClearField("shape")


def as_it_was(graph: Any) -> None:
    pass


@pytest.mark.parametrize(
    ("tamper", "message"),
    [
        (as_it_was, None),
        (weight_off, "is off by .* of the largest, more than 0.001, so nothing was written"),
        (weight_not_finite, "is off by nan at most, nan of the largest, more than 0.001, so nothing was written"),
        (first_adapter_for_all, "is off by .* of the largest, more than 0.001, so nothing was written"),
        (adapter_of_the_first_row_for_all, "is off by .* of the largest, more than 0.001, so nothing was written"),
        (one_class_less, r"the result gives \[30\] where the adapter gives \[45\]"),
    ],
)
def test_a_graph_that_answers_otherwise_is_not_left_behind(
    adapters: list[Path], exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tamper: Any, message: str
) -> None:
    def write(model: Any, inputs: Any, path: Path) -> None:
        found = onnx.load(exported / "model.onnx")
        tamper(found.graph)
        onnx.save(found, path)

    monkeypatch.setattr("fourierft.export.graphs.write_graph", write)
    if message is None:
        assert export_graph(adapters, tmp_path / "out").notes
        return
    with pytest.raises(ExportError, match=message):
        export_graph(adapters, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []
