"""Pictures of priors: every prior is drawn and measured, and what is drawn is not blank."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from matplotlib.colors import to_hex

from analysis.figures import palette
from analysis.figures.prior_radii import CHOSEN, UNMEASURED, draw_radii, every_row, markdown, measure, wider
from analysis.figures.priors import PANELS, Table, draw_priors, every_panel, plain_priors, plane
from analysis.figures.style import DPI
from softprior.errors import UserError
from softprior.priors import PRIORS, Distribution, PriorSource
from softprior.priors.isotropic import Isotropic
from softprior.priors.zeros import Zeros
from softprior.prompt import Place
from softprior.seeding import torch_generator
from tests.analysis.figures.saved import COARSE, saved


def small() -> Table:
    """Correlated vectors off the origin, of a heavy-tailed length."""
    generator = torch_generator(0, "small")
    rows = torch.randn(400, 6, generator=generator) @ torch.randn(6, 6, generator=generator)
    return Table(rows * (1 + torch.rand(400, 1, generator=generator)) + 0.5, 5, Place(0))


def test_every_prior_is_drawn_and_measured() -> None:
    drawn = {panel.prior for panel in every_panel()}
    measured = {prior for prior, _ in every_row().values()} | set(UNMEASURED)
    for shown in (drawn, measured):
        assert set(palette.PRIORS) <= shown
        assert not [*plain_priors(shown)]


def test_a_new_prior_is_drawn_measured_and_coloured_without_a_line_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Wide(Isotropic):
        pass

    class Values(Zeros):
        pass

    class Refusing(Isotropic):
        def fit(self, source: PriorSource) -> Distribution:
            raise UserError(f"refusing needs more than {source.hidden} dimensions; choose a wider model")

    class Given(Isotropic):
        width: float

    figures = saved(monkeypatch, COARSE)
    new = {"wide": Wide, "values": Values, "refusing": Refusing, "given": Given}
    for name, kind in new.items():
        monkeypatch.setitem(PRIORS.kinds, name, kind)
    looks = palette.prior_looks(PRIORS.kinds)
    assert len({looks[name].colour for name in new}) == len(new)
    panels = [panel for panel in every_panel() if panel.prior in new]
    (picture,) = draw_priors(tmp_path, panels)
    assert picture.name == "priors-others.png"
    wide, values, refusing = figures[0].axes
    for name, axes in (("wide", wide), ("values", values)):
        _, draws = (to_hex(scatter.get_facecolor()[0]) for scatter in axes.collections[:2])
        assert draws == looks[name].colour.lower()
    assert refusing.texts[0].get_text().replace("\n", " ").startswith("refused: refusing needs more than 2 ")

    rows = {name: row for name, row in every_row().items() if name in new}
    tokens, *found = measure(small(), rows, lambda _: None)
    assert [(row.name, len(row.radii)) for row in found] == [("wide", 3), ("values", 3), ("refusing", 0)]
    assert found[0].norm > found[1].norm == 0
    assert draw_radii(tmp_path, {"small": [tokens, *found]}).exists()
    lines = {line.get_color() for line in figures[1].axes[0].lines}
    assert {looks[name].colour for name in ("wide", "values")} <= lines


@pytest.mark.faults  # the pages of the docs, drawn anew when a prior changes
def test_pictures_are_not_blank_and_small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from matplotlib.image import imread

    saved(monkeypatch, DPI)
    # Fifty steps make a poor autoencoder, and the same picture in a tenth of the time.
    quick = tuple(p._replace(params={**p.params, "steps": 50}) if p.prior == "vae" else p for p in PANELS)
    paths = draw_priors(tmp_path, quick)
    assert [path.name for path in paths] == ["priors-blind.png", "priors-fitted.png", "priors-vectors.png"]
    for path in paths:
        assert imread(path)[..., :3].std() > 0.05
        assert path.stat().st_size < 250_000


def test_measured_rows_stand_against_the_tokens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saved(monkeypatch, COARSE)
    some = {name: CHOSEN[name] for name in ("zeros", "fitted", "vocabulary")}
    tokens, zeros, fitted, vocabulary = rows = measure(small(), some, lambda _: None)
    assert tokens.quantiles[1] == pytest.approx(0.5, abs=0.01)
    assert tokens.token_distance == 1
    assert zeros.norm == 0
    assert zeros.radii[0] == zeros.radii[2]
    assert fitted.token_distance > 0
    assert vocabulary.token_distance == 0
    assert markdown(rows).count("\n") == 5
    assert draw_radii(tmp_path, {"small": rows}).stat().st_size > 2000


def test_a_prior_that_refuses_says_why() -> None:
    rows = measure(small(), {"far": ("low_density", {"neighbours": 100, "spread": 0.01})}, lambda _: None)
    assert "accepts fewer than" in markdown(rows)


def test_the_wider_vocabulary_keeps_radii_and_scale() -> None:
    source = small()
    made = Table(wider(source, 24), 5, Place(0))
    found, real = made.reference(), source.reference()
    assert len(made.vocabulary()) == 400
    spread = made.vocabulary().double().var(0).mean() / source.vocabulary().double().var(0).mean()
    assert float(spread) == pytest.approx(1, abs=0.15)
    for quantile in (0.1, 0.5, 0.9):
        ratio = found.radii.quantile(quantile) / real.radii.quantile(quantile)
        assert float(ratio) == pytest.approx(2, abs=0.2)


def test_the_plane_is_the_same_everywhere() -> None:
    assert torch.equal(plane(), plane())
    assert plane().shape == (900, 2)
