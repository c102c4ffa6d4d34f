"""A trial as a result of PEFT's method comparison (`method_comparison/` of its repository), for its table.

The schema is that of its results in August 2026. Their meaning is kept: "test accuracy" is of generated
answers, "train loss" the mean over the last stretch of steps. What a trial does not measure is null.
"""

from __future__ import annotations

import math
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from softprior.errors import UserError
from softprior.exchange.adapters import weights_of
from softprior.exchange.convert import adapter_of
from softprior.inputs.specs import Rate, TrainingSpec
from softprior.library.results import Results
from softprior.results.records import Cost, Record, Score
from softprior.tasks import TASKS
from softprior.training.cost import START, WAITING

ACCURACY = "exact_match"
"""The metric that PEFT's comparison calls accuracy: of generated answers, all of an answer."""

_PACKAGES = ("transformers", "peft", "datasets", "bitsandbytes", "torch")

_NOTE = (
    "accelerator memory is the peak of allocated tensors in all three fields, and 0 without a GPU; PEFT's is "
    "reserved memory, so do not compare them; total_time leaves out the losses of the untrained sample, and "
    "waiting for them, but includes them in records made before they were timed separately"
)


class _Trial(NamedTuple):
    """A trial that has everything that a result needs.

    Attributes:
        stretch: steps between two points of the validation curve.
    """

    record: Record
    test: Score
    cost: Cost
    training: TrainingSpec
    rate: Rate
    stretch: int


def comparison_row(results: Results, record: Record, base: str | None = None) -> dict[str, Any]:
    """The JSON of one result.

    Args:
        base: the base model's name on the hub, in place of its folder here.

    Raises:
        UserError: PEFT has no such prompt, or the trial has no accuracy of generated answers or no cost.
    """
    trial = _complete(record)
    made = adapter_of(results.folder.posterior(record.id), base=base)
    memory, cost, test = trial.cost.gpu_memory or 0, trial.cost, trial.test
    return {
        "run_info": {
            "created_at": _written(results, record),
            "total_time": _seconds(cost),
            "experiment_name": f"softprior/{results.folder.root.name}-{record.id[:8]}",
            "peft_branch": None,
            "peft_worktree_is_dirty": None,
            "train_config": _settings(trial, made.base),
            "peft_config": {**made.config, "inference_mode": False},
            "error_msg": "",
        },
        "train_info": {
            "accelerator_memory_reserved_avg": memory,
            "accelerator_memory_max": memory,
            "accelerator_memory_reserved_99th": memory,
            "train_time": cost.seconds.get("training"),
            "file_size": len(weights_of(made.embeddings)),
            "num_trainable_params": cost.values,
            "num_total_params": results.posteriors[record.id].header["model"]["parameters"] + cost.values,
            "status": "success",
            "metrics": _metrics(trial),
        },
        "meta_info": {
            "model_info": {"sha": made.revision, "created_at": None},
            "dataset_info": {
                TASKS.named(record.spec.task): {"sha": record.spec.data_fingerprint, "created_at": None}
            },
            "package_info": _packages(record),
            "system_info": {"machine": None, "accelerator": None},
            "pytorch_info": None,
        },
        "softprior": {
            "trial": record.id,
            "spec": record.spec.without_paths(),
            "commit": record.environment.get("commit"),
            "test_examples": test.examples,
            "generated": test.generated,
            "note": _NOTE,
        },
    }


def _complete(record: Record) -> _Trial:
    """The trial with what a result needs.

    Raises:
        UserError: it lacks an accuracy of generated answers, a cost or an absolute rate.
    """
    spec, test, cost = record.spec, record.test, record.cost
    if test is None or ACCURACY not in test.metrics or not test.generated:
        raise UserError(
            f"the trial {record.id} has no {ACCURACY} of generated answers, which PEFT's comparison calls "
            "accuracy; choose a task with answers, and evaluation.generate above 0"
        )
    if cost is None:
        raise UserError(f"the trial {record.id} predates the measurement of costs; run it again")
    if spec.training is None or spec.rate is None:
        raise UserError(f"the trial {record.id} trains no prompt; choose a trial of another method")
    if spec.rate.relative:
        raise UserError(
            f"the trial {record.id} has a rate relative to its sample, for which PEFT's comparison has no "
            "field; choose one with an absolute rate"
        )
    stretch = max(1, spec.training.steps // spec.training.curve)
    return _Trial(record, test, cost, spec.training, spec.rate, stretch)


def _settings(trial: _Trial, base: str) -> dict[str, Any]:
    """What the trial was trained with, as PEFT's comparison names it.

    Args:
        base: the base model's name.
    """
    spec, training = trial.record.spec, trial.training
    return {
        "model_id": base,
        "dtype": spec.dtype,
        "max_seq_length": None,
        "batch_size": training.batch,
        "batch_size_eval": spec.evaluation.batch,
        "max_steps": training.steps,
        "eval_steps": trial.stretch,
        "compile": False,
        "use_gc": False,
        "query_template": None,
        "seed": spec.seed,
        "grad_norm_clip": training.clip or 0,
        "optimizer_type": "AdamW",
        "optimizer_kwargs": {
            "lr": trial.rate.value,
            "betas": list(training.betas),
            "eps": training.epsilon,
            "weight_decay": training.weight_decay,
        },
        "lr_scheduler": None if training.schedule == "constant" else training.schedule,
        "use_amp": False,
        "autocast_adapter_dtype": True,
        "generation_kwargs": {},
        "attn_implementation": None,
        "init_kv_cache_prefix": None,
    }


def _metrics(trial: _Trial) -> list[dict[str, Any]]:
    """The points of the validation curve, and the end with the test split."""
    losses = [step.loss for step in trial.record.steps]
    per_step = trial.training.batch * trial.training.accumulate

    def trained(step: int) -> dict[str, Any]:
        own = losses[max(0, step - trial.stretch) : step]
        return {
            "step": step,
            "train loss": math.fsum(own) / len(own) if own else None,
            "train samples": step * per_step,
        }

    validation = trial.record.validation
    curve = [{**trained(score.step), "valid loss": score.loss} for score in validation if score.step]
    end = {
        **trained(len(losses)),
        "test accuracy": trial.test.metrics[ACCURACY],
        "test loss": trial.test.loss,
        "train total tokens": trial.cost.positions,
        "forgetting": None,
    }
    return [*curve, end]


def _seconds(cost: Cost) -> float:
    """Seconds of all phases but losses of the untrained sample, which PEFT has none of, and waiting for them.

    Records from before the phase `start` have the seconds of these losses in other phases, where they stay.
    """
    return math.fsum(own for phase, own in cost.seconds.items() if phase not in (START, WAITING))


def _packages(record: Record) -> dict[str, Any]:
    """The versions of packages that the trial ran with."""
    versions = record.environment.get("versions", {})
    found: dict[str, Any] = {}
    for package in _PACKAGES:
        found |= {f"{package}-version": versions.get(package), f"{package}-commit-hash": None}
    return found


def _written(results: Results, record: Record) -> str | None:
    path = results.folder.record(record.id)
    if not isinstance(path, Path):
        return None
    return datetime.fromtimestamp(path.stat().st_mtime, UTC).isoformat(timespec="seconds")
