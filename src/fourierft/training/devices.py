"""The device of a model where no trainer chooses it."""

from __future__ import annotations

import torch


def find_device(use_cpu: bool) -> torch.device:
    """The GPU or other accelerator of this machine; its CPU, if that is asked for, or where there is no other.

    A build of torch for CUDA names CUDA also where no GPU is, so whether there is one is asked first.
    """
    found = torch.accelerator.current_accelerator() if torch.accelerator.is_available() and not use_cpu else None
    return found or torch.device("cpu")
