"""What the next line of a training's log is made of, beside a checkpoint.

transformers' Trainer adds losses up between two lines of its log, and over the whole training, and saves neither sum. A
training that goes on would log other numbers than one that was never interrupted.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fourierft.training.output import write_json

FILE = "losses.json"


class LossKeeper:
    """The part of a Trainer that saves these sums, and goes on with them; stands before it among the bases."""

    args: Any
    state: Any
    accelerator: Any
    _tr_loss: Tensor
    _total_loss_scalar: float
    _globalstep_last_logged: int

    def log(self, logs: dict[str, float], *arguments: Any, **options: Any) -> None:
        """Trainer's; the loss of a training is that of all its steps, of those before it went on too."""
        if "train_loss" in logs:
            logs["train_loss"] = self._total_loss_scalar / max(self.state.global_step, 1)
        super().log(logs, *arguments, **options)  # type: ignore[misc]

    def more_to_log(self) -> dict[str, Any]:
        """What else the next line of the log is made of, as JSON has it."""
        return {}

    def go_on_logging(self, kept: Mapping[str, Any]) -> None:
        """Bring back what `more_to_log` gave."""

    def _save_losses(self, folder: Path) -> None:
        """Write the sums into a checkpoint; each of the processes calls it."""
        pending = self.accelerator.gather(self._tr_loss.detach().reshape(1)).tolist()
        if self.args.should_save:
            logged = {"total": self._total_loss_scalar, "logged_at": self._globalstep_last_logged}
            write_json(folder / FILE, {"pending": pending, **logged, **self.more_to_log()})

    def _load_losses(self, folder: Path) -> None:
        """Bring the sums back, if the checkpoint has them, once Trainer has set them to zero."""
        if not (folder / FILE).is_file():
            return
        kept = json.loads((folder / FILE).read_text(encoding="utf-8"))
        self._tr_loss = torch.tensor(kept["pending"], device=self.args.device)[self.args.process_index]
        self._total_loss_scalar, self._globalstep_last_logged = kept["total"], kept["logged_at"]
        self.go_on_logging(kept)
