"""The figures that carry the answer, drawn from what the report reads."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence

from analysis.figures.left_out import Drawn, collected
from analysis.findings.reading import Reading
from analysis.report.values import Items, Picture, Section, missing, sentence

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


def section(reading: Reading, drawn: Drawn | None = None) -> Section:
    """The figures of a study, and what is left out of them.

    Args:
        drawn: the figures, if they are in the study's folder as they would be drawn now.
    """
    pictures, sentences = _drawn_now(reading) if drawn is None else _read(drawn)
    left_out = tuple(dict.fromkeys(map(sentence, sentences)))
    if not pictures and not left_out:
        return missing(
            KEY, TITLE, "No trial with a trained prompt has finished, so there is nothing to draw."
        )
    return Section(key=KEY, title=TITLE, blocks=(*pictures, *([Items(left_out)] if left_out else [])))


def _read(drawn: Drawn) -> tuple[list[Picture], Sequence[str]]:
    found = zip(drawn.files, drawn.widths, strict=True)
    return [_picture(file.stem, file.read_bytes(), width) for file, width in found], drawn.left_out


def _drawn_now(reading: Reading) -> tuple[list[Picture], Sequence[str]]:
    # matplotlib and scikit-learn, for which no report waits whose figures are there
    from analysis.figures.study import figures_of
    from analysis.figures.style import write_png

    pictures = []
    with collected() as sentences:
        for name, figure in figures_of(reading):
            with io.BytesIO() as stream:
                write_png(figure, stream)
                pictures.append(_picture(name, stream.getvalue(), float(figure.get_figwidth())))
    return pictures, sentences


def _picture(name: str, image: bytes, width: float) -> Picture:
    """A figure with a title in words."""
    return Picture(title=TITLES[re.sub(r"-\d+$", "", name)], image=image, width=width)
