"""Colours, markers and dashes: one look per prior in every figure, and looks for whatever else is compared.

Looks differ in colour, marker and dash: colour-blind readers tell them apart, also in grey print.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from itertools import chain, count
from typing import NamedTuple

from softprior.inputs.entries import Entry

BLUE, ORANGE, GREEN, PINK, AMBER, SKY = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9"
BLACK, BROWN, INDIGO, WINE, FOREST, OLIVE, SAND = (
    "#000000",
    "#661100",
    "#332288",
    "#882255",
    "#117733",
    "#999933",
    "#C9B458",
)
"""Okabe and Ito's palette without its yellow, which is faint on white; then, from BROWN on, Paul Tol's."""

LINE, BACKGROUND, TEXT = "#999999", "#CCCCCC", "#777777"
"""Greys: of reference lines, of the data behind prompts, of keys that stand for all colours."""

COLOURS = (BLUE, ORANGE, GREEN, PINK, AMBER, SKY, BLACK, WINE, BROWN, INDIGO, FOREST, OLIVE, SAND)

MARKERS = ("o", "^", "s", "D", "v", "P", "X", "*", "<", "p", ">", "h", "d")

Dash = tuple[int, tuple[float, ...]]

DASHES: tuple[Dash, ...] = ((0, ()), (0, (4, 1.5)), (0, (1, 1)), (0, (5, 1, 1, 1)), (0, (3, 1, 1, 1, 1, 1)))
"""Offset, then lengths of strokes and gaps, in widths of the line."""


class Look(NamedTuple):
    """How a category is drawn: its colour, marker, and dash of lines."""

    colour: str
    marker: str
    dash: Dash


def look(index: int) -> Look:
    """The look of the category with this number; the first 169 differ in colour or marker."""
    again, place = divmod(index, len(COLOURS))
    return Look(
        COLOURS[place],
        MARKERS[(place + again) % len(MARKERS)],
        DASHES[(place // 6 + again) % len(DASHES)],
    )


PRIORS = (
    "isotropic",
    "fitted",
    "vocabulary",
    "exclusion",
    "interpolation",
    "xavier",
    "zeros",
    "vae",
    "low_density",
    "mixture",
    "instruction",
    "posterior",
    "by_place",
)
"""The priors whose look is the same in every study, in the order in which they take looks."""

Looks = Mapping[str, Look]
"""By the name of a prior within its study."""


def entry_looks(priors: Iterable[Entry]) -> dict[str, Look]:
    """The look of every prior of a study, by its canonical text; all differ in colour or marker.

    A prior of `PRIORS` has its look there, whatever its label. The second entry of one prior keeps the
    colour and has another marker and dash, and so on. Other priors, new ones and those of a user's own, take
    looks that the study leaves free, the last of the list first, in the order of the study.
    """
    return _looks({entry.canonical(): entry.name for entry in priors})


def prior_looks(names: Iterable[str]) -> dict[str, Look]:
    """The same of priors by their names in a study without labels, such as `isotropic(scale=0.1)`."""
    return _looks({name: name.partition("(")[0] for name in names})


def _looks(kinds: Mapping[str, str]) -> dict[str, Look]:
    """The look of each prior.

    Args:
        kinds: the component of each.
    """
    listed = {kind: look(PRIORS.index(kind)) for kind in kinds.values() if kind in PRIORS}
    others = [kind for kind in dict.fromkeys(kinds.values()) if kind not in PRIORS]
    free = [own for i in reversed(range(len(COLOURS))) if (own := look(i)) not in listed.values()]
    more = (look(i) for i in count(len(COLOURS)))  # colours come again, with other markers
    first = listed | dict(zip(others, chain(free, more), strict=False))
    seen: Counter[str] = Counter()
    taken: set[tuple[str, str]] = {own[:2] for own in first.values()}
    found = {}
    for name, kind in kinds.items():
        own = first[kind]
        if seen[kind]:
            own = _variant(own, seen[kind], taken)
        seen[kind] += 1
        taken.add(own[:2])
        found[name] = own
    return found


def _variant(first: Look, number: int, taken: set[tuple[str, str]]) -> Look:
    """The look of a further entry of one prior."""
    at = MARKERS.index(first.marker)
    markers = [MARKERS[(at + number + i) % len(MARKERS)] for i in range(len(MARKERS))]
    # A study with more entries of one prior than there are markers has some that are the same.
    marker = next((own for own in markers if (first.colour, own) not in taken), markers[0])
    return Look(first.colour, marker, DASHES[(DASHES.index(first.dash) + number) % len(DASHES)])
