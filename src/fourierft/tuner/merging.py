"""Updates added to the base weight, and taken out again.

The sum is taken in float32 or better and rounded to the dtype of the weight once, or quantised once.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from peft.tuners.tuners_utils import check_adapters_to_merge
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from fourierft.errors import ConfigError
from fourierft.rows.terms import Term
from fourierft.spectral import delta_weight
from fourierft.tuner.quantization import KeptWeight, Sealed, checksum, keep_weight, restore_weight
from fourierft.tuner.strength import Strength
from fourierft.tuner.terms import Terms


class Mergeable(Strength):
    """What an adapted layer does about its base weight: the updates that are merged into it.

    Attributes:
        terms: the updates of its adapters as they are now.
        merged_terms: by adapter name, the updates that were merged, with the coefficients and the scaling of then.
        merge_loss: by adapter name, the error of merging into a half precision or quantised weight, as a share of the
            update's norm.
        kept_weight: the quantised or tied weight that a merged layer had; None for any other.
        quantization_backend: of PEFT, for a quantised weight; None for any other.
        is_tied: whether other modules of the model have the same weight, as an embedding has that of a tied head.
        path: where the layer stands in the model.
    """

    merged_terms: dict[str, Term]
    merge_loss: dict[str, float]
    kept_weight: KeptWeight | None
    quantization_backend: Any
    is_tied: bool
    path: str

    @property
    def terms(self) -> Terms:
        """The updates of the layer's adapters."""
        raise NotImplementedError

    @property
    def stored_weight(self) -> Tensor:
        """The base layer's weight, as PEFT finds it in layers of any kind."""
        return super().weight

    def get_delta_weight(self, adapter: str) -> Tensor:
        """The update dW of an adapter, [out, in] (for a `Conv1D` too, as in stock PEFT), dtype of its coefficients."""
        return delta_weight(*self.terms.of(adapter)[1:])

    def merge(self, safe_merge: bool = False, adapter_names: list[str] | None = None) -> None:
        """Add the updates of the active adapters to the base weight, and keep what is needed to take them out again.

        Args:
            safe_merge: leave the weight as it is if the sum is not finite.
            adapter_names: what to merge in place of the active adapters.

        Raises:
            ValueError, if safe_merge finds the sum not finite.
            ConfigError, if the weight is not a matrix of floats, nor one that can be dequantised.
        """
        for name in check_adapters_to_merge(self, adapter_names):
            if name in self.terms.bases:
                self._merge_update(name, safe_merge)
                self.merged_adapters.append(name)

    def unmerge(self) -> None:
        """Take the updates out of the base weight as they were merged, the last one first.

        A quantised or tied weight comes back bit for bit, and tied, unless a tied one was written to while it was
        merged: then the updates are taken out of what was written. Another one of floats comes back to within the
        rounding of two sums: each element is off by at most one unit in the last place of the largest value it went
        through. Reload the base model where every bit matters.
        """
        if not self.merged:
            warnings.warn("Already unmerged. Nothing to do.", stacklevel=2)
        while self.merged_adapters:
            name = self.merged_adapters.pop()
            self.merge_loss.pop(name, None)
            self._unmerge_update(name)

    def _find_backend(self, quantization: Mapping[str, Any]) -> Any:
        """How the base weight is dequantised; see `quantization.find_backend`."""
        raise NotImplementedError

    def check_held(self) -> None:
        """Raise ConfigError, if the layer would forget what is merged into it, as one that computes its weight does."""
        base = self.get_base_layer()
        if self.quantization_backend is None:  # it may have been quantised since the adapter was added
            self.quantization_backend = self._find_backend({})
        if isinstance(self.quantization_backend, Sealed):
            self.quantization_backend.get_base_weight(base)
        if getattr(self, "parameter_name", "weight") not in base._parameters.keys() | base._buffers.keys():
            raise ConfigError(
                f"{self.path or 'a ' + type(base).__name__} computes its weights from other "
                "parameters at every call, as quantised, pruned and normalised layers do, so a "
                "merge would be lost; load the base model without quantisation, or make the "
                "weights a parameter first, with "
                "torch.nn.utils.parametrize.remove_parametrizations, prune.remove or similar"
            )

    def base_update(self, term: Term, weight: Tensor) -> Tensor:
        """An update in the layout of the base weight, on its device, in float32 or better."""
        coefficients = term.coefficients.to(weight.device, torch.promote_types(weight.dtype, torch.float32))
        return self.in_layout(delta_weight(coefficients, term.basis, term.scaling))

    def in_layout(self, update: Tensor) -> Tensor:
        """An update [out, in] as the base layer stores its weight."""
        return update.T if isinstance(self.get_base_layer(), Conv1D) else update

    @torch.no_grad()
    def _merge_update(self, name: str, safe_merge: bool) -> None:
        """Add an adapter's update. A weight that other modules have too stays theirs: the layer gets one of its own."""
        backend = self.quantization_backend
        base: Any = self.get_base_layer()
        self.check_held()
        weight: Any = self.get_base_weight() if backend is None or backend.supports_merge else base.weight
        (term,) = self.terms.summed([name])
        update = self.base_update(term, weight)
        if not weight.is_floating_point() or weight.shape != update.shape:
            raise ConfigError(
                f"a {type(base).__name__} stores its weights as {weight.dtype} {list(weight.shape)}, "
                "but merging needs a matrix of floats; load the base model without quantisation "
                "to merge"
            )
        merged = weight.to(update.dtype) + update
        if safe_merge and not torch.isfinite(merged).all():
            raise ValueError(
                f"NaNs detected in the merged weights of adapter {name!r}, so the weights "
                "were not changed; check the adapter's coefficients"
            )
        self.merged_terms[name] = term._replace(coefficients=term.coefficients.clone())
        stored = merged.to(weight.dtype)
        if backend is not None:
            if self.kept_weight is None:
                self.kept_weight = keep_weight(base)
            self.set_base_weight(stored)
            stored = self.get_base_weight()
        elif self.is_tied:
            kept = self.kept_weight or keep_weight(base)
            self.kept_weight = kept._replace(merged=checksum(stored))
            base.weight = nn.Parameter(stored, requires_grad=base.weight.requires_grad)
        else:
            self.set_base_weight(stored)
        if backend is not None or stored.dtype != merged.dtype:
            lost = torch.linalg.vector_norm(stored.to(merged.dtype) - merged) / torch.linalg.vector_norm(update)
            self.merge_loss[name] = float(lost.nan_to_num(0.0))

    @torch.no_grad()
    def _unmerge_update(self, name: str) -> None:
        """Subtract an adapter's update; a quantised or tied layer gets the weight back that it had, if it still may."""
        term = self.merged_terms.pop(name, None)
        if term is None:
            return
        kept, base = self.kept_weight, self.get_base_layer()
        self.kept_weight = None
        if kept is not None and (kept.merged is None or kept.merged == checksum(base.weight)):  # type: ignore[arg-type]
            restore_weight(base, kept)
            self.merged_terms.clear()
            return
        weight = self.get_base_weight()
        update = self.base_update(term, weight)
        self.set_base_weight((weight.to(update.dtype) - update).to(weight.dtype))


def warn_of_loss(layers: Sequence[Mergeable]) -> None:
    """Warn of what the precision of the base weights lost of merged updates, if it lost anything."""
    losses = [loss for layer in layers for loss in layer.merge_loss.values()]
    if not losses:
        return
    shares = f"{max(losses):.1%} of the update's norm in the worst layer and {sum(losses) / len(losses):.1%} on average"
    backend = layers[0].quantization_backend
    if backend is None:
        dtype = layers[0].stored_weight.dtype
        text = f"merging into {dtype} rounded away {shares}; load the base model in float32 to merge without loss"
    else:
        text = (
            f"merging into {backend.backend_name} weights erred by {shares}; load the base model without quantisation "
            "to merge without loss"
        )
    warnings.warn(text, stacklevel=3)
