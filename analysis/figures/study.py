"""All figures of a study that what it leaves suffices for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cache, partial

from matplotlib.figure import Figure

from analysis.connectivity import Connectivity, load_connectivity
from analysis.figures.attention import attention_of, draw_attention
from analysis.figures.components import components_of, draw_components
from analysis.figures.connectivity import OUTDATED, connected_of, draw_connected
from analysis.figures.equivalence import draw_equivalence, equivalence_of
from analysis.figures.forgetting import draw_forgetting, forgetting_of
from analysis.figures.learning_curves import curves_of, draw_curves
from analysis.figures.left_out import FILES, PRIORS, left_out
from analysis.figures.losses import draw_losses, losses_of
from analysis.figures.moved import draw_moved, moved_of
from analysis.figures.palette import Looks
from analysis.figures.posterior_maps import draw_posterior_map, posterior_map_of
from analysis.figures.prior_samples import draw_samples, samples_of
from analysis.figures.profile import draw_profile, profile_of
from analysis.figures.radii import draw_radii, radii_of
from analysis.figures.rates import draw_rates, rate_map_of
from analysis.figures.settings import looks_of
from analysis.figures.style import PANELS, save
from analysis.figures.survival import draw_survival, survival_of
from analysis.figures.transfer import draw_transfer, transfer_of
from analysis.findings import quality
from analysis.findings.judging import judge
from analysis.findings.reading import Reading
from analysis.findings.study import Cell, Study
from analysis.findings.values import Finding
from softprior.errors import UserError
from softprior.inputs.labels import counted
from softprior.results.storage import Location, listed, replaced_folder

Draw = Callable[[], Figure | None]


def draw_study(reading: Reading) -> list[Location]:
    """Draws a study's figures into `figures/study/`, in place of older ones; the PNG files, with PDFs beside.

    A figure whose files are missing or damaged is left out with a warning, and the others are drawn.
    """
    target = reading.folder.root / "figures" / "study"
    drawn = []
    with replaced_folder(target) as folder:
        for name, figure in figures_of(reading):
            save(figure, folder / f"{name}.png")
            drawn.append(target / f"{name}.png")
    names = {path.stem for path in drawn}
    for old in listed(target, "*"):  # in a bucket, files without a new version are still there
        if old.stem not in names:
            old.unlink(missing_ok=True)
    return drawn


def figures_of(reading: Reading) -> Iterator[tuple[str, Figure]]:
    """The figures of a study one after another, by the names of their files.

    A study without finished trained trials has none. The first `PANELS` cells are drawn. What is left out is
    said in a warning.
    """
    study, looks = reading.study, looks_of(reading)
    every = study.cells("prior")
    cells = [cell for cell in every if len(cell.sides) <= PRIORS][:PANELS]
    if len(cells) < len(every):
        what = (
            f"figures show {len(cells)} of {counted(len(every), 'combination')} of task, method and "
            f"regularisers (the first {PANELS} with at most {PRIORS} priors)"
        )
        left_out(what)
    if not cells:
        return
    for name, draw in (_of_all(study, cells, looks) | _of_each(reading, cells, looks)).items():
        try:
            figure = draw()
        except Exception as error:  # the results are complete, whatever their figures lack
            reason = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
            left_out(f"the figure {name} is left out: {reason}")
            continue
        if figure is not None:
            yield name, figure


def _of_all(study: Study, cells: Sequence[Cell], looks: Looks) -> dict[str, Draw]:
    """Figures of all cells together."""

    def survival() -> Figure | None:
        known = [own for cell in cells if (own := survival_of(cell)) is not None]
        return draw_survival(known, looks=looks) if known else None

    def radii() -> Figure | None:
        known = radii_of(study, cells)
        return draw_radii(known, looks=looks) if known else None

    def forgetting() -> Figure | None:
        known = [own for cell in cells if (own := forgetting_of(study, cell)) is not None]
        return draw_forgetting(known, looks=looks) if known else None

    def attention() -> Figure | None:
        known = [own for cell in cells if (own := attention_of(cell)) is not None]
        return draw_attention(known, looks=looks) if known else None

    def transfer() -> Figure | None:
        known = transfer_of(study)
        if len(known) > PANELS:
            left_out(f"transfer shows {PANELS} of {counted(len(known), 'combination')} of prior and method")
        return draw_transfer(known[:PANELS]) if known else None

    def rates() -> Figure | None:
        known = [rate_map_of(cell) for cell in cells]
        return draw_rates(known) if any(len(one.rates) > 1 for one in known) else None

    def profile() -> Figure | None:
        known = profile_of(study)
        return None if known is None else draw_profile(known, looks=looks)

    return {
        "test-loss": lambda: draw_losses([losses_of(cell) for cell in cells], looks=looks),
        "learning-curves": lambda: draw_curves([curves_of(cell) for cell in cells], looks=looks),
        "survival": survival,
        "moved-over-reach": lambda: draw_moved([moved_of(cell) for cell in cells], looks=looks),
        "rates": rates,
        "profile": profile,
        "forgetting": forgetting,
        "transfer": transfer,
        "attention": attention,
        "radii": radii,
    }


def _of_each(reading: Reading, cells: Sequence[Cell], looks: Looks) -> dict[str, Draw]:
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
            left_out(f"connectivity shows {shown}; of {cell.where}, other {OUTDATED}")
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
