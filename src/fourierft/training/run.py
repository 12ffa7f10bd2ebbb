"""One training from arguments to results: `train(arguments)` is what `fourierft train` calls.

Everything that can be wrong is found before the first file is written: the output directory, the data, the model, the
method. The results are written beside and moved into place when they are whole.
"""

from __future__ import annotations

import copy
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from transformers import Trainer, TrainerState
from transformers.trainer_utils import IntervalStrategy, SaveStrategy

from fourierft.errors import ConfigError, FourierFTError
from fourierft.files import check_place
from fourierft.format.hub import offline_if_unreachable
from fourierft.format.json_file import read_json
from fourierft.training import output, report, scores
from fourierft.training.arguments import Arguments
from fourierft.training.checkpoints import find_checkpoint, read_run
from fourierft.training.dry_run import dry_run
from fourierft.training.families.registry import lower_is_better
from fourierft.training.lock import held
from fourierft.training.plan import Plan, plan_training
from fourierft.training.progress import StepTimer
from fourierft.training.resuming import check_same_run, describe_run
from fourierft.training.trackers import check_trackers
from fourierft.training.trainer import (
    BestFollows,
    Interruption,
    RankAllocation,
    TrainingInterrupted,
)
from fourierft.training.upload import list_results, make_repository, upload

if TYPE_CHECKING:
    from datasets import Dataset


def train(arguments: Arguments, describe: bool = True) -> dict[str, Any]:
    """Train, evaluate, and write the results into the output directory.

    Args:
        arguments: from `settings.build_arguments`.
        describe: print what is trained, on what, and of which size.

    Returns: the content of metrics.json: `train` (loss, steps, seconds, seconds_per_step), `eval` and `test` (metrics
        of the model as it is saved), `saved` (best or last), `before`, `best` and `last` (metrics at those evaluations;
        see `scores.sum_up`), `parameters` (adapter, head, base), `bytes` (adapter, head, file), `rows`, `seed`,
        `versions`, `diverged` (whether numbers that were trained are not finite). Of a dry run: see
        `dry_run.dry_run`. Beside metrics.json stands history.json, what was logged step by step. Resumed when it is
        finished, a training changes nothing.

    Raises: FourierFTError, if anything given is wrong, or another process trains into that directory.
        TrainingInterrupted, after SIGINT or SIGTERM.
    """
    check_trackers(arguments.training.report_to or ())
    if arguments.run.dry_run:
        return dry_run(arguments)
    directory = Path(arguments.training.output_dir or "")
    output.check_directory(directory)
    with held(directory) if arguments.training.process_index == 0 else nullcontext():
        return _train(arguments, directory, describe)


def _train(arguments: Arguments, directory: Path, describe: bool) -> dict[str, Any]:
    resume = arguments.training.resume_from_checkpoint
    output.check_output(directory, arguments.run.overwrite_output_dir, resume is not None)
    report.require_plotting()
    checkpoint = find_checkpoint(resume, directory) if resume else None
    names = (arguments.model.model_name_or_path, arguments.data.dataset_name)
    with arguments.training.main_process_first(desc="preparing data and model"), offline_if_unreachable(*names):
        plan = plan_training(arguments)
    if describe and arguments.training.process_index == 0:
        print(plan.describe(), flush=True)
    return _run(plan, directory, checkpoint)


def _run(plan: Plan, directory: Path, checkpoint: Path | None) -> dict[str, Any]:
    timer, interruption = StepTimer(), Interruption()
    trainer = build_trainer(plan)
    trainer.add_callback(timer)
    trainer.add_callback(interruption)
    trainer.add_callback(BestFollows())
    for callback in plan.callbacks:
        trainer.add_callback(callback)
    if plan.trainable.method == "adalora":
        if checkpoint is not None:
            raise ConfigError(
                "adalora can't be resumed, because PEFT does not save its ranks; start again in another folder"
            )
        trainer.add_callback(RankAllocation())
    trainer.run = describe_run(plan, trainer.args)
    if checkpoint is not None:
        check_same_run(read_run(checkpoint), trainer.run, checkpoint)
        if is_finished(checkpoint, directory):
            print(
                f"{directory} has the results of all {output.step_of(checkpoint)} steps; there is nothing left to do",
                flush=True,
            )
            metrics = dict(read_json(directory / output.METRICS))
            if plan.arguments.training.push_to_hub and trainer.is_world_process_zero():
                _publish(plan, directory, metrics, make_repository(plan.arguments.training))
            return metrics
        trainer.args.eval_on_start = False  # it was evaluated there
    trainer.accelerator.wait_for_everyone()
    repository = None
    if trainer.is_world_process_zero():
        repository = make_repository(plan.arguments.training)
        if not plan.arguments.run.overwrite_output_dir:  # which makes room
            saves = 1 if trainer.args.save_strategy == SaveStrategy.NO else 2
            check_place(directory, saves * sum(plan.trainable.sizes()["bytes"].values()))
        directory.mkdir(parents=True, exist_ok=True)
        if checkpoint is None:
            output.clear_output(directory)
        output.write_json(directory / output.RECORD, plan.record)
    with interruption.listen():
        result = trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    state = trainer.state
    if interruption.requested and state.global_step < state.max_steps:
        raise TrainingInterrupted(
            state.global_step, state.max_steps, str(directory / f"checkpoint-{state.global_step}")
        )
    metrics = {
        "train": {
            "loss": result.metrics["train_loss"],
            "steps": state.global_step,
            "epochs": state.epoch,
            "seconds": result.metrics["train_runtime"],
            "seconds_per_step": timer.seconds_per_step,
        }
    }
    is_best = bool(trainer.args.load_best_model_at_end and state.best_model_checkpoint)
    step = output.step_of(Path(state.best_model_checkpoint)) if is_best else state.global_step
    for name, prefix in (("validation", "eval"), ("test", "test")):
        if name in plan.splits:
            metrics[prefix] = _evaluate(trainer, plan.splits[name], prefix, step)
    summary = scores.sum_up(state.log_history, plan.setup.family.main_metric)
    saved = "best" if is_best else "last"
    return _write_results(trainer, plan, directory, {**metrics, "saved": saved, **summary}, repository)


def is_finished(checkpoint: Path, directory: Path) -> bool:
    """Whether a training has its last step in a checkpoint, and all its results in a directory."""
    state = TrainerState.load_from_json(str(checkpoint / "trainer_state.json"))
    return state.global_step >= state.max_steps and all((directory / name).is_file() for name in output.LAST_RESULTS)


def _evaluate(trainer: Trainer, rows: Dataset, prefix: str, step: int) -> dict[str, float]:
    """Metrics of the model as it is saved, which is that of `step`; from the log if they are there."""
    known = scores.scores_at(trainer.state.log_history, step, prefix)
    return known or scores.without_prefix(trainer.evaluate(rows, metric_key_prefix=prefix), prefix)


def build_trainer(plan: Plan) -> Any:
    """The Trainer of a training.

    Raises: ConfigError, if its settings contradict each other.
    """
    arguments, family = plan.arguments, plan.setup.family
    settings = arguments.training
    if settings.load_best_model_at_end or settings.metric_for_best_model:
        if "validation" not in plan.splits:
            raise ConfigError("choosing the best model needs validation data; give --validation_file")
        settings.metric_for_best_model, settings.greater_is_better = (
            family.main_metric,
            not lower_is_better(family.main_metric),
        )
    if "validation" not in plan.splits:
        settings.eval_strategy = IntervalStrategy.NO
    if settings.label_names is None:
        settings.label_names = ["labels"]
    batch = settings.train_batch_size * settings.world_size
    if settings.dataloader_drop_last and len(plan.splits["train"]) < batch:
        raise ConfigError(
            f"dataloader_drop_last drops batches of fewer than {batch} rows, and so "
            f"all {len(plan.splits['train'])} rows; leave it out, or use smaller batches"
        )
    trainers_own = copy.copy(settings)
    trainers_own.push_to_hub = False  # see `upload`
    options: dict[str, Any] = {
        "model": plan.trainable.model,
        "args": trainers_own,
        "train_dataset": plan.splits["train"],
        "eval_dataset": plan.splits.get("validation"),
        "processing_class": plan.setup.processor,
        "compute_metrics": plan.setup.family.score,
    }
    try:
        return plan.setup.family.make_trainer(
            options,
            tuple(plan.record["heads"]),
            arguments.method.head_learning_rate,
            plan.setup.max_length,
            arguments.data.packing,
        )
    except FourierFTError:
        raise
    except (ValueError, ImportError, RuntimeError, OSError) as error:  # also of trackers that are not installed, hubs
        raise ConfigError(" ".join(str(error).split())) from error


def _write_results(
    trainer: Trainer, plan: Plan, directory: Path, metrics: dict[str, Any], repository: str | None
) -> dict[str, Any]:
    trainable, record = plan.trainable, plan.record
    trainer.save_model(str(directory / output.STAGING))
    metrics = {
        **metrics,
        **trainable.sizes(),
        "rows": plan.rows,
        "method": {"name": trainable.method, "layers": trainable.layers, **trainable.settings},
        "main_metric": plan.setup.family.main_metric,
        "lower_is_better": lower_is_better(plan.setup.family.main_metric),
        "seed": record["seed"],
        "versions": record["versions"],
        "diverged": not all(_is_finite(value) for value in trainable.model.parameters() if value.requires_grad),
    }
    if trainer.is_world_process_zero():
        metrics["bytes"]["file"] = output.publish(directory, trainable.is_part)
        metrics = report.without_nan(metrics)
        output.write_json(directory / output.METRICS, metrics)
        output.write_json(directory / output.HISTORY, [report.without_nan(log) for log in trainer.state.log_history])
        metric, title = plan.setup.family.main_metric, f"{trainable.method} on {Path(record['base_model']).name}"
        report.draw_curve(trainer.state.log_history, metric, title, directory / "curve.png")
        _publish(plan, directory, metrics, repository)
    return metrics


def _publish(plan: Plan, directory: Path, metrics: dict[str, Any], repository: str | None) -> None:
    """Write the card, the last of the results, and send them all, if there is a repository to send to."""
    report.write_model_card(metrics, plan.record, directory, repository)
    if repository is not None:
        names = list_results(directory, plan.setup.processor)
        print(f"sent to {upload(directory, names, repository, plan.arguments.training)}", flush=True)


def _is_finite(parameter: Tensor) -> bool:
    """Whether numbers are finite; of a parameter that is sharded, those that are here."""
    return bool(torch.isfinite(getattr(parameter.detach(), "_local_tensor", parameter)).all())
