"""Figures of findings, which take plain numbers: equality, forgetting, transfer, connectivity, variance."""

from __future__ import annotations

import numpy as np
import pytest

from analysis.figures.components import Variance, draw_components
from analysis.figures.connectivity import Path, draw_connectivity
from analysis.figures.equivalence import LOOKS, Difference, Equivalence, draw_equivalence
from analysis.figures.forgetting import Forgetting, Forgot, draw_forgetting, pareto
from analysis.figures.style import COLUMN, PAGE, caption_of
from analysis.figures.transfer import Transfer, draw_transfer
from tests.analysis.figures.overlaps import assert_no_overlap

WIDTHS = pytest.mark.parametrize("width", [COLUMN, PAGE])


@WIDTHS
def test_a_difference_is_equal_different_or_undecided_by_its_interval(width: float) -> None:
    rows = {
        "equal": (0.0, -0.05, 0.05),
        "different": (0.4, 0.2, 0.6),
        "undecided": (0.05, 0.0, 0.2),
    }
    differences = [
        Difference(name=f"{name}(quantile=0.95) - isotropic", value=v, low=low, high=high, seeds=9)
        for name, (v, low, high) in rows.items()
    ]
    assert [difference.verdict(0.1) for difference in differences] == list(rows)
    assert Difference(name="one", value=0.0, low=np.nan, high=np.nan, seeds=1).verdict(0.1) == "undecided"
    figure = draw_equivalence(Equivalence(differences=tuple(differences), margin=0.1), width)
    assert "over 9 seeds with 90% intervals. Shaded: the margin of equality, ± 0.1 nats." in caption_of(
        figure
    )
    lines = [
        line for line in figure.axes[0].lines if len(line.get_xdata()) == 2 and line.get_linewidth() == 1.5
    ]
    assert [tuple(line.get_xdata()) for line in lines] == [row[1:] for row in rows.values()]
    assert [line.get_color() for line in lines] == [LOOKS[name][0] for name in rows]
    assert_no_overlap(figure)


def test_the_front_is_what_no_other_beats() -> None:
    points = np.array([[1.0, 3.0], [2.0, 2.0], [2.0, 4.0], [3.0, 1.0], [3.0, 3.0], [2.0, 2.0]])
    assert points[pareto(points)].tolist() == [[1, 3], [2, 2], [2, 2], [3, 1]]
    assert pareto(np.zeros((0, 2))).tolist() == []


@WIDTHS
def test_forgetting_has_trials_means_and_their_front(width: float) -> None:
    trials = [
        Forgot(prior=prior, seed=seed, loss=loss + 0.1 * seed, forgetting=forgetting)
        for prior, loss, forgetting in (
            ("isotropic", 1.0, 0.5),
            ("fitted", 2.0, 0.1),
            ("vocabulary", 3.0, 0.7),
        )
        for seed in (0, 1)
    ]
    cell = Forgetting(where="soft", trials=tuple(trials))
    assert cell.means()["isotropic"] == pytest.approx((1.05, 0.5))
    figure = draw_forgetting([cell], width)
    front = figure.axes[0].lines[-1]
    assert front.get_xdata().tolist() == pytest.approx([1.05, 2.05])
    assert "6 trials, 2 seeds (0 to 1) per prior" in caption_of(figure)
    assert_no_overlap(figure)


@WIDTHS
def test_transfer_has_every_number_and_frames_a_prompts_own_task(width: float) -> None:
    found = Transfer(
        trained=("squad", "arithmetic"),
        tested=("squad", "arithmetic", "language"),
        change=np.array([[-1.0, 0.2, np.nan], [0.1, -2.0, 0.5]]),
        spread=np.full((2, 3), 0.25),
        seeds=3,
        where="fitted · soft",
    )
    figure = draw_transfer(found, width)
    (panel,) = figure.axes
    words = [text.get_text() for text in panel.texts]
    assert words == [
        "-1.00\n± 0.25",
        "+0.20\n± 0.25",
        "none",
        "+0.10\n± 0.25",
        "-2.00\n± 0.25",
        "+0.50\n± 0.25",
    ]
    assert len(panel.patches) == 2
    assert "n = 3 seeds at least" in caption_of(figure)
    assert_no_overlap(figure)


@WIDTHS
def test_the_barrier_is_above_the_line_between_the_ends(width: float) -> None:
    at = np.array([0.0, 0.5, 1.0])
    high = Path(name="isotropic to fitted", seeds=(0, 1), at=at, losses=np.array([[2.0, 5, 1], [2, 3, 1]]))
    low = Path(name="fitted to fitted", seeds=(0, 1), at=at, losses=np.array([[2.0, 1, 1], [2, 1, 1]]))
    assert high.barrier() == pytest.approx(4 - 1.5)
    assert low.barrier() == 0
    figure = draw_connectivity([high, low], nothing=6.0, width=width)
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels == ["isotropic to fitted (2.50 nats)", "fitted to fitted (0.00 nats)"]
    assert "mean over 2 seeds (0 to 1)" in caption_of(figure)
    assert_no_overlap(figure)


@WIDTHS
def test_shares_of_variance_add_up_to_one_bar(width: float) -> None:
    parts = {"prior draw": 0.3, "data order": 0.1, "examples": 0.6, "rounding": 0.0}
    found = Variance(name="fitted", parts=parts, n="9 seeds x 512 examples")
    assert found.shares() == pytest.approx(parts)
    still = Variance(name="zeros", parts=dict.fromkeys(parts, 0.0), n="9 seeds x 512 examples")
    assert set(still.shares().values()) == {0.0}
    figure = draw_components([found, still], width=width)
    (panel,) = figure.axes
    assert [bar.get_width() for bar in panel.patches[:4]] == pytest.approx([0.3, 0.1, 0.6, 0.0])
    assert [text.get_text() for text in panel.texts] == ["30%", "10%", "60%", "1", "0"]
    assert "from 9 seeds x 512 examples" in caption_of(figure)
    assert_no_overlap(figure)
