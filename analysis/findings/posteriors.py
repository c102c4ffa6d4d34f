"""Posteriors of a study's trials, read when needed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from analysis.findings.study import Run, Study
from softprior.errors import UserError
from softprior.library.reading import read_posterior
from softprior.results.folder import StudyFolder
from softprior.results.posteriors import Posterior

KEPT = 500_000_000
"""Bytes of posteriors that are kept; more are read again when they are needed again."""


class LostPosteriorError(UserError):
    """A posterior's file is missing or damaged."""


class Posteriors(Mapping[str, Posterior]):
    """Posteriors of several studies by trial id, read when needed; those that cannot be read are not there.

    Attributes:
        lost: a sentence for each file that could not be read so far, by trial id.
    """

    def __init__(self, homes: Mapping[str, StudyFolder]) -> None:
        """
        Args:
            homes: the folder of each trial that has a posterior, twins among them, by trial id.
        """
        self._homes = homes
        self._known: dict[str, Posterior] = {}
        self._room = KEPT
        self.lost: dict[str, str] = {}

    def __getitem__(self, trial: str) -> Posterior:
        if trial in self._known:
            return self._known[trial]
        if trial in self.lost:
            raise KeyError(trial)
        home = self._homes[trial]
        try:
            found = read_posterior(home, trial)
        except UserError as error:
            self.lost[trial] = str(error)
            raise KeyError(trial) from None
        moments = (found.initial, found.final, *found.snapshots.values())
        size = sum(vectors.nbytes for moment in moments for vectors in moment.values())
        if size <= self._room:
            self._room -= size
            self._known[trial] = found
        return found

    def __iter__(self) -> Iterator[str]:
        return iter(self._homes)

    def __len__(self) -> int:
        return len(self._homes)


def posterior_of(study: Study, run: Run) -> Posterior:
    """A run's posterior, for what cannot do without it.

    Raises:
        LostPosteriorError: its file is missing or damaged.
    """
    found = study.posteriors.get(run.id)
    if found is None:
        lost = study.posteriors.lost if isinstance(study.posteriors, Posteriors) else {}
        raise LostPosteriorError(lost.get(run.id, f"the study has no posterior of trial {run.id}"))
    return found
