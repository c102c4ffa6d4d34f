"""Figures of a search, from its summary alone."""

from __future__ import annotations

import pytest

from analysis.figures.search import ENOUGH, history, importances, slices
from softprior.studies.search.summary import Point, Summary
from tests.analysis.figures.overlaps import assert_no_overlap
from tests.analysis.figures.saved import caption_of


def searched(count: int) -> Summary:
    """A search of two parameters over four decades, of which the last proposal was stopped early."""
    points = tuple(
        Point(
            number=i,
            state="pruned" if i == count - 1 else "complete",
            values=(2.0 - i / count,),
            params={"rate": 10.0 ** (-5 + 4 * i / (count - 1)), "method.soft.tokens": 4 + i},
            trials=(f"t{i}",),
            reason=None,
        )
        for i in range(count)
    )
    shares = {"rate": 0.7, "method.soft.tokens": 0.3}
    return Summary(("validation loss",), points, points[-2:-1], (shares,), frozenset({"rate"}))


@pytest.mark.parametrize(("count", "few"), [(6, True), (2 * ENOUGH + 1, False)])
def test_importances_of_few_proposals_come_with_a_caution(count: int, few: bool) -> None:
    figure = importances(searched(count), "a search")
    said = caption_of(figure)
    assert f"n = {count - 1} finished proposals, 2 parameters" in said
    assert ("Caution: fewer than 10 finished proposals per parameter." in said) is few
    bars = figure.axes[0].patches
    assert [bar.get_width() for bar in bars] == [0.3, 0.7]
    assert {bar.get_alpha() for bar in bars} == {0.45 if few else 1.0}


def test_slices_have_one_axis_of_losses_and_few_ticks_on_a_logarithm() -> None:
    figure = slices(searched(6), "a search")
    rate, tokens = figure.axes
    assert rate.get_ylim() == tokens.get_ylim()
    low, high = rate.get_ylim()
    assert low < 2.0 - 5 / 6 < 2.0 < high, "every proposal lies inside"
    assert rate.get_xscale() == "log"
    ticks = [tick for tick in rate.get_xticks() if rate.get_xlim()[0] <= tick <= rate.get_xlim()[1]]
    assert 2 <= len(ticks) <= 4
    assert len(rate.xaxis.get_minorticklocs()) == 0
    assert all(float(tick).is_integer() for tick in tokens.get_xticks())
    assert_no_overlap(figure)


def test_the_history_has_the_lowest_value_so_far() -> None:
    figure = history(searched(6), "a search")
    (line,) = figure.axes[0].lines
    assert line.get_ydata() == pytest.approx([2.0 - i / 6 for i in range(5)]), "of finished proposals"
    assert caption_of(figure) == "6 proposals: 5 finished, 1 stopped early."
