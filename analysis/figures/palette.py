"""Colours, markers and dashes: one look per prior in every figure, and looks for whatever else is compared.

Looks differ in colour, marker and dash: colour-blind readers tell them apart, also in grey print.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

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
"""The order in which priors take looks; a new one goes to the end, so that the others keep theirs."""

OTHER = Look(TEXT, "$?$", DASHES[0])
"""Of a prior that is not listed: one of a user's own."""


def prior_looks(names: Iterable[str]) -> dict[str, Look]:
    """The look of every prior, by its name in a study, such as `isotropic(scale=0.1)`.

    The colour depends on the prior alone. The second variant of a prior in a study has another marker and
    dash, and so on.
    """
    seen: Counter[str] = Counter()
    found = {}
    for name in dict.fromkeys(names):
        kind = name.partition("(")[0]
        own = look(PRIORS.index(kind)) if kind in PRIORS else OTHER
        variant = seen[kind]
        seen[kind] += 1
        if variant:
            marker = MARKERS[(variant + (MARKERS.index(own.marker) if kind in PRIORS else 0)) % len(MARKERS)]
            own = Look(own.colour, marker, DASHES[(DASHES.index(own.dash) + variant) % len(DASHES)])
        found[name] = own
    return found
