"""How many cells have figures, and how a figure says that it leaves something out."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

from analysis.findings.posteriors import LostPosteriorError
from analysis.findings.reading import first_of
from softprior.errors import LeftOutWarning, UserError
from softprior.inputs.labels import by_number
from softprior.results.storage import Location

FILES = 4
"""Most cells that have figures of their own, a file each."""

PRIORS = 24
"""Most priors of a cell that is drawn: of more, as a search has them, no figure can be read."""


def left_out(what: str) -> None:
    """Warns of something that is not drawn."""
    warnings.warn(what, LeftOutWarning, stacklevel=3)


class Drawn(NamedTuple):
    """The figures of a study, as they are in its folder.

    Attributes:
        files: PNG files, in the order in which they are shown.
        widths: of each, in inches.
        left_out: what they do not show, and why; one sentence each.
    """

    files: Sequence[Location]
    widths: Sequence[float]
    left_out: Sequence[str]


@contextmanager
def collected() -> Iterator[list[str]]:
    """Collects what is left out instead of warning of it, and gives it at its end."""
    found: list[str] = []
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always", LeftOutWarning)
        yield found
    found += [str(own.message) for own in told if issubclass(own.category, LeftOutWarning)]


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
