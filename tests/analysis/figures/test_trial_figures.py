"""A trial's own figure."""

from __future__ import annotations

from pathlib import Path

import pytest
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.image import imread

from analysis.figures import style
from analysis.figures.palette import prior_looks
from analysis.figures.style import PAGE, SMALL, page
from analysis.figures.trial import MARGINS, draw_trial, label_axes
from softprior.methods import METHODS
from softprior.priors import PRIORS
from softprior.results.folder import StudyFolder
from softprior.results.posteriors import load_posterior
from softprior.results.records import Record
from tests.analysis.figures.overlaps import assert_no_overlap
from tests.analysis.figures.saved import caption_of
from tests.builders import Finished, run, trial


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """Every figure that is saved, once per file."""
    figures: list[Figure] = []
    write = style.write_png

    def keep(figure: Figure, target: Path) -> None:
        figures.append(figure)
        write(figure, target)

    monkeypatch.setattr(style, "write_png", keep)
    return figures


def of(finished: Finished, prior: str) -> Record:
    return next(r for r in finished.records.values() if r.spec.prior and r.spec.prior.name == prior)


def test_a_soft_prompt_has_one_panel_over_the_vocabulary(
    finished_study: Finished, tmp_path: Path, drawn: list[Figure]
) -> None:
    folder = finished_study.copy(tmp_path)
    record = of(finished_study, "fitted")
    path = draw_trial(record, folder, "a long title " * 10)
    assert path == folder.figure(record.id)
    assert imread(path)[..., :3].std() > 0.05, "the picture is blank"
    assert folder.vector(record.id).read_bytes().startswith(b"%PDF")
    (panel,) = drawn[0].axes
    *_, start, end = panel.collections
    assert len(start.get_offsets()) == len(end.get_offsets()) == 4
    colour = prior_looks(["fitted"])["fitted"].colour
    assert tuple(end.get_facecolor()[0]) == to_rgba(colour) == tuple(start.get_edgecolor()[0])
    assert "Seed 0: 4 vectors per place" in caption_of(drawn[0])
    assert "tokens of the vocabulary" in caption_of(drawn[0])
    assert_no_overlap(drawn[0])


def test_a_deep_prompt_has_one_panel_a_place(tmp_path: Path, drawn: list[Figure]) -> None:
    folder = StudyFolder(tmp_path)
    record = run(trial(method=METHODS["deep"](tokens=3), prior=PRIORS["isotropic"](), steps=2), tmp_path)
    draw_trial(record, folder, "deep")
    places = sorted(load_posterior(folder.posterior(record.id)).initial)
    titles = [panel.get_title() for panel in drawn[0].axes if panel.axison]
    assert len(titles) == len(places) == len(record.geometry)
    assert_no_overlap(drawn[0])


@pytest.mark.parametrize("size", [1.5e-5, 1.5e-4, 0.0034, 0.25, 7.0, 12_345.0, 100_000.0, 3e6])
@pytest.mark.parametrize(("low", "high"), [(-1, 1), (-0.6, 1.001), (-1.001, 0.3), (0.2, 1.999)])
def test_labels_at_an_axis_of_any_size_fit_its_margins(size: float, low: float, high: float) -> None:
    figure, panels = page(3, "caption", width=PAGE, height=2.7, title="title", margins=MARGINS)
    for panel in panels:
        panel.set_xlim(low * size, high * size)
        panel.set_ylim(low * size, high * size)
        label_axes(panel, (0.5, 0.25))
        panel.set_title("block 11, cut,\nbefore the block's norm", fontsize=SMALL)
    assert_no_overlap(figure)


def test_an_untrained_trial_has_nothing_to_draw(finished_study: Finished) -> None:
    record = next(r for r in finished_study.records.values() if r.spec.prior is None)
    assert draw_trial(record, finished_study.folder, "none") is None
