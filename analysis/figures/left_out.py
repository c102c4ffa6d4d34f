"""How many cells have figures, and how a figure says that it leaves something out."""

from __future__ import annotations

import warnings

from analysis.findings.posteriors import LostPosteriorError
from analysis.findings.reading import first_of
from softprior.errors import UserError
from softprior.inputs.labels import by_number

FILES = 4
"""Most cells that have figures of their own, a file each."""

PRIORS = 24
"""Most priors of a cell that is drawn: of more, as a search has them, no figure can be read."""


class LeftOutWarning(UserWarning):
    """What the figures of a study do not show, and why."""


def left_out(what: str) -> None:
    """Warns of something that is not drawn."""
    warnings.warn(what, LeftOutWarning, stacklevel=3)


class Undrawn:
    """Figures that are not drawn, by the reason; all that lack a posterior together."""

    def __init__(self) -> None:
        self._figures: dict[str, list[str]] = {}
        self._without: dict[str, str] = {}
        """Why each figure that lacks a posterior does."""

    def add(self, name: str, error: Exception) -> None:
        """Notes a figure and what its drawing has raised."""
        reason = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
        if isinstance(error, LostPosteriorError):
            self._without[name] = reason
        else:
            self._figures.setdefault(reason, []).append(name)

    def warn(self) -> None:
        """Warns of them, one sentence for each reason."""
        figures = dict(self._figures)
        if self._without:
            figures[first_of(list(dict.fromkeys(self._without.values())))] = list(self._without)
        for reason, names in figures.items():
            what, are = by_number(len(names), "figure", "figures"), by_number(len(names), "is", "are")
            left_out(f"the {what} {', '.join(names)} {are} left out: {reason}")
