"""All figures of a study for which its results suffice."""

from __future__ import annotations

from collections.abc import Iterator

from matplotlib.figure import Figure

from analysis.figures.left_out import PRIORS, Drawn, Undrawn, collected, left_out
from analysis.figures.settings import looks_of
from analysis.figures.single import of_each
from analysis.figures.style import PANELS, save
from analysis.figures.together import of_all
from analysis.findings.reading import Reading
from softprior.inputs.labels import counted
from softprior.results.storage import listed, replaced_folder


def draw_study(reading: Reading) -> Drawn:
    """Draws a study's figures into `figures/study/`, in place of older ones, with PDFs beside.

    A figure whose files are missing or damaged is left out with a warning, and the others are drawn.
    """
    target = reading.folder.root / "figures" / "study"
    drawn, widths = [], []
    with replaced_folder(target) as folder, collected() as sentences:
        for name, figure in figures_of(reading):
            save(figure, folder / f"{name}.png")
            drawn.append(target / f"{name}.png")
            widths.append(float(figure.get_figwidth()))
    names = {path.stem for path in drawn}
    for old in listed(target, "*"):  # in a bucket, files without a new version are still there
        if old.stem not in names:
            old.unlink(missing_ok=True)
    for sentence in sentences:
        left_out(sentence)
    return Drawn(drawn, widths, sentences)


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
    undrawn = Undrawn()
    for name, draw in (of_all(study, cells, looks) | of_each(reading, cells, looks)).items():
        try:
            figure = draw()
        except Exception as error:  # the results are complete, whatever their figures lack
            undrawn.add(name, error)
            continue
        if figure is not None:
            yield name, figure
    undrawn.warn()
