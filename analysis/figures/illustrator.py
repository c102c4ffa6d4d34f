"""Draws the trials of a running study as they end, and the study or search at its end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from analysis.figures.palette import entry_looks
from softprior.inputs.labels import labels
from softprior.inputs.specs import TrialSpec
from softprior.results.folder import StudyFolder
from softprior.results.records import Record
from softprior.training.events import Observer


class Illustrator(Observer):
    """An observer of a study that draws every trial as it ends.

    It does so while trials report to the driver, so a trial has no PDF, which would take half of the time.
    """

    def __init__(self, folder: StudyFolder, trials: Sequence[TrialSpec]) -> None:
        self._folder = folder
        self.added(trials)

    def added(self, trials: Sequence[TrialSpec]) -> None:
        """Registers all trials, with those that a search has added."""
        self._labels = labels(trials)
        looks = entry_looks(trial.prior for trial in trials if trial.prior is not None)
        self._looks = {t.id: looks[t.prior.canonical()] for t in trials if t.prior is not None}

    def ended(self, record: Record) -> None:
        from analysis.figures.trial import (
            draw_trial,  # matplotlib and scikit-learn: no trial should wait for them
        )

        look = self._looks.get(record.id)
        draw_trial(record, self._folder, self._labels[record.id], look, pdf=False)

    def close(self, records: Mapping[str, Record] | None, metrics: Mapping[str, float] | None = None) -> None:  # noqa: ARG002
        """Draws the study or search that has ended, and trials whose end the driver did not live to see."""
        if records is None:
            return
        for record in records.values():
            if not self._folder.figure(record.id).exists():
                self.ended(record)
        if self._folder.summary.exists():
            from analysis.figures.search import draw_search
            from softprior.studies.search.summary import load_summary

            draw_search(load_summary(self._folder), self._folder, self._folder.root.name)
        elif self._folder.table.exists():
            from analysis.figures.study import draw_study
            from analysis.findings.reading import read
            from softprior.library.results import Results

            draw_study(read(Results(self._folder.root, records)))
