"""AdamW over the adapters of a fleet: a row of numbers, moments and a step count each; only those present move."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from fourierft.training.fleet.settings import FleetSettings
from fourierft.training.fleet.trainable import TrainableRow

_BETAS, _EPSILON = (0.9, 0.999), 1e-8
_GROWTH = 1.5


class FleetOptimizer:
    """Numbers of all adapters and what AdamW knows of each.

    Semantics: for each adapter, torch's AdamW with `clip_grad_norm_` before it and a schedule of its own.

    Args:
        trainable: what an adapter is made of, and where it starts.
        settings: rates, schedule, decay and clipping.

    Attributes:
        numbers, first, second: [slots, width], the numbers and their moments.
        steps, totals: [slots], steps done and to do.
    """

    def __init__(self, trainable: TrainableRow, settings: FleetSettings) -> None:
        self._start, self._settings = trainable.start, settings
        width = len(trainable.start)
        self.numbers, self.first, self.second = (torch.zeros(0, width) for _ in range(3))
        self.steps, self.totals = torch.zeros(0, dtype=torch.long), torch.zeros(0, dtype=torch.long)
        self._free: list[int] = []
        rates = torch.full((width,), settings.learning_rate)
        if settings.head_learning_rate is not None:
            rates[trainable.coefficients :] = settings.head_learning_rate
        self._rates, self._decay = rates, trainable.decays * settings.weight_decay

    def join(self, total: int) -> int:
        """A slot for a new adapter, at the start.

        Args:
            total: steps it will be trained.
        """
        if not self._free:
            self._grow()
        slot = self._free.pop()
        self.numbers[slot] = self._start
        self.first[slot] = self.second[slot] = 0
        self.steps[slot], self.totals[slot] = 0, total
        return slot

    def leave(self, slot: int) -> None:
        self._free.append(slot)

    def gather(self, slots: Sequence[int]) -> Tensor:
        """The numbers of adapters, a leaf to take gradients of: [slots, width]."""
        return self.numbers[torch.tensor(slots)].requires_grad_()

    @torch.no_grad()
    def step(self, slots: Sequence[int], grads: Tensor) -> None:
        """Move adapters.

        Args:
            slots: theirs, each once.
            grads: [slots, width].
        """
        places = torch.tensor(slots)
        if self._settings.max_grad_norm:
            norms = grads.norm(dim=1, keepdim=True)
            grads = grads * (self._settings.max_grad_norm / (norms + 1e-6)).clamp(max=1.0)
        rates = self._rates * self._schedule(places)[:, None]  # [slots, width]
        self.steps[places] += 1
        counts = self.steps[places][:, None].double()
        first = self.first[places].lerp_(grads, 1 - _BETAS[0])
        second = self.second[places].mul_(_BETAS[1]).addcmul_(grads, grads, value=1 - _BETAS[1])
        sizes = second.sqrt().div_((1 - _BETAS[1] ** counts).sqrt().float()).add_(_EPSILON)
        numbers = self.numbers[places] * (1 - rates * self._decay)
        numbers -= rates / (1 - _BETAS[0] ** counts).float() * first / sizes
        self.numbers[places], self.first[places], self.second[places] = numbers, first, second

    def _schedule(self, places: Tensor) -> Tensor:
        """Share of the peak rate at the step that comes, [slots]."""
        steps, totals = self.steps[places].float(), self.totals[places].float()
        warmup = self._settings.warmup_steps
        rising = steps / max(1, warmup)
        if self._settings.schedule == "constant":
            return rising.clamp(max=1.0) if warmup else torch.ones_like(steps)
        falling = ((totals - steps) / (totals - warmup).clamp(min=1)).clamp(min=0)
        return torch.where(steps < warmup, rising, falling)

    def _grow(self) -> None:
        old = len(self.steps)
        new = max(old + 16, int(old * _GROWTH))
        for name in ("numbers", "first", "second", "steps", "totals"):
            before = getattr(self, name)
            after = before.new_zeros(new, *before.shape[1:])
            after[:old] = before
            setattr(self, name, after)
        self._free += range(new - 1, old - 1, -1)
