"""What all figures have in common: sizes, captions, keys, axes, files."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from textwrap import wrap
from typing import IO, NamedTuple, TypeVar

import matplotlib
import numpy as np
from jaxtyping import Float
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.axis import Axis, XAxis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_pdf import FigureCanvasPdf
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from analysis.figures.palette import Look
from softprior.results.files import write_atomically
from softprior.results.storage import Location

matplotlib.use("Agg")

LocationT = TypeVar("LocationT", bound=Location)
ItemT = TypeVar("ItemT")

COLUMN, PAGE = 3.3, 7.0
"""Inches: a column of a two-column page, and its whole width."""

SMALL, NORMAL, TITLE = 7, 8, 9
"""Sizes of letters in points, legible at `PAGE` and at `COLUMN`."""

DPI = 150
"""Pixels per inch."""

PANELS = 6
"""Most panels of a figure."""

LETTER = 0.575
"""Mean width of a letter over its size; wide enough that no line of a caption is longer than its figure."""

SPACING = 1.35
"""Distance of lines over the size of letters."""

BETWEEN = 5
"""Points above and below each row of panels, so that a title is not read as a name of the axis above it."""

TAIL = 0.05
"""Share of points at each end that may lie outside a panel, if they lie farther out than `FENCE` allows."""

FENCE = 1.0
"""How far a panel reaches beyond the central points, over their own range."""

MARGIN = 0.06
"""Margin around what a panel shows, as a share of that."""


class Margins(NamedTuple):
    """Inches around each panel, for what is written there."""

    left: float
    right: float
    below: float
    above: float


def page(
    count: int,
    caption: str,
    *,
    width: float = PAGE,
    height: float = 2.3,
    columns: int = 3,
    keys: Sequence[Artist] = (),
    title: str = "",
    sharex: bool = False,
    sharey: bool = False,
    margins: Margins | None = None,
) -> tuple[Figure, list[Axes]]:
    """A figure with panels side by side, and below them the key and the caption, which cover nothing.

    Args:
        caption: what is shown, with n and seeds.
        width: in inches; panels keep at least 2.2 of them.
        height: of a row of panels.
        keys: handles with labels.
        title: above all panels.
        sharex, sharey: whether all panels have the same limits.
        margins: fixed ones, for figures that are drawn by the thousand; without them each figure is laid out
            by what is written in it, which takes as long as to draw it.
    """
    columns = max(1, min(count, columns, int(width / 2.2) or 1))
    rows = -(-count // columns)
    text = _wrapped(caption, width - 0.15, SMALL)
    below = (len(text) * SPACING * SMALL + 4) / 72
    key_columns = _key_columns(keys, width)
    key = -(-len(keys) // key_columns) * (SPACING * NORMAL + 1) / 72 + 0.08 if keys else 0.0
    head = _wrapped(title, width - 0.15, TITLE)
    above = (len(head) * SPACING * TITLE + 2) / 72 if title else 0.0
    total = rows * height + below + key + above
    bottom, top = (below + key) / total, 1 - above / total
    figure = Figure(figsize=(width, total), layout="constrained" if margins is None else None)
    if margins is None:
        engine = figure.get_layout_engine()
        assert engine is not None
        engine.set(rect=(0, bottom, 1, top - bottom), h_pad=BETWEEN / 72)  # type: ignore[call-arg]
    else:
        beside, over = margins.left + margins.right, margins.below + margins.above
        figure.subplots_adjust(
            left=margins.left / width,
            right=1 - margins.right / width,
            bottom=bottom + margins.below / total,
            top=top - margins.above / total,
            wspace=beside / (width / columns - beside),
            hspace=over / (height - over),
        )
    figure.text(
        0.075 / width,
        (below - 2 / 72) / total,
        "\n".join(text),
        fontsize=SMALL,
        va="top",
        linespacing=SPACING * 0.86,
        gid="caption",
    )
    if title:
        figure.text(0.5, 1 - 2 / 72 / total, "\n".join(head), fontsize=TITLE, ha="center", va="top")
    if keys:
        _add_keys(figure, keys, key_columns, below / total)
    panels = list(figure.subplots(rows, columns, squeeze=False, sharex=sharex, sharey=sharey).flatten())
    for panel in panels[count:]:
        panel.set_axis_off()
    for panel in panels:
        tidy(panel)
    for panel in panels[:count][-columns:]:
        panel.tick_params(labelbottom=True)  # in a column that ends one row higher, too
    return figure, panels[:count]


def _add_keys(figure: Figure, keys: Sequence[Artist], columns: int, bottom: float) -> None:
    """Puts the key in the middle, above a height as a share of the figure's."""
    figure.legend(
        handles=list(keys),
        loc="lower center",
        bbox_to_anchor=(0.5, bottom),
        ncols=columns,
        fontsize=NORMAL,
        frameon=False,
        borderaxespad=0,
        borderpad=0.1,
        handletextpad=0.5,
        columnspacing=1.2,
        labelspacing=0.25,
    ).set_in_layout(False)


def _wrapped(text: str, width: float, size: float) -> list[str]:
    letters = max(20, int(width * 72 / (size * LETTER)))
    whole = text.replace(" = ", "\N{NO-BREAK SPACE}=\N{NO-BREAK SPACE}")
    return wrap(whole, letters, break_on_hyphens=False)


def _key_columns(keys: Sequence[Artist], width: float) -> int:
    """As many columns of a key as fit; matplotlib fills one after the other, the first ones longer."""
    lengths = [len(str(key.get_label())) for key in keys]
    for columns in range(len(lengths), 1, -1):
        parts = np.array_split(np.array(lengths), columns)
        if sum(NORMAL * (LETTER * part.max() + 4) for part in parts) <= width * 72:
            return columns
    return 1


def key(label: str, look: Look, line: bool = False) -> Line2D:
    """One entry of a figure's key."""
    return Line2D(
        [],
        [],
        color=look.colour,
        marker=look.marker,
        linestyle=look.dash if line else "none",
        linewidth=1.2,
        markersize=5,
        label=label,
    )


def spread_over(items: Sequence[ItemT], count: int) -> list[ItemT]:
    """At most `count` of the items, the first and the last among them, evenly between."""
    if len(items) <= count:
        return list(items)
    return [items[round(i * (len(items) - 1) / (count - 1))] for i in range(count)]


def limits(
    values: Float[np.ndarray, "N"], always: Float[np.ndarray, "M"] | None = None
) -> tuple[float, float]:
    """Limits of an axis: a few points far out may lie outside, as they would squeeze all others into a line.

    Args:
        always: what has to be inside.
    """
    ends = [] if always is None or not len(always) else [float(always.min()), float(always.max())]
    if len(values):
        low, high = np.quantile(values, [TAIL, 1 - TAIL])
        reach = FENCE * (high - low)
        inside = values[(values >= low - reach) & (values <= high + reach)]
        ends += [float(inside.min()), float(inside.max())]
    low, high = min(ends, default=0.0), max(ends, default=1.0)
    margin = MARGIN * (high - low) or 0.05 * abs(high) or 1.0
    return low - margin, high + margin


def fit_window(panel: Axes, points: Float[np.ndarray, "N 2"], always: Float[np.ndarray, "M 2"]) -> int:
    """Sets both limits as `limits` says; writes how many points lie outside, and returns it."""
    x, y = (limits(points[:, i], always[:, i]) for i in (0, 1))
    panel.set_xlim(x)
    panel.set_ylim(y)
    inside = (points >= (x[0], y[0])).all(1) & (points <= (x[1], y[1])).all(1)
    outside = int((~inside).sum())
    if outside:
        panel.annotate(
            f"{outside:,} of {len(points):,} outside",
            (0.99, 0.985),
            xycoords="axes fraction",
            ha="right",
            va="top",
            fontsize=SMALL - 1,
            color="#555555",
            zorder=9,
        )
    return outside


def logarithmic(axis: Axis, low: float, high: float, most: int = 5) -> None:
    """Makes an axis logarithmic with a few plain numbers on it, which do not touch.

    Args:
        low, high: ends of the data, above 0.
    """
    axes = axis.axes
    (axes.set_xscale if isinstance(axis, XAxis) else axes.set_yscale)("log")
    axis.set_major_locator(FixedLocator(log_ticks(low, high, most)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_locator(NullLocator())


def log_ticks(low: float, high: float, most: int = 5) -> list[float]:
    """At most `most` round numbers from low to high: powers of ten, or finer ones where they are few."""
    if low == high:
        return [low]
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    powers = range(first, last + 1)
    hair = 1e-9
    for factors in ((1,), (1, 3), (1, 2, 5), (1, 1.5, 2, 3, 5, 7)):
        found = [float(f"{factor * 10.0**power:.2g}") for power in powers for factor in factors]
        found = [tick for tick in found if low * (1 - hair) <= tick <= high * (1 + hair)]
        if len(found) >= 3 or (len(found) == 2 and found[1] / found[0] >= 10):
            return found[:: -(-len(found) // most)]
    return [float(f"{low:.2g}"), float(f"{math.sqrt(low * high):.2g}"), float(f"{high:.2g}")]


def lowest(panels: Sequence[Axes]) -> list[Axes]:
    """Of panels in rows, those with none below them, whose axis is named."""
    spec = panels[0].get_subplotspec()
    assert spec is not None
    return list(panels[-spec.get_gridspec().ncols :])


def side_by_side(count: int) -> int:
    """Number of panels in a row, so that none of four stands alone in the second."""
    return 2 if count == 4 else 3


def short_loss(value: float) -> str:
    """A loss in a panel: two decimals, or two digits where these would be zeros."""
    return f"{value:.2g}" if 0 < abs(value) < 0.095 else f"{value:.2f}"


def tidy(panel: Axes) -> None:
    """Sets one size of letters, and removes the frame where there is no axis."""
    panel.tick_params(which="both", labelsize=SMALL)
    for side in ("top", "right"):
        panel.spines[side].set_visible(False)


def vector(path: Location) -> Location:
    """The PDF beside a PNG."""
    return path.parent / f"{path.stem}.pdf"


FONTS = 42
"""Type of the fonts in a PDF: letters stay letters, searchable and editable."""


def save(figure: Figure, path: LocationT, *, pdf: bool = True) -> LocationT:
    """Writes a figure as PNG and, beside it, as PDF; returns the PNG.

    The same figure gives the same bytes. The PNG comes last: where it is, the PDF is too.

    Args:
        pdf: whether there is one; it takes longer than the PNG, most of it for a font's letters.
    """
    figure.set_dpi(DPI)
    if (engine := figure.get_layout_engine()) is not None:
        engine.execute(figure)
        figure.set_layout_engine("none")  # it is laid out once for both
    if pdf:
        with matplotlib.rc_context({"pdf.fonttype": FONTS}):
            write_atomically(vector(path), lambda temporary: write_pdf(figure, temporary))
    write_atomically(path, lambda temporary: write_png(figure, temporary))
    return path


def write_pdf(figure: Figure, target: Path) -> None:
    """Draws a figure as PDF, once; images in it have the figure's dots per inch."""
    FigureCanvasPdf(figure).print_pdf(target, metadata={"CreationDate": None})  # type: ignore[no-untyped-call]


def write_png(figure: Figure, target: Path | IO[bytes], dpi: float = DPI) -> None:
    """Draws a figure as PNG, once: `savefig` draws one with a layout engine again, to lay it out."""
    figure.set_dpi(dpi)
    FigureCanvasAgg(figure).print_png(target)  # type: ignore[no-untyped-call]
