"""Studies from Python: read a file, plan it, run it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from softprior.errors import UserError, a_kind
from softprior.inputs.paths import home_path
from softprior.inputs.specs import StudySpec, TrackingSpec, TrialSpec
from softprior.library.results import Results, Tracked
from softprior.results.files import require_folder
from softprior.results.folder import StudyFolder
from softprior.results.records import Record
from softprior.results.storage import results_folder
from softprior.studies.cluster import Cluster, require_machine
from softprior.studies.observers import Listen, Work, no_observers
from softprior.studies.search.spec import SearchStudy, load
from softprior.tracking.client import tracking_uri

if TYPE_CHECKING:
    from softprior.assets.models import KnownModel
    from softprior.studies.components import Components
    from softprior.training.events import Observer


class Runnable(Protocol):
    """A study that is planned and can run: a grid (`studies.grid.Grid`) or a search (`search.run.Searching`).

    Attributes:
        trials: all of a grid, or what a search has proposed so far.
        notes: settings that have no effect and unrequested additions, one sentence each.
        components: what its trials name.
        model: what is known of the model.
    """

    @property
    def study(self) -> StudySpec: ...
    @property
    def trials(self) -> tuple[TrialSpec, ...]: ...
    @property
    def notes(self) -> tuple[str, ...]: ...
    @property
    def components(self) -> Components: ...
    @property
    def model(self) -> KnownModel: ...

    def described(
        self, work: Work | None = None, most: float | None = None, begun: Mapping[str, int] = ...
    ) -> list[str]:
        """What is to run, in words, and what it costs; nothing if nothing is.

        Args:
            work: what a run finds; by default nothing has run yet.
            most: also lists the trials of a grid, one by one if there are no more than this.
            begun: steps that known trials go on from, by trial id.
        """

    def look(self, folder: StudyFolder, again: bool) -> Work:
        """What `run` would find: what is finished, and what would run; see `run`. Writes nothing.

        Raises:
            UserError: the study could not run there, or a file of it is damaged.
        """

    def run(self, folder: StudyFolder, listen: Listen, cluster: Cluster, again: bool) -> dict[str, Record]:
        """Runs what is missing and returns the records of all trials, by id; see the function `run`."""


@dataclass(frozen=True)
class Destination:
    """Where a study leaves what it finds.

    Attributes:
        folder: of the study.
        tracking: MLflow's address, a password in it included; None if nothing is sent there.
    """

    folder: StudyFolder
    tracking: str | None = field(repr=False)


def load_study(path: str | Path, *overrides: str) -> StudySpec | SearchStudy:
    """Reads a study file.

    Args:
        overrides: values to change, such as `training.steps=50`.

    Raises:
        UserError: something is wrong with the file; the sentence names the key.
    """
    if not isinstance(path, str | os.PathLike):
        raise UserError(f"load_study takes a path, not {a_kind(path)}; give that of a study file")
    if (wrong := next((one for one in overrides if not isinstance(one, str)), None)) is not None:
        raise UserError(
            f"an override is a text such as 'seeds=[0]', not {a_kind(wrong)}; give each by itself"
        )
    return load(Path(path), overrides)


def plan(study: StudySpec | SearchStudy, where: str | None = None) -> Runnable:
    """The trials of a study, checked as far as they can be before anything runs.

    Args:
        where: what error messages call the study, such as its file; by default its name.

    Raises:
        UserError: the study cannot run.
    """
    if not isinstance(study, StudySpec | SearchStudy):
        raise UserError(f"plan takes a study, not {a_kind(study)}; give what load_study returns")
    where = f"the study '{study.name}'" if where is None else where
    if isinstance(study, SearchStudy):
        from softprior.studies.search.run import Searching

        return Searching(study, where)
    from softprior.studies.grid import Grid
    from softprior.studies.plan import plan_study

    return Grid(*plan_study(study, where))


def destination(name: str, tracking: TrackingSpec, results: str | Path = "results") -> Destination:
    """Where the results of a study are, or will be.

    Args:
        name: of the study.
        results: where study folders go: a folder, s3://BUCKET/FOLDER or gs://BUCKET/FOLDER.

    Raises:
        UserError: results or MLflow cannot be where they should.
    """
    at = results_folder(str(results))
    require_folder(at / name)
    return Destination(StudyFolder(at / name), tracking_uri(tracking, at))


def run(
    planned: Runnable,
    results: str | Path = "results",
    *,
    listen: Listen = no_observers,
    again: bool = False,
    cluster: Cluster | None = None,
) -> Results:
    """Runs the trials of a plan that have no finished record yet, and returns what the study has then.

    Figures are drawn by `analysis.figures.illustrator`, which the command passes as an observer.

    Args:
        results: see `destination`.
        listen: makes observers; called after the folder is locked and the missing trials are known. MLflow is
            written beside them if the study asks for it.
        again: also reruns finished trials whose records were made by other code; a search starts over.
        cluster: one whose start has begun already; whoever began it stops it.

    Raises:
        UserError: the study cannot run here, or another process runs it.
        InterruptedStudyError: it was stopped, by Ctrl-C or another signal that raises KeyboardInterrupt.
    """
    from softprior.tracking.mlflow_tracker import MlflowTracker

    if not hasattr(planned, "described"):
        raise UserError(f"run takes a plan, not {a_kind(planned)}; give what plan returns")
    study = planned.study
    to = destination(study.name, study.tracking, results)
    trackers: list[MlflowTracker] = []

    def everyone(work: Work) -> list[Observer]:
        if to.tracking is not None:
            trackers.append(MlflowTracker(to.tracking, study, work.trials, to.folder))
        return [*listen(work), *trackers]

    if cluster is None and not to.folder.study.exists():
        require_machine(study.model, study.resources, study.placement)
    own = cluster or Cluster(study.resources, study.placement)
    try:
        records = planned.run(to.folder, everyone, own, again)
    finally:
        if cluster is None:
            own.stop()
    tracked = [Tracked(tracker.uri, tracker.problem, tracker.notes, tracker.page) for tracker in trackers]
    return Results(to.folder.root, records, tracked[0] if tracked else None)


def use_code(path: str | Path) -> None:
    """Makes the components of a Python file known, here and on the workers of studies that run after it.

    What `--code` does on the command line: the file is run, and its hash counts in the ids of trials that
    use it.

    Raises:
        UserError: it is not a Python file, or fails when it is run.
    """
    from softprior.training import own_code

    own_code.use_code(own_code.read_code(home_path(path)))
