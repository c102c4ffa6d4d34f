"""Studies from Python: read a file, plan it, run it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from softprior.inputs.specs import StudySpec
from softprior.library.results import Results, Tracked
from softprior.results.folder import StudyFolder
from softprior.results.storage import Location, results_folder
from softprior.studies.cluster import Cluster
from softprior.studies.observers import Listen, Work, no_observers
from softprior.studies.search.spec import SearchStudy, load
from softprior.tracking.client import tracking_uri

if TYPE_CHECKING:
    from softprior.studies.plan import Plan
    from softprior.studies.search.plan import SearchPlan
    from softprior.training.events import Observer


def load_study(path: str | Path, *overrides: str) -> StudySpec | SearchStudy:
    """Reads a study file.

    Args:
        overrides: values to change, such as `training.steps=50`.

    Raises:
        UserError: something is wrong with the file; the sentence names the key.
    """
    return load(Path(path), overrides)


def plan(study: StudySpec | SearchStudy, where: str = "study") -> Plan | SearchPlan:
    """The trials of a study, checked as far as they can be before anything runs.

    Args:
        where: what error messages call the study, such as its file.

    Raises:
        UserError: the study cannot run.
    """
    from softprior.studies.plan import plan_study
    from softprior.studies.search.plan import SearchPlan

    return SearchPlan(study, where) if isinstance(study, SearchStudy) else plan_study(study, where)


def look(planned: Plan | SearchPlan, results: str | Path = "results", *, again: bool = False) -> Work:
    """What `run` would find in the results folder: what is finished, and what would run. Writes nothing.

    Raises:
        UserError: the study could not run there, or a file of it is damaged.
    """
    from softprior.studies import runner
    from softprior.studies.search import run as search_runner
    from softprior.studies.search.plan import SearchPlan

    folder = StudyFolder(results_folder(str(results)) / planned.study.name)
    if isinstance(planned, SearchPlan):
        return search_runner.work_of(planned, folder, again)
    return runner.work_of(planned, folder, again)


def run(
    planned: Plan | SearchPlan,
    results: str | Path = "results",
    *,
    listen: Listen = no_observers,
    again: bool = False,
    cluster: Cluster | None = None,
) -> Results:
    """Runs the trials of a plan that have no finished record yet, and returns what the study has then.

    Figures are drawn by `analysis.illustrator`, which the command passes as an observer.

    Args:
        results: where study folders go: a folder, s3://BUCKET/FOLDER or gs://BUCKET/FOLDER.
        listen: makes observers; called after the folder is locked and the missing trials are known. MLflow is
            written beside them if the study asks for it.
        again: also reruns finished trials whose records were made by other code; a search starts over.
        cluster: one whose start has begun already; whoever began it stops it.

    Raises:
        UserError: the study cannot run here, or another process runs it.
        InterruptedStudyError: it was stopped, by Ctrl-C or another signal that raises KeyboardInterrupt.
    """
    from softprior.studies.runner import run_study
    from softprior.studies.search.plan import SearchPlan
    from softprior.tracking.mlflow_tracker import MlflowTracker

    at = results_folder(str(results))
    folder = StudyFolder(at / planned.study.name)
    uri = tracking_uri(planned.study.tracking, at)
    trackers: list[MlflowTracker] = []

    def everyone(work: Work) -> list[Observer]:
        if uri is not None:
            trackers.append(MlflowTracker(uri, planned.study, work.trials, folder))
        return [*listen(work), *trackers]

    own = cluster or Cluster(planned.study.resources, planned.study.placement)
    try:
        if isinstance(planned, SearchPlan):
            from softprior.studies.search.run import run_search

            records = run_search(planned, folder, everyone, own, again)[1]
        else:
            records = run_study(planned, folder, everyone, own, again)
    finally:
        if cluster is None:
            own.stop()
    tracked = [Tracked(tracker.uri, tracker.problem, tracker.notes, tracker.page) for tracker in trackers]
    return Results(folder.root, records, tracked[0] if tracked else None)


def use_code(path: str | Path) -> None:
    """Makes the components of a Python file known, here and on the workers of studies that run after it.

    What `--code` does on the command line: the file is run, and its hash counts in the ids of trials that
    use it.

    Raises:
        UserError: it is not a Python file, or fails when it is run.
    """
    from softprior.studies import own_code

    own_code.use_code(own_code.read_code(Path(path)))


def study_folder(study: StudySpec, results: str | Path = "results") -> Location:
    """Where the results of a study are, or will be."""
    return results_folder(str(results)) / study.name
