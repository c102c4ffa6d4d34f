"""Runs the trials of a plan that have no finished record yet, through Ray Tune."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from softprior.inputs.specs import StudySpec, TrialSpec
from softprior.results.files import require_folder
from softprior.results.folder import StudyFolder
from softprior.results.lease import locked
from softprior.results.records import Record, load_records
from softprior.results.storage import RemotePath
from softprior.studies.again import of_other_code, set_aside, settle
from softprior.studies.cluster import Cluster
from softprior.studies.deaths import every_death_is_one
from softprior.studies.observers import Listen, Work, listening, no_observers
from softprior.studies.own_code import in_use
from softprior.studies.placement import concurrent, placed_model, replicas, trial_resources, trial_threads
from softprior.studies.plan import Plan
from softprior.studies.table import require_own, write_study, write_table
from softprior.studies.worker import run_trial
from softprior.training.also import current
from softprior.training.events import Observer
from softprior.training.extension import lacks

if TYPE_CHECKING:
    from ray.tune.experiment import Trial as TuneTrial
    from ray.tune.schedulers import TrialScheduler
    from ray.tune.search import Searcher

RETRIES = 2
"""How often a trial whose process died is started again; it continues from its checkpoint."""


class Search(NamedTuple):
    """How Tune obtains trials that are not known yet.

    Attributes:
        searcher, scheduler: Tune's, the scheduler None where every trial runs to its end.
        samples: largest number of trials.
        concurrent: largest number of trials at a time.
    """

    searcher: Searcher
    scheduler: TrialScheduler | None
    samples: int
    concurrent: int


class InterruptedStudyError(Exception):
    """The study was stopped by Ctrl-C; running trials left checkpoints.

    Attributes:
        records: of the trials that had ended.
    """

    def __init__(self, records: dict[str, Record]) -> None:
        super().__init__("the study was stopped")
        self.records = records


def run_study(
    plan: Plan,
    folder: StudyFolder,
    listen: Listen = no_observers,
    cluster: Cluster | None = None,
    again: bool = False,
) -> dict[str, Record]:
    """Runs what is missing and returns the records of all trials of the plan, by id.

    Args:
        listen: makes the observers, once the folder is locked.
        cluster: one whose start has begun already, to save time; whoever began it stops it.
        again: also reruns finished trials whose records were made by other code.

    Raises:
        UserError: another process runs this study, the folder is another study's, or a record cannot be
            written.
        InterruptedStudyError: Ctrl-C, or another signal whose handler raises KeyboardInterrupt.
    """
    with locked(folder.lock) as lost:
        write_study(folder, plan)
        settle(folder)
        work = work_of(plan, folder, again)
        with listening(listen, plan, work, folder, lost) as listeners:
            interrupted = False
            folder.summary.unlink(missing_ok=True)  # of a search that this folder held before
            set_aside(folder, work.superseded)
            if work.missing:
                try:
                    own = cluster or Cluster(plan.study.resources, plan.study.placement)
                    trials = list(work.missing)
                    run_trials(plan.study, trials, folder, listeners.observers, own, extended=work.extended)
                except KeyboardInterrupt:
                    interrupted = True
                finally:
                    settle(folder)
            records = listeners.records()
            write_table(folder, plan, records)
        if interrupted:
            raise InterruptedStudyError(records)
        return records


def work_of(plan: Plan, folder: StudyFolder, again: bool) -> Work:
    """Which trials are finished, and which of those run again; writes nothing.

    Raises:
        UserError: the folder is another study's, or a file of it is damaged.
    """
    require_folder(folder.root)
    require_own(folder, plan)
    wanted = {trial.id for trial in plan.trials}
    finished = {
        i: record
        for i, record in load_records(folder.records).items()
        if i in wanted and record.status == "finished"
    }
    superseded = tuple(record.id for record in of_other_code(finished.values())) if again else ()
    kept = {i: record for i, record in finished.items() if i not in superseded}
    specs, known = {trial.id: trial for trial in plan.trials}, current(plan.trials)
    extended = {
        i: record.model_copy(update={"spec": specs[i]})
        for i, record in kept.items()
        if lacks(specs[i], record, known)
    }
    whole = {i: record for i, record in kept.items() if i not in extended}
    return Work(plan.trials, whole, superseded, len(plan.trials), extended)


def run_trials(
    study: StudySpec,
    trials: list[TrialSpec],
    folder: StudyFolder,
    observers: Sequence[Observer],
    cluster: Cluster,
    search: Search | None = None,
    extended: Collection[str] = (),
) -> None:
    """Runs the given trials, or those that a search proposes, and leaves a record of each.

    Args:
        extended: those of the trials that have a record, to which scores on other tasks or probes are added.

    Raises:
        UserError: at the end, that some trial's record could not be written.
    """
    with _scratch(folder) as scratch, cluster, replicas(study, folder.stalls("replica")) as shared:
        for trial in trials:
            if trial.id not in extended:
                folder.record(trial.id).unlink(missing_ok=True)
        from ray import tune

        from softprior.studies.tune_events import Events

        trainable = run_trial if shared is None else tune.with_parameters(run_trial, shared=shared)
        space = {
            "model": placed_model(study).canonical(),
            "folder": str(folder.root),
            "cpus": trial_threads(study.resources, study.placement),
            "patience": study.resources.patience,
            "code": [list(code) for code in in_use()],
        }
        options: dict[str, Any] = {}
        most = concurrent(study.resources, study.placement)
        if search is None:
            space["trial"] = tune.grid_search([trial.canonical() for trial in trials])
        else:
            most = min(search.concurrent, most or search.concurrent)
            options = {"search_alg": search.searcher, "num_samples": search.samples}
            options |= {} if search.scheduler is None else {"scheduler": search.scheduler}
        events = Events(folder, observers, RETRIES, study.resources.patience)
        tuner = tune.Tuner(
            tune.with_resources(trainable, trial_resources(study.resources, study.placement)),
            param_space=space,
            tune_config=tune.TuneConfig(
                max_concurrent_trials=most,
                reuse_actors=True,
                trial_name_creator=_trial_id,
                trial_dirname_creator=_trial_id,
                **options,
            ),
            run_config=tune.RunConfig(
                name="trials",
                storage_path=str(scratch),
                verbose=0,
                failure_config=tune.FailureConfig(max_failures=RETRIES),
                callbacks=[events],
            ),
        )
        with every_death_is_one():
            tuner.fit()
        if events.unwritten is not None:
            raise events.unwritten


@contextmanager
def _scratch(folder: StudyFolder) -> Iterator[Path]:
    """A local folder for Tune's own files, which nobody reads again."""
    own = folder.scratch
    if isinstance(own, RemotePath):
        with tempfile.TemporaryDirectory(prefix="softprior-tune-", ignore_cleanup_errors=True) as temporary:
            yield Path(temporary)
        return
    yield own
    shutil.rmtree(own, ignore_errors=True)


def _trial_id(trial: TuneTrial) -> str:
    return TrialSpec.model_validate_json(trial.config["trial"]).id
