"""How many cells have figures, and how a figure says that it leaves something out."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence

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


def figures_left_out(names: Mapping[str, Sequence[str]]) -> None:
    """Warns of figures that are not drawn.

    Args:
        names: of the figures, by the reason.
    """
    for reason, own in names.items():
        figures, are = by_number(len(own), "figure", "figures"), by_number(len(own), "is", "are")
        left_out(f"the {figures} {', '.join(own)} {are} left out: {reason}")
