"""A grid, all of whose trials are planned before any runs: what it finds in its folder, and running it."""

from __future__ import annotations

from collections.abc import Mapping

from softprior.results.files import require_folder
from softprior.results.folder import StudyFolder
from softprior.results.lease import locked
from softprior.results.leftovers import remove_leftovers
from softprior.results.records import Record, load_records
from softprior.studies.again import of_other_code, set_aside, settle
from softprior.studies.cluster import Cluster
from softprior.studies.describe import describe
from softprior.studies.estimate import NOTHING
from softprior.studies.observers import Listen, Work, listening, no_observers
from softprior.studies.plan import Plan
from softprior.studies.runner import InterruptedStudyError, run_trials
from softprior.studies.table import require_own, write_study, write_table
from softprior.training.extension import extensions


class Grid(Plan):
    """A plan that can run; see `softprior.library.studies.Runnable`."""

    __slots__ = ()

    def described(
        self, work: Work | None = None, most: float | None = None, begun: Mapping[str, int] = NOTHING
    ) -> list[str]:
        """The trials that are to run, in words; nothing without any. See `describe`."""
        trials = self.trials if work is None else work.new
        return describe(self, trials, most, begun) if trials else []

    def look(self, folder: StudyFolder, again: bool) -> Work:
        """Which trials are finished, and which of those run again; writes nothing.

        Raises:
            UserError: the folder is another study's, or a file of it is damaged.
        """
        require_folder(folder.root)
        require_own(folder, self.study.name)
        specs = {trial.id: trial for trial in self.trials}
        finished = {
            i: record
            for i, record in load_records(folder.records).items()
            if i in specs and record.status == "finished"
        }
        superseded = tuple(record.id for record in of_other_code(finished.values())) if again else ()
        kept = {i: record for i, record in finished.items() if i not in superseded}
        extended = extensions(kept, specs)
        whole = {i: record for i, record in kept.items() if i not in extended}
        return Work(self.trials, whole, superseded, len(self.trials), extended)

    def run(
        self,
        folder: StudyFolder,
        listen: Listen = no_observers,
        cluster: Cluster | None = None,
        again: bool = False,
    ) -> dict[str, Record]:
        """Runs what is missing and returns the records of all trials, by id.

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
            write_study(folder, self.spec, self.trials)
            settle(folder)
            work = self.look(folder, again)
            with listening(listen, work, folder, lost) as listeners:
                interrupted = False
                folder.summary.unlink(missing_ok=True)  # of a search that this folder held before
                set_aside(folder, work.superseded)
                if work.missing:
                    try:
                        own = cluster or Cluster(self.study.resources, self.study.placement)
                        trials, heard = list(work.missing), listeners.observers
                        run_trials(self.study, trials, folder, heard, own)
                    except KeyboardInterrupt:
                        interrupted = True
                    finally:
                        settle(folder)
                records = listeners.records()
                write_table(folder, self.trials, self.components, records)
                if not interrupted:
                    remove_leftovers(folder, records)
            if interrupted:
                raise InterruptedStudyError(records)
            return records
