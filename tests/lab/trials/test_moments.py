"""Adam with one second moment a layer, against torch's Adam where the two are the same and a step by hand."""

from __future__ import annotations

import torch

from fourierft.training.families import family
from lab.trials.moments import LayerAdam, layer_adam

GROUP = {"lr": 1e-2, "betas": (0.9, 0.999), "eps": 1e-8}


def test_matrix_moves_as_with_adam() -> None:
    ours, theirs = (torch.nn.Parameter(torch.ones(3, 4)) for _ in range(2))
    own = LayerAdam([{"params": [ours], **GROUP}])
    stock = torch.optim.Adam([theirs], lr=1e-2)
    for step in range(5):
        gradient = torch.randn(3, 4) * (step + 1)
        for parameter, optimizer in ((ours, own), (theirs, stock)):
            parameter.grad = gradient.clone()
            optimizer.step()
    torch.testing.assert_close(ours, theirs)


def test_first_step_of_a_vector_is_its_gradient_over_its_rms() -> None:
    vector = torch.nn.Parameter(torch.zeros(4))
    optimizer = LayerAdam([{"params": [vector], **GROUP}])
    vector.grad = torch.tensor([3.0, -1.0, 1.0, 1.0])
    optimizer.step()
    torch.testing.assert_close(vector.detach(), -1e-2 * torch.tensor([3.0, -1.0, 1.0, 1.0]) / 3**0.5)


def test_trainer_is_as_before_afterwards() -> None:
    before = family.HeadTrainer
    with layer_adam():
        assert family.HeadTrainer is not before
    assert family.HeadTrainer is before
