"""The kernels under all views: real transforms, and one gather, scale and sum between two half spectra.

Legend (the paper's symbols): c [rows, n] coefficients, x and g inputs and output gradients, u and v the entries' row
and column, alpha the scaling. Half precision is computed in float32. A token spectrum is frequency-major:
[rows, spectrum rows, tokens].

    y = alpha / in * irfft(Z),  Z[u'] = sum over links into u' of weight * c[k] * rfft(x)[v']
    dc[k] = alpha / (out * in) * sum over tokens of re(G) re(X) + sign * im(G) im(X),  G = rfft(g)[u'], X = rfft(x)[v']

`embedding_bag` is torch's fused gather, scale and segment sum; the gradient of its weights is the sampled product that
dc needs.
"""

from __future__ import annotations

import functools

import torch

from fourierft.spectral.basis import Links, SpectralBasis
from fourierft.spectral.eager import is_captured

_SUM = 0  # embedding_bag's mode


def compute_dtype(dtype: torch.dtype) -> torch.dtype:
    """float64 for float64, float32 for everything else: cuFFT has no half precision at odd sizes."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def token_spectrum(x: torch.Tensor) -> torch.Tensor:
    """Frequency-major half spectrum of each token: [rows, tokens, length] -> [rows, 2 * (length // 2 + 1), tokens]."""
    spectrum = torch.view_as_real(torch.fft.rfft(x.to(compute_dtype(x.dtype))))
    return spectrum.flatten(2).transpose(1, 2).contiguous()


def from_token_spectrum(spectrum: torch.Tensor, length: int) -> torch.Tensor:
    """Inverse of `token_spectrum`: [rows, 2 * (length // 2 + 1), tokens] -> [rows, tokens, length]."""
    interleaved = spectrum.transpose(1, 2).contiguous().unflatten(2, (-1, 2))
    return torch.fft.irfft(torch.view_as_complex(interleaved), n=length)


@functools.lru_cache(maxsize=1024)
def token_block(tokens: int, most: int) -> int:
    """How many tokens one block of a spectrum holds: a divisor of all, at most so many, or all if they have none."""
    divisor = next(size for size in range(min(tokens, most), 0, -1) if tokens % size == 0)
    return divisor if divisor >= most // 8 else tokens


def link_factors(coefficients: torch.Tensor, links: Links, factor: float) -> torch.Tensor:
    """What each link multiplies with: coefficients [sets, n], float32 or float64 -> [sets, 2n]."""
    return coefficients[:, links.coefficient] * (links.weight * factor).to(coefficients.dtype)


def mix(spectrum: torch.Tensor, factors: torch.Tensor, links: Links) -> torch.Tensor:
    """Carry token spectra through the links of a basis, each row of the batch with its own factors.

    Semantics: out[b, target[l], t] += factors[b, l] * spectrum[b, source[l], t].

    Args:
        spectrum: [rows, links.source_rows, tokens], float32 or float64.
        factors: [sets, 2n], same dtype; rows is a multiple of sets, and each set serves rows / sets rows in turn.
        links: of the basis, on the same device.

    Returns: [rows, links.target_rows, tokens].
    """
    rows, _, tokens = spectrum.shape
    if len(factors) != rows:
        factors = factors[:, None].expand(-1, rows // len(factors), -1).reshape(rows, -1)
    if tokens == 1 and rows > 1:  # one token a row: the batch is the contiguous dimension
        scaled = spectrum[:, :, 0].t().contiguous().index_select(0, links.source).mul_(factors.t())  # [2n, rows]
        return torch.embedding_bag(scaled, links.ordinal, links.offsets, mode=_SUM)[0].t()[:, :, None]
    source, offsets, _ = _batched(links, rows)
    mixed = torch.embedding_bag(
        spectrum.flatten(0, 1), source, offsets, mode=_SUM, per_sample_weights=factors.flatten()
    )[0]
    return mixed.view(rows, links.target_rows, tokens)


def mix_gradient(grad_spectrum: torch.Tensor, spectrum: torch.Tensor, links: Links) -> torch.Tensor:
    """Gradient of the factors of `mix`: what each link reads times the gradient of what it adds to, [rows, 2n].

    Args:
        grad_spectrum: [rows, links.target_rows, tokens].
        spectrum: [rows, links.source_rows, tokens].
        links: of the basis, on the same device.
    """
    rows, _, tokens = spectrum.shape
    if tokens == 1 and rows > 1:
        return grad_spectrum[:, links.target, 0] * spectrum[:, links.source, 0]
    source, offsets, target = _batched(links, rows)
    return torch.ops.aten._embedding_bag_per_sample_weights_backward(
        grad_spectrum.flatten(0, 1), spectrum.flatten(0, 1), source, offsets, target, _SUM
    ).view(rows, -1)


def coefficient_gradient(per_link: torch.Tensor, links: Links, factor: float) -> torch.Tensor:
    """Gradient of the coefficients from the products of their links: [sets, 2n] -> [sets, n]."""
    return (per_link * (links.sign * factor).to(per_link.dtype))[:, links.places].sum(1)


def dense_delta(
    coefficients: torch.Tensor, basis: SpectralBasis, scaling: float, base: torch.Tensor | None = None
) -> torch.Tensor:
    """alpha * Re(ifft2(F)), plus base if given, by real transforms alone: [n] -> [out, in], float32 or float64."""
    places = basis.half_spectrum(coefficients.device)
    columns = coefficients.new_zeros((basis.in_features // 2 + 1) * basis.out_features)
    columns.index_add_(0, places.position, coefficients[places.coefficient] * (0.5 * scaling / basis.out_features))
    return weight_from_columns(columns.view(-1, basis.out_features), basis.in_features, base)


def weight_from_columns(columns: torch.Tensor, in_features: int, base: torch.Tensor | None = None) -> torch.Tensor:
    """Real weight of a real Hermitian half spectrum, given by columns, rows mirrored: [in // 2 + 1, out] -> [out, in].

    A real spectrum makes the weight symmetric about its origin, dW[-p, -q] = dW[p, q]: half of its rows are
    transformed, the others are those read backwards. Carries 1 / in; the caller's values carry 1 / out. A base of the
    same dtype is added on the way.
    """
    out_features = columns.shape[1]
    spectrum = torch.fft.rfft(columns)[None].transpose(1, 2).contiguous()  # [1, out // 2 + 1, in // 2 + 1]
    upper = torch.fft.irfft(spectrum, n=in_features)[0]
    middle = len(upper)
    backwards = upper[1 : out_features - middle + 1].flip(0, 1)  # one column ahead: q = 0 is its own mirror image
    weight = upper.new_empty(out_features, in_features)
    base = weight.new_zeros(1, 1).expand_as(weight) if base is None else base
    torch.add(base[:middle], upper, out=weight[:middle])
    torch.add(base[middle:, 1:], backwards[:, :-1], out=weight[middle:, 1:])
    torch.add(base[middle:, :1], backwards[:, -1:], out=weight[middle:, :1])
    return weight


def dense_gradient(grad_weight: torch.Tensor, basis: SpectralBasis, scaling: float) -> torch.Tensor:
    """Gradient of the coefficients from that of the weight, the adjoint of `dense_delta`: [out, in] -> [n]."""
    places = basis.half_spectrum(grad_weight.device)
    spectrum = torch.fft.rfft2(grad_weight).real.flatten()
    return spectrum[places.folded] * (scaling / grad_weight.numel())


def _batched(links: Links, rows: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Source, offsets and target of the links of each row of a batch, as if the batch were one tall spectrum.

    In a CUDA graph they are made by the graph itself: a replay reads the addresses of the capture, and what is kept
    from call to call may be dropped by then.
    """
    if rows == 1:
        return links.source, links.offsets, links.target
    return (_stacked if is_captured(links.source.device) else _kept_stacks)(links, rows)


def _stacked(links: Links, rows: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    starts = torch.arange(rows, device=links.source.device)[:, None]
    tensors, steps = (
        (links.source, links.offsets, links.target),
        (links.source_rows, len(links.source), links.target_rows),
    )
    return tuple((tensor + starts * step).flatten() for tensor, step in zip(tensors, steps, strict=True))  # type: ignore[return-value]


_kept_stacks = functools.lru_cache(maxsize=32)(_stacked)
