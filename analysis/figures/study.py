"""All figures of a study that what it leaves suffices for."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence

from matplotlib.figure import Figure

from analysis.figures.learning_curves import curves_of, draw_curves
from analysis.figures.moved import draw_moved, moved_of
from analysis.figures.posterior_maps import draw_posterior_map, posterior_map_of
from analysis.figures.radii import draw_radii, radii_of
from analysis.figures.rates import draw_rates, rate_map_of
from analysis.figures.settings import Cell, cells
from analysis.figures.style import PANELS, save
from analysis.figures.survival import draw_survival, survival_of
from softprior.errors import UserError
from softprior.library.results import Results
from softprior.results.storage import Location

MAPS = 4
"""Most cells that have a map from priors to posteriors, a file each."""


def draw_study(results: Results) -> list[Location]:
    """Draws a study's figures into `figures/study/`; returns the PNG files, with a PDF beside each.

    A figure whose files are missing or damaged is left out with a warning, and the others are drawn. A study
    without finished trained trials has none. The first `PANELS` cells of a study are drawn.
    """
    every = cells(results)
    found = every[:PANELS]
    if not found:
        return []
    if len(every) > PANELS:
        left = f"figures show {PANELS} of the {len(every)} combinations of task, method and regularisers"
        warnings.warn(left, UserWarning, stacklevel=2)
    maps = {
        f"posterior-map-{i + 1}" if len(found) > 1 else "posterior-map": _map(results, cell)
        for i, cell in enumerate(found[:MAPS])
    }
    figures = {
        "learning-curves": lambda: draw_curves([curves_of(results, cell) for cell in found]),
        "survival": lambda: draw_survival([survival_of(results, cell) for cell in found]),
        "moved-over-reach": lambda: draw_moved([moved_of(cell) for cell in found]),
        "rates": lambda: draw_rates([rate_map_of(cell) for cell in found]),
        "radii": lambda: _radii(results, found),
        **maps,
    }
    folder = results.folder.root / "figures" / "study"
    paths = []
    for name, draw in figures.items():
        try:
            figure = draw()
            if figure is not None:
                paths.append(save(figure, folder / f"{name}.png"))
        except Exception as error:  # the results are complete, whatever their figures lack
            reason = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
            warnings.warn(f"the figure {name} is left out: {reason}", UserWarning, stacklevel=2)
    return paths


def _map(results: Results, cell: Cell) -> Callable[[], Figure | None]:
    def draw() -> Figure | None:
        found = posterior_map_of(results, cell)
        return None if found is None else draw_posterior_map(found)

    return draw


def _radii(results: Results, found: Sequence[Cell]) -> Figure | None:
    known = radii_of(results, found)
    return draw_radii(known) if known else None
