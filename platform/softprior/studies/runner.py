"""Runs trials through Ray Tune."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from softprior.errors import UserError
from softprior.inputs.specs import ModelSpec, PlacementSpec, ResourcesSpec, StudySpec, TrialSpec
from softprior.results.folder import StudyFolder
from softprior.results.records import Record, load_record
from softprior.results.storage import RemotePath
from softprior.studies.cluster import PENDING, Cluster, elsewhere, lacks_gpu
from softprior.studies.deaths import every_death_is_one
from softprior.studies.order import starts_first
from softprior.studies.placement import concurrent, placed_model, room, trial_resources, trial_threads
from softprior.studies.replicas import replicas
from softprior.studies.worker import run_trial
from softprior.training.events import Observer
from softprior.training.own_code import in_use

if TYPE_CHECKING:
    from ray.tune.experiment import Trial as TuneTrial
    from ray.tune.schedulers import TrialScheduler
    from ray.tune.search import Searcher

    from softprior.studies.turns import Turns

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


def run_trials(
    study: StudySpec,
    trials: list[TrialSpec],
    folder: StudyFolder,
    observers: Sequence[Observer],
    cluster: Cluster,
    search: Search | None = None,
) -> None:
    """Runs the given trials, or those that a search proposes, and leaves a record of each.

    Trials with a finished record get what it lacks: scores on other tasks, and probes.

    Raises:
        UserError: this machine has no GPU for the model; at the end, that some record could not be written.
    """
    if (reason := lacks_gpu(study.model)) is not None:
        raise UserError(reason)
    resources, placement = study.resources, study.placement
    model = placed_model(study.model, resources, placement)
    held = replicas(model, placement, resources.patience, folder.stalls("replica"))
    with _scratch(folder) as scratch, cluster, held as shared:
        forget_failures(trials, folder)
        from ray import tune

        from softprior.studies.ray_private import callbacks_uncounted, trials_without_environment
        from softprior.studies.tune_events import Events

        trainable = run_trial if shared is None else tune.with_parameters(run_trial, shared=shared)
        space = _space(model, folder, resources, placement)
        at_a_time = concurrent(resources, placement)
        turns: Turns | None = None
        if search is None:
            places = min(room(cluster.nodes, resources, placement), at_a_time or sys.maxsize)
            ordered = starts_first(trials, beside=places > 1)
            space["trial"] = tune.grid_search([trial.canonical() for trial in ordered])
            if shared is None and not elsewhere():
                turns = _turns(places)
        events = Events(folder, observers, RETRIES, resources.patience)
        tuner = tune.Tuner(
            tune.with_resources(trainable, trial_resources(resources, placement)),
            param_space=space,
            tune_config=tune.TuneConfig(
                reuse_actors=True,
                trial_name_creator=_trial_id,
                trial_dirname_creator=_trial_id,
                **_order(search, at_a_time, turns),
            ),
            run_config=tune.RunConfig(
                name="trials",
                storage_path=str(scratch),
                verbose=0,
                failure_config=tune.FailureConfig(max_failures=RETRIES),
                callbacks=[events],
            ),
        )
        own = nullcontext() if elsewhere() else trials_without_environment()
        with every_death_is_one(), callbacks_uncounted(), own:
            tuner.fit()
        if events.unwritten is not None:
            raise events.unwritten


def _space(
    model: ModelSpec, folder: StudyFolder, resources: ResourcesSpec, placement: PlacementSpec
) -> dict[str, Any]:
    """What every worker is told, as Tune hands it on; the trial itself is added to it."""
    return {
        "model": model.canonical(),
        "folder": str(folder.root),
        "cpus": trial_threads(resources, placement),
        "patience": resources.patience,
        "code": [[code.name, code.text] for code in in_use()],
    }


def _turns(places: int) -> Turns:
    """A scheduler for trials on this machine; Tune is told to know of as many waiting ones as can run."""
    from softprior.studies.turns import Turns

    os.environ[PENDING] = str(places)
    return Turns(places)


def forget_failures(trials: Iterable[TrialSpec], folder: StudyFolder) -> None:
    """Removes records of trials that failed, since a trial that finds its record takes itself for ended.

    One may have finished since the study was planned, in a process of a driver that was killed.
    """
    for trial in trials:
        path = folder.record(trial.id)
        if path.exists() and load_record(path).status != "finished":
            path.unlink(missing_ok=True)


def _order(search: Search | None, most: int | None, turns: Turns | None) -> dict[str, Any]:
    """Which trials Tune runs next, and the number at a time.

    Args:
        most: what the resources allow; None leaves it to Ray.
        turns: of the trials of a grid on this machine.
    """
    if search is None:
        return {"max_concurrent_trials": most, "scheduler": turns}
    options: dict[str, Any] = {"search_alg": search.searcher, "num_samples": search.samples}
    options |= {} if search.scheduler is None else {"scheduler": search.scheduler}
    return {**options, "max_concurrent_trials": min(search.concurrent, most or search.concurrent)}


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
