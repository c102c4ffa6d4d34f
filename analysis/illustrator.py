"""Draws the trials of a running study as they end."""

from __future__ import annotations

from typing import Any

from softprior.records import Record
from softprior.results import StudyFolder
from softprior.specs import TrialSpec


class Illustrator:
    """An observer of a study that draws every trial as it ends."""

    def __init__(self, folder: StudyFolder) -> None:
        self._folder = folder

    def progress(self, trial: TrialSpec, points: list[dict[str, Any]]) -> None:
        """Nothing to draw yet."""

    def ended(self, record: Record) -> None:
        _draw(record, self._folder)

    def complete(self, records: dict[str, Record]) -> None:
        """Draws what was not drawn when it ended, because the driver had died by then."""
        for record in records.values():
            if not self._folder.figure(record.id).exists():
                _draw(record, self._folder)


def _draw(record: Record, folder: StudyFolder) -> None:
    from analysis.figures import draw_trial  # matplotlib and scikit-learn: no trial should wait for them

    draw_trial(record, folder)
