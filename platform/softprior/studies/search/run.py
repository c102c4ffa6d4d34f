"""Runs a search through Ray Tune, from where it stopped."""

from __future__ import annotations

from collections.abc import Sequence

from optuna import Study
from optuna.exceptions import StorageInternalError

from softprior.errors import UserError
from softprior.lease import locked
from softprior.records import Record, load_records
from softprior.results import StudyFolder
from softprior.specs import TrialSpec
from softprior.studies.again import of_other_code, set_aside
from softprior.studies.cluster import Cluster
from softprior.studies.observers import SearchObserver
from softprior.studies.runner import InterruptedStudyError, Search, run_trials
from softprior.studies.search.plan import SearchPlan
from softprior.studies.search.storage import begin_anew, open_search
from softprior.studies.table import write_study, write_table


def run_search(
    plan: SearchPlan,
    folder: StudyFolder,
    observers: Sequence[SearchObserver],
    cluster: Cluster,
    again: bool = False,
) -> tuple[Study, dict[str, Record]]:
    """Runs what is missing; returns the Optuna study and the records of all trials, by id.

    Args:
        again: starts the search over if other code contributed to it: what it proposed follows from what it
            was told. Its records go to the folder `earlier`, and its storage keeps it under another name.

    Raises:
        UserError: another process runs this search, or it cannot go on in this folder or storage.
        InterruptedStudyError: Ctrl-C, or another signal whose handler raises KeyboardInterrupt.
    """

    def added(trials: Sequence[TrialSpec]) -> None:
        for observer in observers:
            observer.added(trials)

    with locked(folder.lock):
        study = open_search(plan, folder)
        earlier = load_records(folder.records) if again else {}
        if of_other_code(earlier.values()):
            study = begin_anew(study, plan, folder)
            set_aside(folder, earlier)
        if not folder.table.exists():
            cluster.start()  # a first run surely needs Ray, which gets ready while we import
        write_study(folder, plan)
        from softprior.studies.search.proposals import Proposals
        from softprior.studies.search.rungs import Rungs

        interrupted = False
        try:
            proposals = Proposals(study, plan, folder, added)
            if not proposals.finished:
                rungs = None if plan.search.early_stopping is None else Rungs(plan, folder, proposals)
                samples = len(plan.baselines) + plan.search.trials * plan.members
                search = Search(proposals, rungs, samples, plan.search.concurrent * plan.members)
                run_trials(plan.study, [], folder, [proposals, *observers], cluster, search)
            if proposals.error is not None:
                raise proposals.error
        except KeyboardInterrupt:
            interrupted = True
        except StorageInternalError as error:
            raise UserError(
                f"the search's storage stopped answering ({str(error).splitlines()[0]}); the same command "
                "again goes on"
            ) from None
        wanted = {trial.id for trial in plan.trials}
        records = {i: r for i, r in load_records(folder.records).items() if i in wanted}
        write_study(folder, plan)
        write_table(folder, plan, records)
        if interrupted:
            raise InterruptedStudyError(records)
        return study, records
