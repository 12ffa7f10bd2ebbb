"""A model as an ONNX graph, with the adapter in its weights or handed in with each call, run in onnxruntime."""

from __future__ import annotations

import copy
import inspect
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import AutoProcessor

from fourierft.adapters.base import BaseSource, label_names, problem_type, quiet
from fourierft.adapters.merge import merge_model, save_processor
from fourierft.errors import ExportError
from fourierft.export.exported import Difference, Exported, check_difference, file_size
from fourierft.export.factors import hand_in
from fourierft.export.numbers import Order, flatten, open_adapters, order_of
from fourierft.export.subject import Subject, answer, draw_inputs, hide_masked, load_subject, put_on
from fourierft.export.tracing import Handed, Plain, check_packages, open_session, write_graph
from fourierft.files import as_path, check_output, write_text, written_beside
from fourierft.format.checkpoint import AdapterCheckpoint
from fourierft.format.identity import check_same_base
from fourierft.tuner.record import find_identity, layer_shape

MODEL, ADAPTERS, RECORD = "model.onnx", "adapters", "export.json"
TRACED = (3, 7)  # rows and tokens of the batch that a graph is traced with
TRIED = ((1, 5), (4, 11))  # and of those that it is run with; the second has masked tokens
INPUTS = ("input_ids", "attention_mask", "token_type_ids", "pixel_values")


def export_graph(
    sources: Sequence[str | Path],
    output: str | Path,
    merged: bool = False,
    *,
    base: str | None = None,
    trust_remote_code: bool = False,
    allow_other_base: bool = False,
) -> Exported:
    """Write a graph and what it needs into a folder, and compare what onnxruntime makes of it.

    Args:
        sources: folders or hub ids of adapters, or stores of them.
        output: folder to make; may be there if it is empty.
        merged: add the adapter, of which there is one, to the weights.
        base, trust_remote_code, allow_other_base: as of `load_subject`.

    Raises: ExportError, if the model or the adapters can't be exported so, or the graph answers otherwise.
        MissingExtraError, if a package is not installed. OutputExistsError, if `output` holds something.
        FourierFTError, if adapter or base are not as they should.
    """
    check_packages()
    output = as_path(output, "output")
    check_output(output)
    with open_adapters(sources) as adapters, written_beside(output) as folder:
        if merged and len(adapters) > 1:
            raise ExportError(f"got {len(adapters)} adapters, but --form merged takes one; use --form adapter")
        subject = load_subject(next(iter(adapters.values())).path, base, trust_remote_code, allow_other_base)
        check_bases(adapters.values(), subject.base, allow_other_base)
        save_processor(folder, subject.checkpoint.path, subject.place)
        names = input_names(subject)
        if merged:
            whole: Any = copy.deepcopy(subject.base)
            model, _ = merge_model(whole, subject.checkpoint, allow_other_base=True)
            write_graph(Plain(model, names), draw(subject.base, names, TRACED), folder / MODEL)
            difference = try_graph(folder / MODEL, subject, names, adapters, None)
            record: dict[str, Any] = {}
        else:
            shapes = {name: shape_of(subject.base, name) for name in subject.checkpoint.coefficients}
            order = order_of(subject.checkpoint, shapes)
            rows = {name: flatten(adapter, order) for name, adapter in adapters.items()}
            write_handed(subject, names, order, folder / MODEL)
            write_numbers(rows, adapters, folder / ADAPTERS)
            difference = try_graph(folder / MODEL, subject, names, adapters, rows)
            record = describe(order)
        record["inputs"] = names
        write_text(folder / RECORD, json.dumps(record, indent=2) + "\n")
    sizes = {"the graph": sum(map(file_size, output.glob(f"{MODEL}*")))}  # weights of 2 GB are a file of their own
    if not merged:
        sizes["an adapter"] = max(file_size(path) for path in (output / ADAPTERS).iterdir())
    return Exported(output, [f"in onnxruntime it gives what the adapter gives: {difference}"], sizes)


def check_bases(adapters: Iterable[AdapterCheckpoint], base: nn.Module, allow_other_base: bool) -> None:
    """Raise CheckpointError if one of the adapters was made for another base, and that is not allowed."""
    identity = find_identity(base)
    if identity is None or allow_other_base:
        return
    for adapter in adapters:
        check_same_base(adapter.config.made_for, identity, adapter.path)


def input_names(subject: Subject) -> list[str]:
    """The inputs of a graph: those that the tokenizer or image processor gives, and the model takes.

    Raises: ExportError, if the model reads a text beside the one it writes.
    """
    config: Any = subject.base.config
    kind = type(subject.base).__name__
    if kind.endswith("ForQuestionAnswering"):
        raise ExportError(f"a {kind} has two outputs and a graph has one; export it as lora, or merge it")
    if config.is_encoder_decoder:
        raise ExportError(
            f"{subject.place.name} is an encoder-decoder, which does not fit into one graph; use `fourierft merge`"
        )
    given = set(draw_inputs(subject.base)) | ({"token_type_ids"} if takes_pairs(subject.place) else set())
    taken = inspect.signature(subject.base.forward).parameters
    return [name for name in INPUTS if name in given and name in taken]


def takes_pairs(place: BaseSource) -> bool:
    """Whether the tokenizer of a base tells apart the two texts of a pair."""
    try:
        with quiet():
            return "token_type_ids" in AutoProcessor.from_pretrained(place.name, **place.options).model_input_names
    except (OSError, ValueError, AttributeError):  # it has none
        return False


def draw(model: nn.Module, names: Sequence[str], shape: tuple[int, int]) -> dict[str, Tensor]:
    """Inputs drawn by a seed, in the order of the names: the second half of a text is the second of a pair."""
    drawn = draw_inputs(model, *shape)
    if "token_type_ids" in names:
        drawn["token_type_ids"] = torch.zeros_like(drawn["input_ids"])
        drawn["token_type_ids"][:, shape[1] // 2 :] = 1
    return {name: drawn[name] for name in names}


def shape_of(model: nn.Module, name: str) -> tuple[int, int]:
    """(out_features, in_features) of a layer.

    Raises: ExportError, if it is a parameter that no layer has to itself.
    """
    shape = layer_shape(model.get_submodule(name)) if name in dict(model.named_modules()) else None
    if shape is None:
        raise ExportError(f"{name} is a parameter that several layers share; use --form merged")
    return shape


def write_handed(subject: Subject, names: Sequence[str], order: Order, path: Path) -> None:
    """Write the graph of the base that takes adapters with the call."""
    if subject.checkpoint.matrices:
        raise ExportError(
            f"the adapter contains the whole matrix {next(iter(subject.checkpoint.matrices))}; use --form merged"
        )
    model = copy.deepcopy(subject.base)
    call = hand_in(model, order)
    inputs = draw(subject.base, names, TRACED)
    inputs["adapters"] = torch.zeros(2, order.length)
    inputs["rows"] = torch.arange(TRACED[0]) % 2
    write_graph(Handed(model, names, call), inputs, path)


def write_numbers(rows: Mapping[str, Tensor], adapters: Mapping[str, AdapterCheckpoint], folder: Path) -> None:
    """Write a safetensors file for each adapter: `adapter`, its numbers, and the names of its classes if it has any."""
    folder.mkdir()
    for name, row in rows.items():
        if Path(name).name != name:
            raise ExportError(
                f"the adapter name {name!r} cannot be a file name; write it to a folder "
                "first, with `fourierft store get`"
            )
        labels = label_names(adapters[name].path)
        metadata = {"labels": json.dumps(labels)} if labels else {}
        kind = problem_type(adapters[name].path)
        metadata |= {"problem_type": kind} if kind else {}
        save_file({"adapter": row}, folder / f"{name}.safetensors", metadata={"format": "pt", **metadata})


def describe(order: Order) -> dict[str, Any]:
    """What the numbers of an adapter are."""
    places = {name: [part.start, *part.shape] for name, part in (order.layers | order.heads).items()}
    return {"numbers": order.length, "places": places}


def try_graph(
    path: Path,
    subject: Subject,
    names: Sequence[str],
    adapters: Mapping[str, AdapterCheckpoint],
    rows: Mapping[str, Tensor] | None,
) -> Difference:
    """Run a graph in batches of several sizes, with each adapter, and with another in every row, and compare.

    Args:
        path: of the graph.
        rows: the adapters' numbers; None if the graph has one in its weights.

    Returns: the largest difference.

    Raises: ExportError, if it answers otherwise than the adapters in PyTorch, or can't be run.
    """
    session = open_session(path)
    batches = [draw(subject.base, names, shape) for shape in TRIED]
    answers: list[list[Tensor]] = [[] for _ in batches]
    for checkpoint in adapters.values():
        model = put_on(copy.deepcopy(subject.base), checkpoint, allow_other_base=True)
        for inputs, kept in zip(batches, answers, strict=True):
            kept.append(answer(model, inputs))
    found: list[Tensor] = []
    expected: list[Tensor] = []
    for inputs, kept in zip(batches, answers, strict=True):
        places = torch.arange(len(kept[0]))
        for own in (*(torch.full_like(places, number) for number in range(len(kept))), places % len(kept)):
            feed = {name: value.numpy() for name, value in inputs.items()}
            if rows is not None:
                feed |= {"adapters": torch.stack(list(rows.values())).numpy(), "rows": own.numpy()}
            outputs = session.run(None, feed)[0]
            found.append(hide_masked(torch.from_numpy(outputs), inputs).flatten())
            expected.append(torch.stack(kept)[own, places].flatten())
    return check_difference(torch.cat(found), torch.cat(expected), "the graph in onnxruntime")
