"""Trials that do nothing in Ray Tune with its MLflow callback; `benchmarks.overhead` runs it.

It is the least that scheduling and tracking take: each trial reports one number from a process that is
kept, and Tune's callback logs it to a database. As in a study, Tune writes no CSV, JSON or TensorBoard files.
There is no plan, record, figure, table or report.
"""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path

import ray
from ray import tune
from ray.air.integrations.mlflow import MLflowLoggerCallback


def trial(config: dict[str, int]) -> None:
    """Reports a number and ends."""
    tune.report({"test_loss": 1 / (1 + config["seed"])})


def run(trials: int, folder: Path) -> None:
    """Runs them on two CPUs."""
    os.environ["TUNE_DISABLE_AUTO_CALLBACK_LOGGERS"] = "1"
    ray.init(
        address="local", num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR
    )
    tracked = MLflowLoggerCallback(tracking_uri=f"sqlite:///{folder / 'mlflow.db'}", experiment_name="growth")
    tuner = tune.Tuner(
        tune.with_resources(trial, {"cpu": 1}),
        param_space={"seed": tune.grid_search(list(range(trials)))},
        tune_config=tune.TuneConfig(reuse_actors=True),
        run_config=tune.RunConfig(storage_path=str(folder), verbose=0, callbacks=[tracked]),
    )
    ended = tuner.fit()
    if ended.errors or len(ended) != trials:
        sys.exit(f"{len(ended.errors)} of {trials} trials failed")


if __name__ == "__main__":
    run(int(sys.argv[1]), Path(sys.argv[2]))
