"""The picture of the mathematics shows one wave, and the sum of all."""

import numpy as np
import torch

from lab.paper.mathematics import COUNT, IN, OUT, SEED, weights


def test_the_waves_are_numpys_inverse_transform_of_the_entries() -> None:
    numbers = torch.randn(COUNT, dtype=torch.float64, generator=torch.Generator().manual_seed(SEED)).numpy()
    for count in (1, COUNT):
        entries, change = weights(count)
        spectrum = np.zeros((OUT, IN))
        spectrum[tuple(entries[:, :count].numpy())] = numbers[:count]
        np.testing.assert_allclose(change.numpy(), OUT * IN * np.fft.ifft2(spectrum).real, atol=1e-12)
