"""transformers' Trainer, with a learning rate for the head, step times, and Ctrl-C that loses nothing."""

from __future__ import annotations

import math
import shutil
import signal
import threading
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FrameType, MappingProxyType
from typing import Any

import torch
from accelerate.utils import parse_flag_from_env
from torch import distributed, nn
from torch.optim import Optimizer
from transformers import (
    PrinterCallback,
    ProgressCallback,
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.trainer_utils import IntervalStrategy

from fourierft.adapters.base import quiet
from fourierft.errors import CheckpointError, PlaceError
from fourierft.files import share, written_to
from fourierft.training.checkpoints import find_fault, keep_last, seal
from fourierft.training.coefficients import load_exact, save_exact
from fourierft.training.losses import LossKeeper
from fourierft.training.methods import is_head_parameter
from fourierft.training.progress import Progress


class TrainingInterrupted(KeyboardInterrupt):
    """A training stopped on request, its last step saved.

    Attributes:
        step: steps done.
        steps: steps there were to do.
        checkpoint: directory to go on from.
    """

    def __init__(self, step: int, steps: int, checkpoint: str) -> None:
        super().__init__(f"interrupted at step {step} of {steps}, which is saved in {checkpoint}")
        self.step = step
        self.steps = steps
        self.checkpoint = checkpoint


class SteadyTrainer(LossKeeper):
    """What trainers of this package have in common; stands before transformers' Trainer, or TRL's, among the bases.

    Attributes:
        run: what makes the training the run that it is; every checkpoint has it.
    """

    callback_handler: Any
    control: Any
    evaluate: Any
    model: Any
    is_fsdp_enabled: bool
    is_deepspeed_enabled: bool
    run: Mapping[str, Any] = MappingProxyType({})
    _resumed: Path | None = None  # the checkpoint that an epoch is about to go on from

    def __init__(self, *arguments: Any, **options: Any) -> None:
        """Trainer's; warns if sharding was asked for, and accelerate, which has it for accelerators alone, does not."""
        super().__init__(*arguments, **options)
        for shown in (ProgressCallback, PrinterCallback):
            self.remove_callback(shown)  # type: ignore[attr-defined]
        self.add_callback(Progress(draws=not self.args.disable_tqdm))  # type: ignore[attr-defined]
        if parse_flag_from_env("ACCELERATE_USE_FSDP") and not self.is_fsdp_enabled and self.args.should_log:
            warnings.warn(
                f"accelerate does not shard on {self.args.device.type}, so FSDP has no effect: "
                "every process holds the whole model, and trains it as without FSDP",
                stacklevel=2,
            )

    def create_model_card(self, *arguments: Any, **options: Any) -> None:
        """None: the card is written once, from the results; TRL would write one of its own with every checkpoint."""

    def evaluation_loop(self, *arguments: Any, **options: Any) -> Any:
        """Trainer's evaluation, leaving the random state alone: a training resumed at its end does not repeat it."""
        with torch.random.fork_rng():
            return super().evaluation_loop(*arguments, **options)  # type: ignore[misc]

    def _run_epoch(self, *arguments: Any, **options: Any) -> None:
        """Trainer's; nothing, where a training that goes on has no step left: Trainer would do one more.

        A checkpoint of the last step of an epoch is written before the epoch is evaluated, which is made up for.
        """
        if self._resumed is not None:
            self._load_losses(self._resumed)
            self._resumed = None
            is_due = self.args.eval_strategy == IntervalStrategy.EPOCH and self.state.epoch % 1 == 0
            scored = [log["step"] for log in self.state.log_history if "eval_loss" in log]
            if is_due and self.state.global_step not in scored:
                self.evaluate()
        if self.state.global_step >= self.state.max_steps:
            self.control.should_training_stop = True
        else:
            super()._run_epoch(*arguments, **options)  # type: ignore[misc]

    def _save_checkpoint(self, *arguments: Any, **options: Any) -> None:
        """Trainer's, written anew, then sealed; older ones go when it is whole, and not before.

        Raises: PlaceError, if it can't be written whole; what was written of it is removed.
        """
        path = Path(self.args.output_dir) / f"checkpoint-{self.state.global_step}"
        limit, self.args.save_total_limit = self.args.save_total_limit, None
        try:
            if self.args.should_save and path.exists():  # damaged, or of a training that went on from an earlier one
                shutil.rmtree(path)
            self.accelerator.wait_for_everyone()
            with written_to(path):
                super()._save_checkpoint(*arguments, **options)  # type: ignore[misc]
                self.accelerator.wait_for_everyone()
                self._save_losses(path)
                if self.args.should_save:
                    if not self.is_fsdp_enabled and not self.is_deepspeed_enabled:  # whose files have what is in memory
                        save_exact(self.accelerator.unwrap_model(self.model), path)
                    seal(path, self.run)
                    keep_last(path, limit, self.state.best_model_checkpoint)
        except PlaceError:
            shutil.rmtree(path, ignore_errors=True)
            raise
        finally:
            self.args.save_total_limit = limit

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        """Trainer's, and then the coefficients as they were in memory."""
        super()._load_from_checkpoint(resume_from_checkpoint, model)  # type: ignore[misc]
        load_exact(self.accelerator.unwrap_model(self.model), Path(resume_from_checkpoint))
        self._resumed = Path(resume_from_checkpoint)

    def _load_best_model(self) -> None:
        """Trainer's, but a best model that is damaged is an error; Trainer would save the last in its place.

        Raises: CheckpointError.
        """
        best = Path(self.state.best_model_checkpoint)
        fault = find_fault(best)
        if fault:
            raise CheckpointError(
                f"the best model, {best}, is damaged: {fault}; resume from an earlier checkpoint, "
                "or leave out --load_best_model_at_end"
            )
        super()._load_best_model()  # type: ignore[misc]

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Any] | None = None) -> None:
        """Trainer's saving, without a bar. PEFT warns of layers without numbers, which AdaLoRA has at no rank."""
        with quiet(), warnings.catch_warnings():
            if any(isinstance(callback, RankAllocation) for callback in self.callback_handler.callbacks):
                warnings.filterwarnings("ignore", message=r".*LoRA tensor\(s\) have invalid shape")
            super()._save(output_dir, state_dict)  # type: ignore[misc]
        for file in Path(output_dir or self.args.output_dir).glob("*.safetensors"):
            share(file)


class HeadTrainer(SteadyTrainer, Trainer):
    """A Trainer that gives the head, `heads` by module name, a learning rate of its own.

    The loss of a classification head is a mean over its batch, though its forward takes `num_items_in_batch`, which it
    ignores. Trainer is told so; it would add up accumulated batches and devices instead of averaging them. A language
    model, which has no such head, heeds it.
    """

    def __init__(
        self, *arguments: Any, heads: tuple[str, ...], head_learning_rate: float | None, **options: Any
    ) -> None:
        super().__init__(*arguments, **options)
        if heads:
            self.model_accepts_loss_kwargs = False
        self._heads = heads
        self._head_learning_rate = head_learning_rate
        plugin = getattr(self.accelerator.state, "fsdp_plugin", None)
        if plugin is not None and plugin.transformer_cls_names_to_wrap is None:
            plugin.transformer_cls_names_to_wrap = block_names(self.model)

    def create_optimizer(self, model: nn.Module | None = None) -> Optimizer:
        """Trainer's optimizer, the head's parameters moved to groups with the head's learning rate."""
        if self.optimizer is not None:
            return self.optimizer
        optimizer = super().create_optimizer(model)
        if self._head_learning_rate is not None:
            self._split_groups(optimizer, model or self.model)
        return optimizer

    def _split_groups(self, optimizer: Optimizer, model: Any) -> None:
        head = {id(p) for name, p in model.named_parameters() if is_head_parameter(name, self._heads)}
        groups = list(optimizer.param_groups)
        optimizer.param_groups.clear()
        for group in groups:
            others = {name: value for name, value in group.items() if name != "params"}
            for in_head in (False, True):
                params = [p for p in group["params"] if (id(p) in head) == in_head]
                if params:
                    rate = {"lr": self._head_learning_rate} if in_head else {}
                    optimizer.add_param_group({**others, "params": params, **rate})


def block_names(model: Any) -> list[str]:
    """The classes of a model's blocks, which FSDP is to shard one by one.

    transformers' own list, which accelerate takes otherwise, has the embeddings of BERT and its like in it; accelerate
    shards their tables a second time then, and fails.
    """
    blocks = (module for module in model.modules() if isinstance(module, GradientCheckpointingLayer))
    return sorted({type(block).__name__ for block in blocks})


def count_steps(rows: int, settings: TrainingArguments) -> int:
    """Steps of the optimizer that Trainer will do on so many rows, over all its processes."""
    batches = rows / settings.train_batch_size
    whole = math.floor if settings.dataloader_drop_last else math.ceil
    batches = whole(whole(batches) / settings.world_size)
    if settings.max_steps > 0:
        return settings.max_steps
    return math.ceil(settings.num_train_epochs * max(math.ceil(batches / settings.gradient_accumulation_steps), 1))


class RankAllocation(TrainerCallback):
    """Lets AdaLoRA choose the ranks of its layers, from the gradients of each step."""

    def on_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, model: Any = None, **_: Any
    ) -> None:
        """Count the step's gradients in, before they are cleared."""
        model.base_model.update_and_allocate(state.global_step)


class BestFollows(TrainerCallback):
    """Finds the best checkpoint again where a training goes on, also in a folder that was moved."""

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Name it in this folder, where Trainer, which knows its old path, does not find it.

        Raises: CheckpointError, if it is gone.
        """
        if not (args.load_best_model_at_end and state.best_global_step) or state.best_model_checkpoint:
            return
        best = Path(args.output_dir or "") / f"checkpoint-{state.best_global_step}"
        if not best.is_dir():
            raise CheckpointError(
                f"the best model so far, {best}, is missing; restore it, resume from an "
                "earlier checkpoint, or leave out --load_best_model_at_end"
            )
        state.best_model_checkpoint = str(best)


class Interruption(TrainerCallback):
    """Turns SIGINT and SIGTERM into: finish this step, save a checkpoint, stop. A second signal stops at once."""

    def __init__(self) -> None:
        self.requested = False

    @contextmanager
    def listen(self) -> Iterator[None]:
        """Receive the signals for as long as this lasts; outside the main thread, where none arrive, do nothing."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self._receive) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if self.requested:
            raise KeyboardInterrupt
        self.requested = True

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> TrainerControl:
        """Ask the trainer to save and stop, in all processes at the same step."""
        if args.world_size > 1:
            flag = torch.tensor(int(self.requested), device=args.device)
            distributed.all_reduce(flag, distributed.ReduceOp.MAX)
            self.requested = bool(flag.item())
        if self.requested:
            control.should_save = True
            control.should_training_stop = True
        return control
