"""Looks, limits, ticks, pages and files that all figures share."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from analysis.figures import style
from analysis.figures.palette import COLOURS, PRIORS, entry_looks, look, prior_looks
from analysis.figures.style import (
    COLUMN,
    PAGE,
    key,
    limits,
    log_ticks,
    lowest,
    page,
    save,
    spread_over,
)
from softprior.inputs.entries import Entry, Shown
from tests.analysis.figures.overlaps import assert_no_overlap
from tests.analysis.figures.saved import caption_of

LETTERS = style.FONTS
"""As softprior has it, before `conftest` makes the suite quicker."""

# Machado, Oliveira and Fernandes (2009), severity 1: what dichromats see, in linear RGB.
PROTANOPIA = np.array(
    [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
)
DEUTERANOPIA = np.array(
    [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
)
TO_XYZ = np.array(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
)


def lab(colour: str, seen: np.ndarray) -> np.ndarray:
    """CIELAB of a colour as somebody sees it."""
    rgb = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    xyz = TO_XYZ @ np.clip(seen @ linear, 0, 1) / np.array([0.95047, 1, 1.08883])
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


@pytest.mark.parametrize("seen", [np.eye(3), PROTANOPIA, DEUTERANOPIA], ids=["all", "protan", "deutan"])
def test_colours_are_told_apart_by_everybody(seen: np.ndarray) -> None:
    """A distance of 2.3 is just noticeable; the closest two of all thirteen are five times that apart."""
    seen_colours = [lab(colour, seen) for colour in COLOURS]
    closest = min(np.linalg.norm(a - b) for a, b in itertools.combinations(seen_colours, 2))
    assert closest > 11
    assert max(value[0] for value in seen_colours) < 82, "faint on white"


def test_every_listed_prior_has_a_colour_of_its_own_which_no_study_changes() -> None:
    alone = {name: prior_looks([name])[name] for name in PRIORS}
    assert len({own.colour for own in alone.values()}) == len(PRIORS)
    assert len({own.marker for own in alone.values()}) == len(PRIORS)
    together = prior_looks(["fitted", "isotropic(scale=0.1)", "isotropic(scale=0.02)", "mine", "fitted"])
    assert together["fitted"] == alone["fitted"]
    first, second = together["isotropic(scale=0.1)"], together["isotropic(scale=0.02)"]
    assert first == alone["isotropic"]
    assert second.colour == first.colour
    assert second.marker != first.marker
    assert second.dash != first.dash
    assert together["mine"].colour not in {alone["fitted"].colour, alone["isotropic"].colour}


def test_every_entry_of_a_study_has_a_look_of_its_own() -> None:
    """Labels change nothing, nor does what else a figure shows."""
    quantiles = [Entry(name="exclusion", params={"quantile": q}) for q in (0.5, 0.95, 0.99)]
    own = [Entry(name="spiral"), Entry(name="spiral", params={"turns": 3}), Entry(name="ring")]
    entries = [*quantiles, *own, Entry(name="fitted")]
    looks = entry_looks(entries)
    assert len({found[:2] for found in looks.values()}) == len(entries)
    assert len({looks[e.canonical()].colour for e in quantiles}) == 1
    colours = {looks[e.canonical()].colour for e in (*own, quantiles[0], entries[-1])}
    assert len(colours) == 4, "two own priors, exclusion and fitted"
    labelled = [e.shown_as(Shown(f"label-{i}", {})) for i, e in enumerate(entries)]
    assert entry_looks(labelled) == looks
    everything = [Entry(name=name) for name in (*PRIORS, *(f"own_{i}" for i in range(20)))]
    assert len({found[:2] for found in entry_looks(everything).values()}) == len(everything)


def test_looks_do_not_run_out() -> None:
    assert len({look(i)[:2] for i in range(169)}) == 169


def test_a_few_points_far_out_do_not_squeeze_the_others() -> None:
    values = np.append(np.linspace(0, 1, 200), [1000.0])
    low, high = limits(values)
    assert -0.1 < low < 0
    assert 1 < high < 1.1
    assert limits(values, np.array([5.0]))[1] > 5
    assert limits(np.array([2.0, 2.0])) == (1.9, 2.1)


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [
        (0.001, 10, [0.001, 0.01, 0.1, 1, 10]),
        (0.13, 0.19, [0.13, 0.16, 0.19]),
        (1.2e-3, 2.1e-2, [0.002, 0.005, 0.01, 0.02]),
        (3, 3, [3]),
    ],
)
def test_ticks_of_a_logarithmic_axis_are_few_and_round(low: float, high: float, ticks: list[float]) -> None:
    assert log_ticks(low, high) == pytest.approx(ticks)
    assert len(log_ticks(1e-9, 1e9)) <= 5 + 1


def test_items_are_spread_evenly() -> None:
    assert spread_over([str(i) for i in range(32)], 6) == ["0", "6", "12", "19", "25", "31"]
    assert spread_over(["a", "b"], 6) == ["a", "b"]


@pytest.mark.parametrize("width", [COLUMN, PAGE])
def test_a_page_has_room_for_key_caption_and_panels(width: float) -> None:
    keys = [key(f"{name}(scale=0.1)", own) for name, own in prior_looks(PRIORS).items()]
    caption = "What is shown, of how many seeds. " * 5
    figure, panels = page(4, caption, width=width, keys=keys, title="a title of some length " * 4)
    for panel in panels:
        panel.plot([0, 1], [0, 1])
        panel.set_xlabel("steps")
        panel.set_title("a cell")
    assert figure.get_size_inches()[0] == width
    assert caption_of(figure) == caption.strip()
    assert_no_overlap(figure)


def test_every_column_of_panels_has_numbers_on_its_axis() -> None:
    _, panels = page(5, "n = 1.", sharex=True)
    named = [panel.xaxis.get_tick_params()["labelbottom"] for panel in panels]
    assert named == [False, False, True, True, True]
    assert lowest(panels) == panels[2:]


def test_a_figure_is_written_twice_whole_and_the_same_again(tmp_path: Path, monkeypatch) -> None:
    figure, _ = page(1, "one")
    path = save(figure, tmp_path / "a" / "one.png")
    assert path.read_bytes().startswith(b"\x89PNG")
    pdf = path.with_suffix(".pdf")
    assert pdf.read_bytes().startswith(b"%PDF")
    old = path.read_bytes(), pdf.read_bytes()
    save(figure, path)
    assert (path.read_bytes(), pdf.read_bytes()) == old

    def full(figure: Figure, target: Path, **options: object) -> None:
        Path(target).write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(style, "write_pdf", full)
    monkeypatch.setattr(style, "write_png", full)
    with pytest.raises(OSError, match="disk full"):
        save(figure, path)
    assert (path.read_bytes(), pdf.read_bytes()) == old
    assert {p.name for p in path.parent.iterdir()} == {"one.png", "one.pdf"}


def test_a_figure_is_laid_out_once_for_both_files(tmp_path: Path) -> None:
    class Counted(ConstrainedLayoutEngine):
        times = 0

        def execute(self, fig: Figure) -> None:
            Counted.times += 1
            super().execute(fig)

    figure = Figure(layout=Counted())
    figure.subplots().plot([1, 2])
    save(figure, tmp_path / "one.png")
    assert Counted.times == 1


def test_letters_of_a_pdf_stay_letters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fonts are embedded as TrueType, which publishers ask for. Other tests draw PDFs of another kind."""
    monkeypatch.setattr(style, "FONTS", LETTERS)
    figure = Figure(figsize=(2, 1))
    figure.text(0.1, 0.5, "test loss")
    save(figure, tmp_path / "a.png")
    written = (tmp_path / "a.pdf").read_bytes()
    assert b"/CIDFontType2" in written or b"/TrueType" in written
    assert b"/Type3" not in written
