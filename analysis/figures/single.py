"""The figures of a study that show one cell each."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache, partial

from matplotlib.figure import Figure

from analysis.connectivity import Connectivity, load_connectivity
from analysis.figures.components import components_of, draw_components
from analysis.figures.connectivity import OUTDATED, connected_of, draw_connected
from analysis.figures.equivalence import draw_equivalence, equivalence_of
from analysis.figures.left_out import FILES, left_out
from analysis.figures.palette import Looks
from analysis.figures.posterior_maps import draw_posterior_map, posterior_map_of
from analysis.figures.prior_samples import draw_samples, samples_of
from analysis.figures.settings import Draw
from analysis.findings import quality
from analysis.findings.judging import judge
from analysis.findings.reading import Reading
from analysis.findings.study import Cell
from analysis.findings.values import Finding
from softprior.inputs.labels import counted


def of_each(reading: Reading, cells: Sequence[Cell], looks: Looks) -> dict[str, Draw]:
    """Figures of single cells."""
    study = reading.study
    found: dict[str, Draw] = {}
    shown = cells[:FILES]
    if len(cells) > len(shown):
        left_out(f"figures of single combinations are drawn of the first {FILES} of {len(cells)}")

    @cache
    def equal() -> dict[str, Finding]:
        return {one.where: one for one in judge(study, (quality.JUDGED,))}

    def equivalence(cell: Cell) -> Figure | None:
        known = equivalence_of(equal()[cell.where])
        return None if known is None else draw_equivalence(known)

    def components(cell: Cell) -> Figure | None:
        known = components_of(study, cell)
        return draw_components(known, title=cell.where) if known else None

    def posterior_map(cell: Cell) -> Figure | None:
        known = posterior_map_of(study, cell)
        return None if known is None else draw_posterior_map(known, looks=looks)

    def rate_maps(cell: Cell) -> Figure | None:
        known = posterior_map_of(study, cell, rates="all")
        return None if known is None else draw_posterior_map(known, looks=looks)

    def samples(cell: Cell) -> Figure | None:
        known = samples_of(study, cell)
        return None if known is None else draw_samples(known, looks=looks)

    @cache
    def lines() -> Connectivity | None:
        measured = load_connectivity(reading.folder)
        for what in () if measured is None else measured.left_out:
            left_out(f"connectivity: {what}")
        return measured

    def connectivity(cell: Cell) -> Figure | None:
        measured = lines()
        known = None if measured is None else connected_of(measured, study, cell)
        if known is not None and known.stale:
            shown = counted(len(known.paths), "line")
            left_out(f"connectivity of {cell.where} shows {shown}; other {OUTDATED}")
        return None if known is None else draw_connected(known, looks=looks)

    for name, draw in (
        ("equivalence", equivalence),
        ("components", components),
        ("posterior-map", posterior_map),
        ("posterior-rates", rate_maps),
        ("prior-samples", samples),
        ("connectivity", connectivity),
    ):
        for i, cell in enumerate(shown):
            file = f"{name}-{i + 1}" if len(shown) > 1 else name
            found[file] = partial(draw, cell)
    return found
