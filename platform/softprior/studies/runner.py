"""Runs the trials of a plan that have no finished record yet, through Ray Tune."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from filelock import FileLock, Timeout

from softprior.errors import UserError
from softprior.records import Record, load_records
from softprior.results import StudyFolder
from softprior.specs import StudySpec, TrialSpec
from softprior.studies.cluster import Cluster
from softprior.studies.observers import Observer
from softprior.studies.plan import Plan
from softprior.studies.table import write_study, write_table
from softprior.studies.worker import run_trial

RETRIES = 2
"""How often a trial whose process died is started again; it goes on from its checkpoint."""


class InterruptedStudyError(Exception):
    """The study was stopped by Ctrl-C; running trials left checkpoints.

    Attributes:
        records: of the trials that had ended.
    """

    def __init__(self, records: dict[str, Record]) -> None:
        super().__init__("the study was stopped")
        self.records = records


def run_study(
    plan: Plan, folder: StudyFolder, observers: Sequence[Observer], cluster: Cluster | None = None
) -> dict[str, Record]:
    """Runs what is missing and returns the records of all trials of the plan, by id.

    Args:
        cluster: one whose start has begun already, to save time; whoever began it stops it.

    Raises:
        UserError: another process runs this study, or the folder is another study's.
        InterruptedStudyError: Ctrl-C, or another signal whose handler raises KeyboardInterrupt.
    """
    with _locked(folder):
        write_study(folder, plan)
        wanted = {trial.id: trial for trial in plan.trials}
        known = {i: r for i, r in load_records(folder.records).items() if i in wanted}
        missing = [trial for i, trial in wanted.items() if i not in known or known[i].status == "failed"]
        interrupted = False
        if missing:
            try:
                _run(plan.study, missing, folder, observers, cluster or Cluster(plan.study.resources))
            except KeyboardInterrupt:
                interrupted = True
        records = {i: r for i, r in load_records(folder.records).items() if i in wanted}
        write_table(folder, plan, records)
        if interrupted:
            raise InterruptedStudyError(records)
        return records


@contextmanager
def _locked(folder: StudyFolder) -> Iterator[None]:
    try:
        folder.root.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder.lock)
        lock.acquire(timeout=0)
    except Timeout:
        raise UserError(
            f"another process is running the study in {folder.root}; wait for it or stop it"
        ) from None
    except OSError as error:
        raise UserError(
            f"{folder.root} cannot be written ({error.strerror}); choose another folder with --results"
        ) from None
    try:
        yield
    finally:
        lock.release()


def _run(
    study: StudySpec,
    trials: list[TrialSpec],
    folder: StudyFolder,
    observers: Sequence[Observer],
    cluster: Cluster,
) -> None:
    os.environ["TUNE_DISABLE_SIGINT_HANDLER"] = "1"
    os.environ["TUNE_DISABLE_AUTO_CALLBACK_LOGGERS"] = "1"
    os.environ["RAY_AIR_NEW_OUTPUT"] = "0"  # the new one prints a banner even at verbosity 0
    os.environ["TUNE_MAX_PENDING_TRIALS_PG"] = "1"
    model = study.model
    if model.device == "auto" and not study.resources.gpus:
        model = model.model_copy(update={"device": "cpu"})  # a GPU nobody asked for may be somebody else's
    with cluster:
        for trial in trials:
            folder.record(trial.id).unlink(missing_ok=True)
        from ray import tune

        from softprior.studies.events import Events

        resources = {"cpu": study.resources.cpus, "gpu": study.resources.gpus}
        space = {
            "trial": tune.grid_search([trial.canonical() for trial in trials]),
            "model": model.canonical(),
            "folder": str(folder.root),
            "cpus": study.resources.cpus,
        }
        tuner = tune.Tuner(
            tune.with_resources(run_trial, resources),
            param_space=space,
            tune_config=tune.TuneConfig(
                max_concurrent_trials=study.resources.concurrent,
                reuse_actors=True,
                trial_name_creator=_trial_id,
                trial_dirname_creator=_trial_id,
            ),
            run_config=tune.RunConfig(
                name="trials",
                storage_path=str(folder.scratch),
                verbose=0,
                failure_config=tune.FailureConfig(max_failures=RETRIES),
                callbacks=[Events(folder, observers, RETRIES)],
            ),
        )
        tuner.fit()
    shutil.rmtree(folder.scratch, ignore_errors=True)


def _trial_id(trial: Any) -> str:
    return TrialSpec.model_validate_json(trial.config["trial"]).id
