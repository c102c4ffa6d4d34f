"""Runs a search through Ray Tune, continuing where it stopped."""

from __future__ import annotations

from dataclasses import replace

from optuna import Study
from optuna.exceptions import StorageInternalError

from softprior.errors import UserError
from softprior.results.files import require_folder
from softprior.results.folder import StudyFolder
from softprior.results.lease import locked
from softprior.results.records import Record, load_records
from softprior.studies.again import of_other_code, set_aside
from softprior.studies.cluster import Cluster
from softprior.studies.observers import Listen, Listeners, Work, listening
from softprior.studies.runner import InterruptedStudyError, Search, run_trials
from softprior.studies.search.copies import save_copy
from softprior.studies.search.plan import SearchPlan
from softprior.studies.search.storage import begin_anew, open_search
from softprior.studies.search.summary import lowest, save_summary, summarise
from softprior.studies.table import require_own, write_study, write_table
from softprior.training.also import current
from softprior.training.extension import lacks


def run_search(
    plan: SearchPlan,
    folder: StudyFolder,
    listen: Listen,
    cluster: Cluster,
    again: bool = False,
) -> tuple[Study, dict[str, Record]]:
    """Runs what is missing; returns the Optuna study and the records of all trials, by id.

    Args:
        listen: makes the observers, once the folder is locked.
        again: starts the search over if other code contributed to it, since its proposals depend on the
            results reported to it. Its records go to the folder `earlier`, and its storage keeps it under
            another name.

    Raises:
        UserError: another process runs this search, or it cannot continue in this folder or storage.
        InterruptedStudyError: Ctrl-C, or another signal whose handler raises KeyboardInterrupt.
    """
    with locked(folder.lock) as lost:
        study = open_search(plan, folder)
        work = work_of(plan, folder, again)
        if work.superseded:
            study = begin_anew(study, plan, folder)
            set_aside(folder, work.superseded)
            work = replace(work, trials=plan.trials)
        if not folder.table.exists():
            cluster.start()  # a first run surely needs Ray, which gets ready while we import
        write_study(folder, plan)
        interrupted = False
        with listening(listen, plan, work, folder, lost) as listeners:
            try:
                _propose(study, plan, folder, listeners, cluster, work)
            except KeyboardInterrupt:
                interrupted = True
            except StorageInternalError as error:
                raise UserError(
                    f"the search's storage stopped answering ({str(error).splitlines()[0]}); run the same "
                    "command again to continue"
                ) from None
            records = listeners.records()
            write_study(folder, plan)
            write_table(folder, plan, records)
            if not interrupted:
                summary = summarise(study, plan.space.shown)
                save_summary(folder, summary)
                if not folder.dashboard.exists():
                    save_copy(study, folder)
                listeners.metrics = lowest(summary)
        if interrupted:
            raise InterruptedStudyError(records)
        return study, records


def work_of(plan: SearchPlan, folder: StudyFolder, again: bool) -> Work:
    """Which trials have ended, or run again because the search starts over; writes nothing.

    Raises:
        UserError: the folder is another study's, or a file of it is damaged.
    """
    require_folder(folder.root)
    require_own(folder, plan)
    kept = {i: r for i, r in load_records(folder.records).items() if not _runs_again(r)}
    superseded: tuple[str, ...] = ()
    if again and of_other_code(kept.values()):
        kept, superseded = {}, tuple(kept)
    now = {i: plan.measured(record.spec) for i, record in kept.items() if record.status == "finished"}
    known = current(now.values())
    extended = {
        i: kept[i].model_copy(update={"spec": spec}) for i, spec in now.items() if lacks(spec, kept[i], known)
    }
    whole = {i: record for i, record in kept.items() if i not in extended}
    total = len(plan.baselines) + plan.search.trials * plan.members
    return Work(plan.trials, whole, superseded, total, extended)


def _runs_again(record: Record) -> bool:
    """Whether it is a failed baseline; a search does not rerun what it has proposed."""
    return record.status == "failed" and record.spec.training is None


def _propose(
    study: Study, plan: SearchPlan, folder: StudyFolder, listeners: Listeners, cluster: Cluster, work: Work
) -> None:
    """Runs what the search proposes until it has proposed everything.

    Raises:
        Exception: the error because of which a trial's end could not be reported to the search.
    """
    from softprior.studies.search.proposals import Proposals
    from softprior.studies.search.rungs import Rungs

    proposals = Proposals(study, plan, folder, listeners.added, work.extended)
    if not proposals.finished:
        for ended in (
            folder.summary,
            folder.dashboard,
        ):  # of fewer proposals, or of a search that starts over
            ended.unlink(missing_ok=True)
        rungs = None if plan.search.early_stopping is None else Rungs(plan, folder, proposals)
        search = Search(proposals, rungs, work.total, plan.search.concurrent * plan.members)
        run_trials(plan.study, [], folder, [proposals, *listeners.observers], cluster, search)
    if proposals.error is not None:
        raise proposals.error
