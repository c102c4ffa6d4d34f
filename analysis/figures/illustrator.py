"""Draws the trials of a running study when they have ended, and the study or search at its end."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress

from analysis.figures.beside import Drawing, draw, start
from analysis.figures.ending import Ending
from analysis.figures.left_out import Drawn, left_out
from analysis.figures.palette import entry_looks
from softprior.inputs.labels import labels
from softprior.inputs.specs import TrialSpec
from softprior.results.folder import StudyFolder
from softprior.results.records import Record
from softprior.training.events import Event, Observer

PATIENCE = 60.0
"""Seconds that a trial waits to be drawn, with those that end meanwhile: a process takes seconds to start."""

SLOWEST = 2.0
"""Seconds per trial after which a process that draws is taken to hang; it needs some tenths of a second."""

BUSY = 5
"""How many times as long a study waits for its last process, which has the driver's priority: it needs some
seconds, and minutes beside other programs, as the driver itself would."""


class Illustrator(Observer):
    """An observer of a study that has its trials drawn in a process beside it, some at a time.

    Drawing takes some tenths of a second, in which the driver could not listen to the trials. For the same
    reason a trial has no PDF, which would take more than twice as long. What is not drawn at the end is drawn
    then, by another process, which is made ready while the last trial runs.

    Args:
        patience: see `PATIENCE`.
        stopped: whether the study was asked to stop. What is not drawn then is left to the next run.
        left: number of trials that are going to end; None if it is not known, as in a search.
    """

    def __init__(
        self,
        folder: StudyFolder,
        trials: Sequence[TrialSpec],
        patience: float = PATIENCE,
        stopped: Callable[[], bool] = lambda: False,
        left: int | None = None,
    ) -> None:
        self._folder = folder
        self._patience = patience
        self._stopped = stopped
        self._left = left
        self._waiting: list[Drawing] = []
        self._since = 0.0
        """When the first of them began to wait."""
        self._process: subprocess.Popen[bytes] | None = None
        self._handed = 0
        """Number of trials that the process draws."""
        self._ending: Ending | None = None
        self._records: Mapping[str, Record] | None = None
        """At the end of a study."""
        self._drawn: Drawn | None = None
        self.added(trials)

    def added(self, trials: Sequence[TrialSpec]) -> None:
        """Registers all trials, with those that a search has added."""
        self._labels = labels(trials)
        looks = entry_looks(trial.prior for trial in trials if trial.prior is not None)
        self._looks = {t.id: looks[t.prior.canonical()] for t in trials if t.prior is not None}

    def progress(self, trial: TrialSpec, events: Sequence[Event]) -> None:  # noqa: ARG002
        self._hand_over()

    def ended(self, record: Record) -> None:
        self._folder.figure(record.id).unlink(missing_ok=True)  # of an earlier run: what lacks one is drawn
        if not self._waiting:
            self._since = time.monotonic()
        self._waiting.append(self._drawing(record))
        self._hand_over()
        if self._left is not None:
            self._left -= 1
            if self._left == 1 and self._ending is None:  # mostly a core is free from now on
                self._ending = Ending(self._folder)

    def close(self, records: Mapping[str, Record] | None, metrics: Mapping[str, float] | None = None) -> None:  # noqa: ARG002
        """Draws every trial without a figure, whoever should have drawn it, and the study or search.

        A study may still be drawn afterwards, by another process; see `figures`.

        Raises:
            Exception: the reason why the first trial that cannot be drawn is not, once all else is drawn.
        """
        stopped = self._stopped()
        if self._process is not None:
            try:
                with suppress(subprocess.TimeoutExpired):
                    self._process.wait(0 if stopped else self._limit(self._handed))
            finally:  # also of Ctrl-C
                self._process.terminate()
        if records is None or stopped:
            self.stop()
            return
        undrawn = [self._drawing(r) for r in records.values() if not self._folder.figure(r.id).exists()]
        if self._folder.summary.exists() or not self._folder.table.exists():
            self.stop()
        else:
            self._records = records
        if self._ending is not None:
            failed = self._ending.trials(undrawn, BUSY * self._limit(len(undrawn)))
            if failed is None:
                self.stop()
            else:
                undrawn = failed
        failures = draw(self._folder, undrawn)
        if self._folder.summary.exists():
            self._draw_search()
        elif self._ending is None or failures:
            self.figures()
        if failures:
            raise next(iter(failures.values()))

    def figures(self) -> Drawn | None:
        """The study's figures, when they are drawn; None if it has none of its own, as a search.

        Raises:
            Exception: the reason why they cannot be drawn.
        """
        if self._records is None:
            return None
        if self._ending is not None:
            self._drawn = self._ending.study(BUSY * self._limit(len(self._records)))
            self.stop()
            for sentence in () if self._drawn is None else self._drawn.left_out:
                left_out(sentence)
        if self._drawn is None:
            from analysis.figures.study import draw_study
            from analysis.findings.reading import read
            from softprior.library.results import Results

            self._drawn = draw_study(read(Results(self._folder.root, self._records)))
        return self._drawn

    def stop(self) -> None:
        """Ends the process that may still draw the study."""
        if self._ending is not None:
            self._ending.stop()
            self._ending = None

    def _draw_search(self) -> None:
        from analysis.figures.search import draw_search
        from softprior.studies.search.summary import load_summary

        draw_search(load_summary(self._folder), self._folder, self._folder.root.name)

    def _drawing(self, record: Record) -> Drawing:
        return Drawing(record, self._labels[record.id], self._looks.get(record.id))

    def _limit(self, trials: int) -> float:
        """Seconds after which a process that draws something for this number of trials is taken to hang."""
        return self._patience + SLOWEST * trials

    def _hand_over(self) -> None:
        """Starts a process for what waits, if it has waited long enough and the one before has ended."""
        if not self._waiting or time.monotonic() - self._since < self._patience:
            return
        if self._process is not None and self._process.poll() is None:
            return
        self._process = start(self._folder, self._waiting)
        self._handed, self._waiting = len(self._waiting), []
