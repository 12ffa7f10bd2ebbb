"""The frozen half of an adapter: entries of one weight shape, and the index tensors that every view of it reads.

The real transforms keep half of a spectrum, so each entry (u, v) is folded to u' = min(u, out - u) and
v' = min(v, in - v); what folding mirrors is remembered as the sign of an imaginary part. A token spectrum is held
frequency-major, as rows re(0), im(0), re(1), im(1), ... of one column a token; an entry then is two links, re -> re and
im -> im, from a row of the input's spectrum to a row of the output's, and a whole adapter is one gather, scale and sum
over links sorted by output row.
"""

from __future__ import annotations

import hashlib
import weakref
from collections.abc import Callable, Hashable
from dataclasses import dataclass, replace
from typing import Any, ClassVar, TypeVar

import torch

from fourierft.errors import BackendError, ShapeError
from fourierft.spectral.eager import is_captured, real_tensors


@dataclass(frozen=True, eq=False)
class Links:
    """The 2n links of a basis in one direction, sorted by the row they add to (source rows -> target rows)."""

    source: torch.Tensor  # [2n] int64, row of the source spectrum that a link reads
    target: torch.Tensor  # [2n] int64, row of the target spectrum that it adds to, ascending
    offsets: torch.Tensor  # [target rows] int64, first link of each target row
    ordinal: torch.Tensor  # [2n] int64, 0, 1, 2, ...
    coefficient: torch.Tensor  # [2n] int64, the coefficient k that scales a link
    weight: torch.Tensor  # [2n] float64, +-1/2 inside the spectrum, +-1 on its real rows
    sign: torch.Tensor  # [2n] float64, sign of a link's share in the gradient of its coefficient
    places: torch.Tensor  # [2, n] int64, the two links of each coefficient
    source_rows: int
    target_rows: int


@dataclass(frozen=True, eq=False)
class HalfSpectrum:
    """Where the coefficients stand in the half spectrum of a real weight."""

    position: torch.Tensor  # [m] int64, flat in [in // 2 + 1, out], rows mirrored; n <= m <= 2n, a real column has two
    coefficient: torch.Tensor  # [m] int64
    folded: torch.Tensor  # [n] int64, flat in [out, in // 2 + 1], where a real matrix's spectrum holds their real part


_INTEGERS = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)
_Kept = TypeVar("_Kept")
_Tensors = TypeVar("_Tensors", Links, HalfSpectrum)


class SpectralBasis:
    """The frozen entries of an [out, in] weight: immutable, and one object a process for equal entries.

    Index tensors are built on first use, once per device, and shared by all layers and adapters that use the basis.
    A copied or unpickled basis is the same object. `torch.compile`, `torch.export` and `torch.jit` record its key.

    Args:
        out_features: rows of the weight.
        in_features: columns of the weight.
        entries: int64 [2, n], rows u above columns v, all different.

    Raises: ShapeError, if entries are not [2, n], out of range, or repeated.
    """

    out_features: int
    in_features: int
    n_frequency: int
    entries: torch.Tensor
    key: str
    _kept: dict[Hashable, Any]
    _interned: ClassVar[weakref.WeakValueDictionary[str, SpectralBasis]] = weakref.WeakValueDictionary()

    def __new__(cls, out_features: int, in_features: int, entries: torch.Tensor) -> SpectralBasis:
        """Return the basis of this content that the process already has, or make it."""
        with real_tensors():
            entries = _checked_entries(out_features, in_features, entries)
            digest = hashlib.sha256(entries.numpy().tobytes()).hexdigest()[:32]
        key = f"{out_features}x{in_features}:{entries.shape[1]}:{digest}"
        basis = cls._interned.get(key)
        if basis is None:
            basis = super().__new__(cls)
            basis.out_features, basis.in_features = out_features, in_features
            basis.n_frequency, basis.entries, basis.key = entries.shape[1], entries, key
            basis._kept = {}
            basis = cls._interned.setdefault(key, basis)
        return basis

    @classmethod
    def find(cls, key: str) -> SpectralBasis | None:
        """The basis of this key; None if the process has none."""
        return cls._interned.get(key)

    def __reduce__(self) -> tuple[type[SpectralBasis], tuple[int, int, torch.Tensor]]:
        return SpectralBasis, (self.out_features, self.in_features, self.entries)

    def __repr__(self) -> str:
        return f"SpectralBasis({self.out_features} x {self.in_features}, n_frequency={self.n_frequency})"

    def links(self, device: torch.device) -> Links:
        """Links from the input's spectrum to the output's, on a device."""
        return self._on(device, "links", lambda: _links(self.out_features, self.in_features, self.entries))

    def reversed_links(self, device: torch.device) -> Links:
        """Links from the output's spectrum to the input's (the transposed weight), on a device."""
        return self._on(device, "reversed", lambda: _links(self.in_features, self.out_features, self.entries.flip(0)))

    def half_spectrum(self, device: torch.device) -> HalfSpectrum:
        """Places of the coefficients in the weight's half spectrum, on a device."""
        return self._on(device, "half", lambda: _half_spectrum(self.out_features, self.in_features, self.entries))

    def keep(self, key: Hashable, build: Callable[[SpectralBasis], _Kept], device: torch.device | None = None) -> _Kept:
        """The object of a key, built at the first call; it lives as long as the basis.

        Args:
            key: names the object.
            build: makes it from the basis.
            device: where the object lives.

        Raises: BackendError, if it is not built yet while a CUDA graph is captured.
        """
        if key not in self._kept:
            if device is not None and is_captured(device):
                raise BackendError(
                    f"the first use of a {self.out_features} x {self.in_features} update on "
                    f"{device} is inside a CUDA graph, where its tables cannot be made; run "
                    "the model once before you capture it"
                )
            with real_tensors():
                self._kept.setdefault(key, build(self))
        return self._kept[key]

    def _on(self, device: torch.device, name: str, build: Callable[[], _Tensors]) -> _Tensors:
        def moved(_: SpectralBasis) -> _Tensors:
            built = build()
            tensors: dict[str, Any] = {k: v.to(device) for k, v in vars(built).items() if isinstance(v, torch.Tensor)}
            return replace(built, **tensors)

        return self.keep((name, device), moved, device)


def _checked_entries(out_features: int, in_features: int, entries: torch.Tensor) -> torch.Tensor:
    if entries.dim() != 2 or entries.shape[0] != 2 or entries.shape[1] < 1 or entries.dtype not in _INTEGERS:
        raise ShapeError(f"entries are {entries.dtype} {list(entries.shape)}; use integers [2, n] with n >= 1")
    entries = entries.detach().to("cpu", torch.int64, copy=True).contiguous()
    bounds = torch.tensor([[out_features], [in_features]])
    if bool(((entries < 0) | (entries >= bounds)).any()):
        raise ShapeError(
            f"entries reach {entries.amax(1).tolist()} (lowest {entries.amin(1).tolist()}) but the weight is "
            f"{out_features} x {in_features}; use rows in 0..{out_features - 1} and columns in 0..{in_features - 1}"
        )
    flat = entries[0] * in_features + entries[1]
    repeated = flat.numel() - flat.unique().numel()
    if repeated:
        raise ShapeError(f"{repeated} of {flat.numel()} entries are repeated; use each once")
    return entries


def _fold(index: torch.Tensor, length: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Folded index, whether it was mirrored, and whether its row of a half spectrum is real."""
    mirrored = index > length // 2
    folded = torch.where(mirrored, length - index, index)
    return folded, mirrored, (folded == 0) | (2 * folded == length)


def _links(target_length: int, source_length: int, entries: torch.Tensor) -> Links:
    target, target_mirrored, real = _fold(entries[0], target_length)
    source, source_mirrored, _ = _fold(entries[1], source_length)
    # The atom is the real part of a product of two positive-exponent spectra, while rfft has the negative exponent:
    # each side is conjugated unless it was mirrored, and the sum is conjugated back when it lands on a mirrored target.
    sign = 1.0 - 2.0 * (source_mirrored == target_mirrored).double()  # [n], of the imaginary link
    share = torch.where(real, 1.0, 0.5).double()  # irfft counts inner rows twice
    targets = torch.cat([2 * target, 2 * target + 1])
    order = torch.argsort(targets, stable=True)
    n = entries.shape[1]
    rows = 2 * (target_length // 2 + 1)
    imaginary = torch.where(real, 0.0, share * sign)  # irfft ignores the imaginary part of a real row
    return Links(
        source=torch.cat([2 * source, 2 * source + 1])[order],
        target=targets[order],
        offsets=torch.searchsorted(targets[order], torch.arange(rows)),
        ordinal=torch.arange(2 * n),
        coefficient=torch.arange(n).repeat(2)[order],
        weight=torch.cat([share, imaginary])[order],
        sign=torch.cat([torch.ones_like(sign), sign])[order],
        places=torch.argsort(order).view(2, n),
        source_rows=2 * (source_length // 2 + 1),
        target_rows=rows,
    )


def _half_spectrum(out_features: int, in_features: int, entries: torch.Tensor) -> HalfSpectrum:
    # Re(ifft2(F)) is the transform of the Hermitian part of F: half of each entry, and half of it mirrored through 0.
    columns = in_features // 2 + 1
    rows = torch.stack([entries[0], -entries[0] % out_features])  # [2, n]
    cols = torch.stack([entries[1], -entries[1] % in_features])
    kept = cols < columns
    position = rows * columns + cols
    mirrored = cols * out_features + rows.flip(0)
    return HalfSpectrum(
        position=mirrored[kept],
        coefficient=torch.arange(entries.shape[1]).expand_as(kept)[kept],
        folded=torch.where(kept[0], position[0], position[1]),
    )
