"""Runs a search through Ray Tune, continuing where it stopped."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from optuna import Study
from optuna.exceptions import StorageInternalError

from softprior.errors import UserError
from softprior.results.files import require_folder
from softprior.results.folder import StudyFolder
from softprior.results.lease import locked
from softprior.results.leftovers import remove_leftovers
from softprior.results.records import Record, load_records
from softprior.studies.again import STARTS_OVER, of_other_code, set_aside
from softprior.studies.cluster import Cluster
from softprior.studies.estimate import NOTHING
from softprior.studies.observers import Listen, Listeners, Work, listening
from softprior.studies.runner import InterruptedStudyError, Search, run_trials
from softprior.studies.search.copies import save_copy
from softprior.studies.search.describe import describe
from softprior.studies.search.plan import SearchPlan
from softprior.studies.search.storage import (
    begin_anew,
    begun,
    ids_of,
    open_search,
    read_search,
    require_storage,
)
from softprior.studies.search.summary import lowest, save_summary, summarise
from softprior.studies.table import require_own, write_study, write_table
from softprior.training.extension import extensions


class Searching(SearchPlan):
    """A search that can run; see `softprior.library.studies.Runnable`."""

    def described(  # as a grid's
        self,
        work: Work | None = None,  # noqa: ARG002
        most: float | None = None,  # noqa: ARG002
        begun: Mapping[str, int] = NOTHING,
    ) -> list[str]:
        """The whole search in words, as its trials are proposed on the way."""
        return describe(self, begun)

    def look(self, folder: StudyFolder, again: bool) -> Work:
        """Which trials have ended, or run again because the search starts over; writes nothing.

        Raises:
            UserError: the folder is another study's, a file of it is damaged, or the search cannot write down
                what it proposes or read what it starts from.
        """
        require_storage(self.search.storage, folder)
        if self.search.warm_start is not None:
            read_search(self.search.warm_start.study)
        return self._look(folder, again, begun(self, folder))

    def _look(self, folder: StudyFolder, again: bool, study: Study | None) -> Work:
        require_folder(folder.root)
        require_own(folder, self.study.name)
        kept = {i: r for i, r in load_records(folder.records).items() if not _runs_again(r)}
        superseded: tuple[str, ...] = ()
        if again and of_other_code(kept.values()):
            kept, superseded = {}, tuple(kept)
        finished = {i: record for i, record in kept.items() if record.status == "finished"}
        extended = extensions(finished, {i: self.measured(record.spec) for i, record in finished.items()})
        whole = {i: record for i, record in kept.items() if i not in extended}
        total = len(self.baselines) + self.search.trials * self.members
        proposed = (*(trial.id for trial in self.baselines), *([] if study is None else ids_of(study)))
        return Work(self.trials, whole, superseded, total, extended, STARTS_OVER, False, proposed)

    def run(
        self, folder: StudyFolder, listen: Listen, cluster: Cluster, again: bool = False
    ) -> dict[str, Record]:
        """Runs what is missing and returns the records of all trials, by id.

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
            study = open_search(self, folder)
            work = self._look(folder, again, study)
            if work.superseded:
                study = begin_anew(study, self, folder)
                set_aside(folder, work.superseded)
                work = replace(work, trials=self.trials)
            if not folder.table.exists():
                cluster.start()  # a first run surely needs Ray, which gets ready while we import
            if not folder.study.exists():  # otherwise it names earlier proposals, which are taken up below
                write_study(folder, self.spec, self.trials)
            interrupted = False
            with listening(listen, work, folder, lost) as listeners:
                try:
                    _propose(study, self, folder, listeners, cluster, work)
                except KeyboardInterrupt:
                    interrupted = True
                except StorageInternalError as error:
                    reason = str(error).splitlines()[0]
                    raise UserError(
                        f"the search's storage stopped answering ({reason}); run the same command again to "
                        "continue"
                    ) from None
                records = listeners.records()
                write_study(folder, self.spec, self.trials)
                write_table(folder, self.trials, self.components, records)
                if not interrupted:
                    summary = summarise(study, self.space.shown)
                    save_summary(folder, summary)
                    if not folder.dashboard.exists():
                        save_copy(study, folder)
                    listeners.metrics = lowest(summary)
                    remove_leftovers(folder, records)
            if interrupted:
                raise InterruptedStudyError(records)
            return records


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
        for ended in (folder.summary, folder.dashboard):
            ended.unlink(missing_ok=True)  # of fewer proposals, or of a search that starts over
        rungs = None if plan.search.early_stopping is None else Rungs(plan, folder, proposals)
        search = Search(proposals, rungs, work.total, plan.search.concurrent * plan.members)
        run_trials(plan.study, [], folder, [proposals, *listeners.observers], cluster, search)
    if proposals.error is not None:
        raise proposals.error
