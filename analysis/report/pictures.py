"""The figures that carry the answer, drawn from what the report reads."""

from __future__ import annotations

import io
import warnings

from matplotlib.figure import Figure

from analysis.figures.left_out import LeftOutWarning
from analysis.figures.study import figures_of
from analysis.figures.style import DPI
from analysis.findings.reading import Reading
from analysis.report.values import Block, Items, Picture, Section, missing, sentence

KEY, TITLE = "figures", "Figures"


def section(reading: Reading) -> Section:
    """The figures of a study, and what is left out of them."""
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always", LeftOutWarning)
        drawn: list[Block] = [_picture(name, figure) for name, figure in figures_of(reading)]
    messages = [own.message for own in told if issubclass(own.category, LeftOutWarning)]
    left_out = tuple(dict.fromkeys(map(sentence, messages)))
    if not drawn and not left_out:
        return missing(
            KEY, TITLE, "No trial with a trained prompt has finished, so there is nothing to draw."
        )
    return Section(key=KEY, title=TITLE, blocks=(*drawn, *([Items(left_out)] if left_out else [])))


def _picture(name: str, figure: Figure) -> Picture:
    """A figure, which has its caption in it."""
    with io.BytesIO() as stream:
        figure.savefig(stream, format="png", dpi=DPI)
        return Picture(title=name.replace("-", " ").capitalize(), caption="", image=stream.getvalue())
