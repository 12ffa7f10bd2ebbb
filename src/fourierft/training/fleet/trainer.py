"""The loop: a queue of adapters, the next few of which take a step together."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import EvalPrediction

from fourierft.fleet.hooks import RowHooks
from fourierft.training.families.family import Family
from fourierft.training.fleet.optimizer import FleetOptimizer
from fourierft.training.fleet.rows import TrainedRows
from fourierft.training.fleet.settings import FleetSettings
from fourierft.training.fleet.tenants import Tenant, divide_batch
from fourierft.training.fleet.trainable import TrainableRow
from fourierft.training.labels import IGNORED

_SCORED = 64  # rows of a batch of scoring


@dataclass
class Member:
    """An adapter in training: its slot in the optimiser, and the sum of its losses so far."""

    tenant: Tenant
    slot: int
    losses: float = 0.0


@dataclass(frozen=True)
class Finished:
    """A trained adapter.

    Attributes:
        name: of it.
        numbers: its row, [width].
        metrics: what the task scores, if rows were held out; train_loss, steps and rows.
    """

    name: str
    numbers: Tensor
    metrics: dict[str, Any] = field(default_factory=dict)


class FleetTrainer:
    """Trains adapters together; each as if it were trained alone on the same rows.

    Args:
        trainable: what an adapter is made of; its base gets hooks.
        family: what is learned.
        collate: makes a batch, tensors by name with `labels` among them, of rows by their numbers.
        settings: of the training.
        lengths: tokens of each row, by its number.

    Attributes:
        queue: adapters that wait for their next step, the longest waiting first.
        members: those in training.
    """

    def __init__(
        self,
        trainable: TrainableRow,
        family: Family,
        collate: Callable[[Sequence[int]], Mapping[str, Tensor]],
        settings: FleetSettings,
        lengths: Sequence[int],
    ) -> None:
        self.trainable, self.settings = trainable, settings
        self.optimizer = FleetOptimizer(trainable, settings)
        self.members: dict[str, Member] = {}
        self.queue: deque[str] = deque()
        self._family, self._collate, self._lengths = family, collate, lengths
        self._hooks = RowHooks(trainable.model)

    def join(self, tenant: Tenant) -> None:
        """Take an adapter in; it trains from the next step on."""
        slot = self.optimizer.join(tenant.total_steps(self.settings))
        self.members[tenant.name] = Member(tenant, slot)
        self.queue.append(tenant.name)

    def step(self) -> list[Finished]:
        """One step of the adapters that wait longest; those whose last it was leave, scored."""
        chosen = [self.members[self.queue.popleft()] for _ in range(min(self.settings.adapters, len(self.queue)))]
        slots = [member.slot for member in chosen]
        done = self.optimizer.steps[slots].tolist()
        batches = [member.tenant.batch(step, self.settings) for member, step in zip(chosen, done, strict=True)]
        numbers = self.optimizer.gather(slots)
        losses = self._backward(batches, numbers)
        assert numbers.grad is not None
        self.optimizer.step(slots, numbers.grad)
        for member, loss in zip(chosen, losses.tolist(), strict=True):
            member.losses += loss
        ended = (self.optimizer.steps[slots] >= self.optimizer.totals[slots]).tolist()
        self.queue.extend(m.tenant.name for m, is_ended in zip(chosen, ended, strict=True) if not is_ended)
        return self._leave([member for member, is_ended in zip(chosen, ended, strict=True) if is_ended])

    @property
    def steps_left(self) -> int:
        """Steps of single adapters that are still to do."""
        slots = [member.slot for member in self.members.values()]
        return int((self.optimizer.totals[slots] - self.optimizer.steps[slots]).sum())

    def close(self) -> None:
        """Take the hooks off the base."""
        self._hooks.remove()

    def _backward(self, batches: Sequence[Sequence[int]], numbers: Tensor) -> Tensor:
        """Add the gradients of adapters, [adapters, width], each on rows of its own, and return their losses."""
        rows = [(row, adapter) for adapter, own in enumerate(batches) for row in own]
        parts = [
            ([rows[place][0] for place in places], torch.tensor([rows[place][1] for place in places]))
            for places in divide_batch([self._lengths[row] for row, _ in rows])
        ]
        collated = [self._collated(own) for own, _ in parts]
        counts, losses = torch.zeros(len(batches)), torch.zeros(len(batches))
        for (_, owners), (_, labels) in zip(parts, collated, strict=True):
            counts.index_add_(0, owners, self._family.row_counts(labels))
        self.trainable.model.train()
        for (_, owners), (batch, labels) in zip(parts, collated, strict=True):
            logits = self._logits(batch, numbers.index_select(0, owners))
            own = self._family.row_losses(logits.float(), labels) / counts.clamp(min=1)[owners]
            own.sum().backward()
            losses.index_add_(0, owners, own.detach())
        return losses

    def _collated(self, rows: Sequence[int]) -> tuple[dict[str, Tensor], Tensor]:
        batch = dict(self._collate(rows))
        return batch, batch.pop("labels")

    def _logits(self, batch: dict[str, Tensor], numbers: Tensor) -> Tensor:
        present = TrainedRows(self.trainable, numbers)
        self._hooks.install(present.layers)
        with self._hooks.running(present):
            return self.trainable.model(**batch).logits

    def _leave(self, members: Sequence[Member]) -> list[Finished]:
        scores = self._score([member for member in members if member.tenant.held_out])
        finished = []
        for member in members:
            name, steps = member.tenant.name, int(self.optimizer.steps[member.slot])
            facts = {"train_loss": member.losses / steps, "steps": steps, "rows": len(member.tenant.train)}
            finished.append(
                Finished(name, self.optimizer.numbers[member.slot].clone(), {**scores.get(name, {}), **facts})
            )
            self.optimizer.leave(member.slot)
            del self.members[name]
        return finished

    @torch.no_grad()
    def _score(self, members: Sequence[Member]) -> dict[str, dict[str, float]]:
        """Metrics on the rows held out, by adapter; batches mix adapters."""
        found: dict[str, list[tuple[Any, Any]]] = {}
        self.trainable.model.eval()
        for part in _portions(members):
            batch, labels = self._collated([row for _, rows in part for row in rows])
            sizes = [len(rows) for _, rows in part]
            slots = torch.tensor([member.slot for member, _ in part]).repeat_interleave(torch.tensor(sizes))
            logits = self._logits(batch, self.optimizer.numbers[slots])
            logits = self._family.reduce(logits, labels)
            for (member, _), outputs, expected in zip(part, logits.split(sizes), labels.split(sizes), strict=True):
                pair = outputs.float().numpy(), expected.numpy()
                found.setdefault(member.tenant.name, []).append(pair)
        scores = {}
        for name, pairs in found.items():
            predictions, labels_of = zip(*pairs, strict=True)
            scores[name] = self._family.score(EvalPrediction(_join(predictions), _join(labels_of)))
        return scores


def _join(parts: Sequence[np.ndarray]) -> np.ndarray:
    """Rows of several batches in one array; where tokens are counted, filled up with IGNORED to the longest."""
    if parts[0].ndim < 2:
        return np.concatenate(parts)
    longest = max(part.shape[1] for part in parts)
    widths = ([(0, 0), (0, longest - part.shape[1]), *[(0, 0)] * (part.ndim - 2)] for part in parts)
    padded = [np.pad(part, width, constant_values=IGNORED) for part, width in zip(parts, widths, strict=True)]
    return np.concatenate(padded)


def _portions(members: Sequence[Member]) -> Iterator[list[tuple[Member, list[int]]]]:
    """Batches of held-out rows, at most 8 rows of an adapter in each."""
    pieces = []
    for member in members:
        rows = list(member.tenant.held_out)
        pieces += [(member, rows[at : at + 8]) for at in range(0, len(rows), 8)]
    most = _SCORED // 8
    for at in range(0, len(pieces), most):
        yield pieces[at : at + most]
