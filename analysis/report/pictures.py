"""The figures that carry the answer, drawn from what the report reads."""

from __future__ import annotations

import io
import re
import warnings

from matplotlib.figure import Figure

from analysis.figures.left_out import LeftOutWarning
from analysis.figures.study import figures_of
from analysis.figures.style import DPI
from analysis.findings.reading import Reading
from analysis.report.values import Block, Items, Picture, Section, missing, sentence

KEY, TITLE = "figures", "Figures"

TITLES = {
    "test-loss": "Test loss by prior",
    "learning-curves": "Learning curves",
    "survival": "How soon a loss is reached",
    "moved-over-reach": "Test loss against distance moved",
    "rates": "Test loss by prior and rate",
    "profile": "Share of seeds and tasks above a score",
    "forgetting": "Forgetting against test loss",
    "transfer": "What a prompt changes on other tasks",
    "attention": "Attention on the prompt, by block",
    "radii": "How far out vectors lie",
    "equivalence": "Differences between priors against the margin of equality",
    "components": "Where the variance of a loss comes from",
    "posterior-map": "From samples to posteriors",
    "posterior-rates": "From samples to posteriors, by rate",
    "prior-samples": "Samples of each prior before training",
    "connectivity": "Loss along the lines between posteriors",
}
"""By the figure's name, without the number of its combination, which the figure itself names."""


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
    """A figure with a title in words."""
    with io.BytesIO() as stream:
        figure.savefig(stream, format="png", dpi=DPI)
        title = TITLES[re.sub(r"-\d+$", "", name)]
        return Picture(title=title, image=stream.getvalue(), width=float(figure.get_figwidth()))
