"""Figures as they are saved, in a fraction of the time, and their captions."""

from __future__ import annotations

from pathlib import Path
from typing import IO

import pytest
from matplotlib.figure import Figure

from analysis.figures import style

COARSE = 30
"""Dots per inch where nobody looks at them."""


def saved(patch: pytest.MonkeyPatch, dpi: int) -> list[Figure]:
    """Every figure that is saved from now on, as PNG alone: test_style has the PDFs."""
    figures: list[Figure] = []
    write = style.write_png

    def keep(figure: Figure, target: Path | IO[bytes]) -> None:
        figures.append(figure)
        write(figure, target, dpi)

    patch.setattr(style, "write_png", keep)
    patch.setattr(style, "write_pdf", lambda _, target: Path(target).touch())
    return figures


def caption_of(figure: Figure) -> str:
    """The caption of a figure made by `style.page`, in one line."""
    (found,) = [text.get_text() for text in figure.texts if text.get_gid() == "caption"]
    return " ".join(found.split())
