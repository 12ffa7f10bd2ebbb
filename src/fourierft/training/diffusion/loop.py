"""The steps of a DreamBooth training: samples in, gradients, checkpoints, and going on from one."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping
from pathlib import Path
from statistics import mean, median
from types import MappingProxyType
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor
from transformers import get_scheduler

from fourierft.bars import bar
from fourierft.errors import ConfigError
from fourierft.extras import needs
from fourierft.training.checkpoints import keep_last
from fourierft.training.diffusion.arguments import DreamBoothArguments
from fourierft.training.diffusion.checkpoint import load_checkpoint, save_checkpoint
from fourierft.training.diffusion.data import Concept, Sample, draw_sample
from fourierft.training.diffusion.pipeline import silent
from fourierft.training.trainer import Interruption, TrainingInterrupted

PROBES, PROBE_STREAM = 16, 99
PRECISIONS = {"no": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


class Loop:
    """Trains the adapter of a UNet on concepts: the subject, and its class if there is one.

    Args:
        accelerator: places, wraps and synchronises.
        pipeline: whose UNet has the adapter `default`; nothing else of it is trained.
        concepts: what was encoded, on the CPU.
        arguments: of the training.
        described: what makes the run.

    Attributes:
        history: step, mean loss since the line before, and learning rate, a line every `logging_steps` steps.
    """

    def __init__(
        self,
        accelerator: Accelerator,
        pipeline: Any,
        concepts: list[Concept],
        arguments: DreamBoothArguments,
        described: Mapping[str, Any] = MappingProxyType({}),
    ) -> None:
        with silent(), needs("diffusion", "DreamBooth"):
            from diffusers import DDPMScheduler

            self.noising = DDPMScheduler.from_config(pipeline.scheduler.config)
        self.accelerator, self.concepts, self.arguments = accelerator, concepts, arguments
        self.described = described
        self.options, self.base = arguments.loop, str(arguments.pipeline.model_name_or_path)
        self.target = self.noising.config.prediction_type
        if self.target not in ("epsilon", "v_prediction"):
            raise ConfigError(f"{self.base} predicts {self.target}; only epsilon and v_prediction can be trained")
        unet, self.dtype = pipeline.unet, PRECISIONS[accelerator.mixed_precision]
        for parameter in unet.parameters():
            if not parameter.requires_grad:
                parameter.data = parameter.data.to(self.dtype)
        if self.options.gradient_checkpointing:
            unet.enable_gradient_checkpointing()
        self.parameters = [parameter for parameter in unet.parameters() if parameter.requires_grad]
        optimizer = torch.optim.AdamW(
            self.parameters, lr=self.options.learning_rate, weight_decay=self.options.weight_decay
        )
        try:
            self.schedule = get_scheduler(
                self.options.lr_scheduler_type, optimizer, self.options.warmup_steps, self.options.max_steps
            )
        except (ValueError, TypeError) as error:
            raise ConfigError(
                f"lr_scheduler_type={self.options.lr_scheduler_type} is unknown or needs more settings; use constant, "
                "constant_with_warmup, linear or cosine"
            ) from error
        self.unet, self.optimizer = accelerator.prepare(unet, optimizer)
        self.history: list[dict[str, float]] = []
        self._losses: list[float] = []  # since the last line of history
        self._first_probe: float | None = None

    def run(self, directory: Path, checkpoint: Path | None) -> dict[str, Any]:
        """Do all steps, from the checkpoint on if there is one.

        Returns: `probe` (loss before and after) and `train` (loss, steps, seconds_per_step).

        Raises: TrainingInterrupted, after SIGINT or SIGTERM, with a checkpoint written. CheckpointError, if the
            checkpoint is damaged.
        """
        start = self._restore(checkpoint) if checkpoint else 0
        if self._first_probe is None:
            self._first_probe = self.probe()
        steps, seconds = self.options.max_steps, []
        interruption = Interruption()
        progress = bar(
            range(start, steps), "training", "steps", self.accelerator.is_main_process, initial=start, total=steps
        )
        with interruption.listen(), progress:
            for step in progress:
                began = time.perf_counter()
                self._losses.append(self._step(step))
                seconds.append(time.perf_counter() - began)
                done = step + 1
                if done % self.options.logging_steps == 0 or done == steps:
                    self._log(done)
                    progress.set_postfix(loss=f"{self.history[-1]['loss']:.4f}")
                stopped = self._agreed(interruption.requested) and done < steps
                if stopped or (self.options.save_steps and done % self.options.save_steps == 0):
                    path = self._save(directory, done)
                    if stopped:
                        raise TrainingInterrupted(done, steps, str(path))
        return {
            "probe": {"before": self._first_probe, "after": self.probe()},
            "train": {
                "loss": self.history[-1]["loss"],
                "steps": steps,
                "seconds_per_step": median(seconds) if seconds else 0.0,
            },
        }

    @torch.no_grad()
    def probe(self) -> float:
        """Mean loss on samples of the subject that stay the same, at timesteps spread evenly."""
        self.unet.eval()
        count = self.noising.config.num_train_timesteps
        losses = []
        for number in range(PROBES):
            drawn = draw_sample(self.concepts[0], number, self.options.seed, PROBE_STREAM, count)
            even = torch.tensor(int((number + 0.5) * count / PROBES))
            sample = Sample(drawn.latents, drawn.noise, even, drawn.sizes)
            losses.append(self._loss([(self.concepts[0], sample, 1.0)]).item())
        self.unet.train()
        return mean(losses)

    def state(self) -> dict[str, Tensor]:
        """The whole state of the UNet; every process must ask for it."""
        state: dict[str, Tensor] = self.accelerator.get_state_dict(self.unet)
        return state

    def _step(self, step: int) -> float:
        """One optimiser step; returns its loss, the mean over all devices."""
        self.unet.train()
        total = torch.zeros((), device=self.accelerator.device)
        rounds = self.options.gradient_accumulation_steps
        for turn in range(rounds):
            waits = turn < rounds - 1
            with self.accelerator.no_sync(self.unet) if waits else contextlib.nullcontext():
                loss = self._loss(self._draw(step * rounds + turn)) / rounds
                self.accelerator.backward(loss)
            total += loss.detach()
        if self.options.max_grad_norm:
            self.accelerator.clip_grad_norm_(self.parameters, self.options.max_grad_norm)
        self.optimizer.step()
        self.schedule.step()
        self.optimizer.zero_grad()
        return float(self.accelerator.reduce(total, "mean"))

    def _draw(self, batch: int) -> list[tuple[Concept, Sample, float]]:
        """This device's part of a batch: as many samples of the class as of the subject, each with its weight."""
        rows, weights = self.options.per_device_train_batch_size, (1.0, self.arguments.photos.prior_loss_weight)
        first = (batch * self.accelerator.num_processes + self.accelerator.process_index) * rows
        count = self.noising.config.num_train_timesteps
        return [
            (concept, draw_sample(concept, number, self.options.seed, stream, count), weights[stream])
            for stream, concept in enumerate(self.concepts)
            for number in range(first, first + rows)
        ]

    def _loss(self, drawn: list[tuple[Concept, Sample, float]]) -> Tensor:
        """Weighted sum of the squared errors of all samples, divided by the number of those of the subject."""
        device = self.accelerator.device
        samples = [sample for _, sample, _ in drawn]
        latents = torch.stack([sample.latents for sample in samples]).to(device)
        noise = torch.stack([sample.noise for sample in samples]).to(device)
        timesteps = torch.stack([sample.timestep for sample in samples]).to(device)
        texts = {
            name: torch.cat([concept.text[name] for concept, _, _ in drawn]).to(device, self.dtype)
            for name in drawn[0][0].text
        }
        conditions = None
        if "pooled" in texts:
            sizes = torch.stack([sample.sizes for sample in samples]).to(device, self.dtype)
            conditions = {"text_embeds": texts["pooled"], "time_ids": sizes}
        noisy = self.noising.add_noise(latents, noise, timesteps).to(self.dtype)
        found = self.unet(noisy, timesteps, texts["hidden_states"], added_cond_kwargs=conditions).sample.float()
        wanted = noise if self.target == "epsilon" else self.noising.get_velocity(latents, noise, timesteps)
        errors = (found - wanted).square().mean(dim=(1, 2, 3))
        weights = torch.tensor([weight for _, _, weight in drawn], device=device)
        return (errors * weights).sum() * len(self.concepts) / len(drawn)

    def _log(self, step: int) -> None:
        rate = self.schedule.get_last_lr()[0]
        self.history.append({"step": step, "loss": mean(self._losses), "learning_rate": rate})
        self._losses.clear()

    def _agreed(self, requested: bool) -> bool:
        """Whether any process was asked to stop."""
        if self.accelerator.num_processes == 1:
            return requested
        flag = torch.tensor(float(requested), device=self.accelerator.device)
        return bool(self.accelerator.reduce(flag, "sum") > 0)

    def _save(self, directory: Path, step: int) -> Path:
        """Write a checkpoint and remove the oldest ones."""
        state, path = self.state(), directory / f"checkpoint-{step}"
        if self.accelerator.is_main_process:
            rest = {
                "history": self.history,
                "losses": self._losses,
                "probe": self._first_probe,
                "schedule": self.schedule.state_dict(),
                "scaler": self.accelerator.scaler.state_dict() if self.accelerator.scaler else None,
            }
            unet = self.accelerator.unwrap_model(self.unet)
            save_checkpoint(path, step, unet, state, self.base, self.optimizer.optimizer, rest, self.described)
            keep_last(path, self.options.save_total_limit)
        self.accelerator.wait_for_everyone()
        return path

    def _restore(self, checkpoint: Path) -> int:
        """Go back to a checkpoint; returns its step."""
        kept = load_checkpoint(checkpoint, self.accelerator.unwrap_model(self.unet), self.optimizer.optimizer)
        self.history, self._losses, self._first_probe = kept["history"], kept["losses"], kept["probe"]
        self.schedule.load_state_dict(kept["schedule"])
        for group, rate in zip(self.optimizer.param_groups, self.schedule.get_last_lr(), strict=True):
            group["lr"] = rate
        if self.accelerator.scaler and kept["scaler"]:
            self.accelerator.scaler.load_state_dict(kept["scaler"])
        return int(kept["step"])
