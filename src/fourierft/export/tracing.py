"""A model of transformers traced as an ONNX graph, and the graph loaded by onnxruntime."""

from __future__ import annotations

import inspect
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from fourierft.adapters.base import quiet
from fourierft.errors import ExportError
from fourierft.export.factors import Call
from fourierft.extras import needs

LARGEST = 1_900_000_000  # bytes of a file of ONNX, which cannot hold 2 GiB
FOLDED = 1024  # numbers of a constant that is folded when a graph is written


def check_packages() -> None:
    """Raise MissingExtraError if what writes or runs a graph is not installed."""
    with needs("export", "exporting to ONNX"):
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401


class Plain(nn.Module):
    """A model of transformers as a function of tensors.

    Args:
        model: as it is.
        names: of its inputs, in order.
    """

    def __init__(self, model: nn.Module, names: Sequence[str]) -> None:
        super().__init__()
        self.model, self.names = model, tuple(names)

    def forward(self, *tensors: Tensor) -> Tensor:
        """The logits, or the last hidden states of a model without a head."""
        inputs: dict[str, Any] = dict(zip(self.names, tensors, strict=True))
        if "use_cache" in inspect.signature(self.model.forward).parameters:
            inputs["use_cache"] = False
        outputs = self.model(**inputs)
        found = outputs.get("logits")
        return outputs[0] if found is None else found


class Handed(Plain):
    """The same of a model that takes its adapters with the call, which come after its inputs: adapters and rows."""

    def __init__(self, model: nn.Module, names: Sequence[str], call: Call) -> None:
        super().__init__(model, names)
        self.call = call

    def forward(self, *tensors: Tensor) -> Tensor:
        """The outputs, with the adapter adapters[rows[i]] for row i."""
        *inputs, adapters, rows = tensors
        self.call.begin(adapters[rows])
        try:
            return super().forward(*inputs)
        finally:
            self.call.begin(adapters)


def write_graph(model: nn.Module, inputs: Mapping[str, Tensor], path: Path) -> None:
    """Trace a model and write it, with batches and texts of any size.

    Raises: ExportError, if PyTorch can't trace it.
    """
    batch, tokens, adapters = (torch.export.Dim(name) for name in ("batch", "tokens", "any"))
    axes: dict[str, dict[int, Any]] = {"adapters": {0: adapters}, "rows": {0: batch}, "pixel_values": {0: batch}}
    shapes = tuple(axes.get(name, {0: batch, 1: tokens}) for name in inputs)
    size = sum(parameter.nbytes for parameter in model.parameters())
    try:
        with torch.no_grad(), untold():
            program = torch.onnx.export(
                model.eval(),
                tuple(inputs.values()),
                dynamo=True,
                dynamic_shapes=(shapes,),
                input_names=list(inputs),
                output_names=["logits"],
                optimize=False,
                verbose=False,
            )
            assert program is not None
            shrink(program.model)
            program.save(str(path), external_data=size > LARGEST)
    except ExportError:
        raise
    except Exception as error:  # the exporter raises what it likes
        cause: BaseException = error
        while cause.__cause__ is not None and not isinstance(cause, ExportError):
            cause = cause.__cause__
        if isinstance(cause, ExportError):
            raise cause from error
        reason = (str(cause).strip().splitlines() or [type(cause).__name__])[0]
        raise ExportError(f"PyTorch can't trace this model for ONNX ({reason}); use `fourierft merge`") from error


def shrink(model: Any) -> None:
    """Fold what is small: larger constants, as the factors are, are left to the runtime, and weigh nothing on disk."""
    with needs("export", "exporting to ONNX"):
        from onnxscript.optimizer import optimize_ir
    optimize_ir(model, output_size_limit=FOLDED)


@contextmanager
def untold() -> Iterator[None]:
    """Without what the exporter says of itself."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir", "torch.export")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with quiet(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def open_session(path: Path) -> Any:
    """A graph, loaded by onnxruntime on the CPU.

    Raises: ExportError, if it can't be loaded.
    """
    with needs("export", "running ONNX"):
        import onnxruntime
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's are of no common class
        raise ExportError(f"onnxruntime does not load the graph ({str(error).splitlines()[0]})") from error
