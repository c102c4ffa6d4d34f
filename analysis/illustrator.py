"""Draws the trials of a running study as they end."""

from __future__ import annotations

from collections.abc import Sequence

from softprior.events import Event
from softprior.labels import labels
from softprior.records import Record
from softprior.results import StudyFolder
from softprior.specs import TrialSpec


class Illustrator:
    """An observer of a study that draws every trial as it ends."""

    def __init__(self, folder: StudyFolder, trials: Sequence[TrialSpec]) -> None:
        self._folder = folder
        self._labels = labels(trials)

    def added(self, trials: Sequence[TrialSpec]) -> None:
        """Takes in the trials that a search has added."""
        self._labels = labels(trials)

    def progress(self, trial: TrialSpec, events: Sequence[Event]) -> None:
        """Nothing to draw yet."""

    def ended(self, record: Record) -> None:
        from analysis.figures import draw_trial  # matplotlib and scikit-learn: no trial should wait for them

        draw_trial(record, self._folder, self._labels[record.id])

    def complete(self, records: dict[str, Record]) -> None:
        """Draws what was not drawn when it ended, because the driver had died by then."""
        for record in records.values():
            if not self._folder.figure(record.id).exists():
                self.ended(record)
