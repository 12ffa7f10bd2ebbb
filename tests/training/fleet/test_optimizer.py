"""A row of the optimiser moves as a tensor does under torch's AdamW, at its own step."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from transformers import get_constant_schedule_with_warmup, get_linear_schedule_with_warmup

from fourierft.training.fleet.optimizer import FleetOptimizer
from fourierft.training.fleet.settings import FleetSettings

WIDTH = 6


def make_optimizer(**settings: object) -> FleetOptimizer:
    plan = SimpleNamespace(start=torch.linspace(-1, 1, WIDTH), coefficients=4, decays=torch.arange(WIDTH) < 5)
    return FleetOptimizer(plan, FleetSettings(learning_rate=0.1, **settings))  # type: ignore[arg-type]


@pytest.mark.parametrize("schedule", ["linear", "constant"])
@pytest.mark.parametrize("warmup", [0, 3])
def test_adapters_that_take_turns_each_move_as_they_would_alone(schedule: str, warmup: int) -> None:
    ours = make_optimizer(schedule=schedule, warmup_steps=warmup, max_grad_norm=0)
    totals, turns = [5, 9, 7], [[0, 2], [1], [2, 1], [0], [1, 0, 2], [2], [1]]
    slots = [ours.join(total) for total in totals]
    parameters = [torch.nn.Parameter(torch.linspace(-1, 1, WIDTH)) for _ in totals]
    torchs = [torch.optim.AdamW([parameter], lr=0.1, weight_decay=0.0) for parameter in parameters]
    schedules = [
        get_constant_schedule_with_warmup(own, warmup)
        if schedule == "constant"
        else get_linear_schedule_with_warmup(own, warmup, total)
        for own, total in zip(torchs, totals, strict=True)
    ]
    for present in turns:
        grads = torch.randn(len(present), WIDTH)
        ours.step([slots[k] for k in present], grads)
        for k, grad in zip(present, grads, strict=True):
            parameters[k].grad = grad
            torchs[k].step()
            schedules[k].step()
        for slot, parameter in zip(slots, parameters, strict=True):
            torch.testing.assert_close(ours.numbers[slot], parameter.detach(), rtol=1e-5, atol=1e-6)


def test_gradients_are_clipped_adapter_by_adapter() -> None:
    ours, grads = make_optimizer(max_grad_norm=0.5), torch.tensor([[0.1] * WIDTH, [3.0] * WIDTH])
    slots = [ours.join(4), ours.join(4)]
    ours.step(slots, grads)
    alone = torch.nn.Parameter(torch.zeros(WIDTH))
    alone.grad = grads[1].clone()
    torch.nn.utils.clip_grad_norm_([alone], 0.5)
    torch.testing.assert_close(ours.first[slots], 0.1 * torch.stack([grads[0], alone.grad]))


def test_decay_leaves_biases_and_heads_have_their_rate() -> None:
    ours = make_optimizer(weight_decay=0.5, head_learning_rate=0.2)
    slot = ours.join(10)
    ours.step([slot], torch.zeros(1, WIDTH))
    shrunk = torch.tensor([0.95] * 4 + [0.9, 1.0])
    torch.testing.assert_close(ours.numbers[slot], torch.linspace(-1, 1, WIDTH) * shrunk)


def test_an_adapter_that_joins_in_anothers_place_starts_anew() -> None:
    ours = make_optimizer()
    slot = ours.join(4)
    ours.step([slot], torch.ones(1, WIDTH))
    ours.leave(slot)
    assert ours.join(6) == slot
    assert torch.equal(ours.numbers[slot], torch.linspace(-1, 1, WIDTH))
    assert not ours.first[slot].any()
    assert (ours.steps[slot], ours.totals[slot]) == (0, 6)


def test_many_adapters_keep_what_they_have_while_others_join() -> None:
    ours = make_optimizer()
    first = ours.join(4)
    ours.step([first], torch.ones(1, WIDTH))
    before = ours.numbers[first].clone()
    assert len({first, *(ours.join(4) for _ in range(100))}) == 101
    assert torch.equal(ours.numbers[first], before)
