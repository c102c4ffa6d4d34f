"""Whether what a figure says can be read: no text on another, none outside."""

from __future__ import annotations

import itertools

from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.transforms import Bbox


def texts(figure: Figure) -> list[tuple[str, Bbox]]:
    """Every visible text with its box in pixels, after layout."""
    figure.draw_without_rendering()
    found = []
    for text in figure.findobj(Text):
        words = text.get_text().strip()
        if not words or not text.get_visible():
            continue
        axes = text.axes
        if axes is not None and not axes.axison and text is not axes.title:
            continue
        found.append((words, text.get_window_extent()))
    return _without_hidden_ticks(figure, found)


def _without_hidden_ticks(figure: Figure, found: list[tuple[str, Bbox]]) -> list[tuple[str, Bbox]]:
    """Labels of ticks beyond an axis' limits exist, but are not drawn."""
    hidden = set()
    for axes in figure.axes:
        for axis in (axes.xaxis, axes.yaxis):
            drawn = {id(t) for t in axis._update_ticks()}
            for tick in (*axis.get_major_ticks(), *axis.get_minor_ticks()):
                if id(tick) not in drawn or not axes.axison:
                    hidden |= {label.get_window_extent().bounds for label in (tick.label1, tick.label2)}
    return [(words, box) for words, box in found if box.bounds not in hidden]


def assert_no_overlap(figure: Figure) -> None:
    """Fails where two texts share more than a hair, or one leaves the figure."""
    found = texts(figure)
    assert found
    width, height = figure.get_size_inches() * figure.dpi
    for words, box in found:
        inside = box.x0 > -1 and box.y0 > -1 and box.x1 < width + 1 and box.y1 < height + 1
        assert inside, f"'{words}' leaves the figure: {box}"
    for (one, a), (other, b) in itertools.combinations(found, 2):
        shared = Bbox.intersection(a, b)
        assert shared is None or min(shared.width, shared.height) < 1, f"'{one}' and '{other}' overlap"
