"""Figures as they are saved, in a fraction of the time, and their captions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from matplotlib.figure import Figure

COARSE = 30
"""Dots per inch where nobody looks at them."""


def saved(patch: pytest.MonkeyPatch, dpi: int) -> list[Figure]:
    """Every figure that is saved from now on, as PNG alone: test_style has the PDFs."""
    figures: list[Figure] = []
    save = Figure.savefig

    def keep(self: Figure, target: Path, **options: Any) -> Any:
        if options["format"] == "pdf":
            Path(target).touch()
            return None
        figures.append(self)
        return save(self, target, **options | {"dpi": dpi})

    patch.setattr(Figure, "savefig", keep)
    return figures


def caption_of(figure: Figure) -> str:
    """The caption of a figure made by `style.page`, in one line."""
    (found,) = [text.get_text() for text in figure.texts if text.get_gid() == "caption"]
    return " ".join(found.split())
