"""The kernels on tensors, as the compiled kernel of the CPU has them.

Shapes: x [sets, tokens, in], grad [sets, tokens, out], coefficients [sets, n].
"""

from __future__ import annotations

import torch
from torch import Tensor

from fourierft.spectral.basis import SpectralBasis
from fourierft.spectral.triton.links import Holding, Links, holding_of, links_of, pairs_of
from fourierft.spectral.triton.plan import SLAB, Plan

_SHARE = 64  # pairs of tokens that one program sums up for the gradient of the coefficients
BLOCK = 128  # entries of such a program
_VALUES_OF_WARP = 64  # padded values of a slab that one warp holds, in 4 to 8 warps


class TritonUpdate:
    """The updates of one basis through the kernels, on one device.

    Args:
        basis: the entries.
        inner, outer: plans of the basis' in_features and out_features.
        device: a GPU; the CPU, if triton interprets (TRITON_INTERPRET=1).
    """

    def __init__(self, basis: SpectralBasis, inner: Plan, outer: Plan, device: torch.device) -> None:
        u, v = basis.entries
        self._n = basis.n_frequency
        self._factor = 0.5 / (basis.out_features * basis.in_features)  # each entry stands for two
        self._inner, self._outer = holding_of(inner, v, device), holding_of(outer, u, device)
        self._forward = links_of(self._inner, outer.length, v, u, device)
        self._backward = links_of(self._outer, inner.length, u, v, device)
        self._pairs = pairs_of(self._outer, self._inner, basis.entries, device)

    def product(
        self, x: Tensor, coefficients: Tensor, scaling: float, transposed: bool = False, onto: Tensor | None = None
    ) -> Tensor:
        """dW x, [sets, tokens, out], in the dtype of x; transposed: dW^T x of x [sets, tokens, out].

        Given `onto`, of the result's shape, adds to it in place and returns it.
        """
        source, target = (self._outer, self._inner) if transposed else (self._inner, self._outer)
        links = self._backward if transposed else self._forward
        return self._release(_hold(x, source), source, target, links, x, coefficients, scaling, onto)

    def gradients(
        self, grad: Tensor, x: Tensor, coefficients: Tensor | None, scaling: float, onto: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Gradients of x, in its dtype (empty without coefficients), and of the coefficients, float32 [sets, n].

        Given `onto`, of the shape of x, adds the first to it in place and returns it.
        """
        held_grad, held = _hold(grad, self._outer), _hold(x, self._inner)
        found = self._sampled(held_grad, held, scaling)
        if coefficients is None:
            return x.new_empty(0), found
        links = self._backward
        return self._release(held_grad, self._outer, self._inner, links, x, coefficients, scaling, onto), found

    def _release(
        self,
        held: Tensor,
        source: Holding,
        target: Holding,
        links: Links,
        x: Tensor,
        coefficients: Tensor,
        scaling: float,
        onto: Tensor | None,
    ) -> Tensor:
        from fourierft.spectral.triton import kernels

        y = x.new_empty(*x.shape[:2], target.plan.length) if onto is None else onto
        if not y.numel():
            return y
        written = y if y.stride(2) == 1 else y.contiguous()
        kernels.release[held.shape[1], held.shape[0]](
            held,
            coefficients.float().contiguous(),
            written,
            links.source,
            links.coefficient,
            target.tables,
            y.shape[1],
            *written.stride()[:2],
            source.count,
            self._n,
            links.depth,
            self._factor * scaling,
            **launch_shape(target.plan),
            SPLIT=y.dtype != torch.float32,
            ADD=onto is not None,
        )
        return y if written is y else y.copy_(written)

    def _sampled(self, held_grad: Tensor, held: Tensor, scaling: float) -> Tensor:
        from fourierft.spectral.triton import kernels

        sets, pairs = held.shape[:2]
        shares = -(-pairs // _SHARE)
        partial = held.new_zeros(sets, shares, self._n)
        if partial.numel():
            kernels.gradient[-(-self._n // BLOCK), shares, sets](
                held_grad,
                held,
                partial,
                *vars(self._pairs).values(),
                pairs,
                self._outer.count,
                self._inner.count,
                self._n,
                _SHARE,
                2 * self._factor * scaling,
                BLOCK=BLOCK,
            )
        return partial.sum(1)


def _hold(x: Tensor, holding: Holding) -> Tensor:
    """The held bins of x: [sets, pairs, 2, count] float32."""
    from fourierft.spectral.triton import kernels

    sets, tokens, _ = x.shape
    held = x.new_empty(sets, -(-tokens // 2), 2, holding.count, dtype=torch.float32)
    if not held.numel():
        return held
    x = x if x.stride(2) == 1 else x.contiguous()
    kernels.hold[held.shape[1], sets](
        x,
        held,
        holding.slots,
        holding.tables,
        tokens,
        *x.stride()[:2],
        holding.count,
        **launch_shape(holding.plan),
        SPLIT=x.dtype != torch.float32,
        EXACT=x.dtype == torch.bfloat16,
    )
    return held


def launch_shape(plan: Plan) -> dict[str, int]:
    """What the kernels are compiled for: the factors of a length, what they are padded to, slab and warps."""
    (n1, n2, n3), (p1, p2, p3) = plan.factors, plan.padded
    warps = max(4, min(8, plan.values // _VALUES_OF_WARP))
    shape = {"N1": n1, "N2": n2, "N3": n3, "P1": p1, "P2": p2, "P3": p3, "SLAB": SLAB}
    # slabs loaded ahead would spill, and so would the fewer registers that ptxas would choose
    return shape | {"num_warps": warps, "num_stages": 1, "maxnreg": 255}
