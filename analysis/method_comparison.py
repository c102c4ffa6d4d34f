"""A trial as a result of PEFT's method comparison (`method_comparison/` of its repository), for its table.

The schema is that of its results in August 2026. Their meaning is kept: "test accuracy" is of generated
answers, "train loss" the mean over the last stretch of steps. What a trial does not measure is null.
"""

from __future__ import annotations

import math
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from softprior.errors import UserError
from softprior.exchange.adapters import weights_of
from softprior.exchange.convert import adapter_of
from softprior.library.results import Results
from softprior.results.records import Record

ACCURACY = "exact_match"
"""The metric that PEFT's comparison calls accuracy: of generated answers, all of an answer."""

_PACKAGES = ("transformers", "peft", "datasets", "bitsandbytes", "torch")

_MEMORY = (
    "accelerator memory is the peak of allocated tensors in all three fields, and 0 without a GPU; PEFT's is "
    "reserved memory, so do not compare them"
)


def comparison_row(results: Results, record: Record, base: str | None = None) -> dict[str, Any]:
    """The JSON of one result.

    Args:
        base: the base model's name on the hub, in place of its folder here.

    Raises:
        UserError: PEFT has no such prompt, or the trial has no accuracy of generated answers or no cost.
    """
    spec, test, cost = record.spec, record.test, record.cost
    if test is None or ACCURACY not in test.metrics or not test.generated:
        raise UserError(
            f"the trial {record.id} has no {ACCURACY} of generated answers, which PEFT's comparison calls "
            "accuracy; choose a task with answers, and evaluation.generate above 0"
        )
    if cost is None:
        raise UserError(f"the trial {record.id} is from before costs were measured; run it again")
    made = adapter_of(results.folder.posterior(record.id), base=base)
    training, rate = spec.training, spec.rate
    assert training is not None
    assert rate is not None
    if rate.relative:
        raise UserError(
            f"the trial {record.id} has a rate relative to its sample, which PEFT's comparison has no field "
            "for; choose one with an absolute rate"
        )
    losses = [step.loss for step in record.steps]
    stretch = max(1, training.steps // training.curve)
    per_step = training.batch * training.accumulate

    def trained(step: int) -> dict[str, Any]:
        own = losses[max(0, step - stretch) : step]
        return {
            "step": step,
            "train loss": math.fsum(own) / len(own) if own else None,
            "train samples": step * per_step,
        }

    curve = [{**trained(score.step), "valid loss": score.loss} for score in record.validation if score.step]
    end = {
        **trained(len(losses)),
        "test accuracy": test.metrics[ACCURACY],
        "test loss": test.loss,
        "train total tokens": cost.positions,
        "forgetting": None,
    }
    memory = cost.gpu_memory or 0
    versions = record.environment.get("versions", {})
    return {
        "run_info": {
            "created_at": _written(results, record),
            "total_time": record.environment.get("seconds"),
            "experiment_name": f"softprior/{results.folder.root.name}-{record.id[:8]}",
            "peft_branch": None,
            "peft_worktree_is_dirty": None,
            "train_config": {
                "model_id": made.base,
                "dtype": spec.dtype,
                "max_seq_length": None,
                "batch_size": training.batch,
                "batch_size_eval": spec.evaluation.batch,
                "max_steps": training.steps,
                "eval_steps": stretch,
                "compile": False,
                "use_gc": False,
                "query_template": None,
                "seed": spec.seed,
                "grad_norm_clip": training.clip or 0,
                "optimizer_type": "AdamW",
                "optimizer_kwargs": {
                    "lr": rate.value,
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
            },
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
            "metrics": [*curve, end],
        },
        "meta_info": {
            "model_info": {"sha": made.revision, "created_at": None},
            "dataset_info": {spec.task.name: {"sha": spec.data_fingerprint, "created_at": None}},
            "package_info": {
                key: value
                for package in _PACKAGES
                for key, value in (
                    (f"{package}-version", versions.get(package)),
                    (f"{package}-commit-hash", None),
                )
            },
            "system_info": {"machine": None, "accelerator": None},
            "pytorch_info": None,
        },
        "softprior": {
            "trial": record.id,
            "spec": spec.without_paths(),
            "commit": record.environment.get("commit"),
            "test_examples": test.examples,
            "generated": test.generated,
            "note": _MEMORY,
        },
    }


def _written(results: Results, record: Record) -> str | None:
    path = results.folder.record(record.id)
    if not isinstance(path, Path):
        return None
    return datetime.fromtimestamp(path.stat().st_mtime, UTC).isoformat(timespec="seconds")
