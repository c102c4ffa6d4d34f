"""What figures of a study have in common: looks of its priors, and words about seeds."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from analysis.figures.palette import Looks, entry_looks, prior_looks
from analysis.figures.style import key
from analysis.findings.reading import Reading
from analysis.inference.intervals import TWO_SEEDS
from softprior.inputs.labels import counted
from softprior.results.entries import planned_priors

Draw = Callable[[], Figure | None]
"""Draws a figure; None where the study lacks what it shows."""

CHOSEN = "Each prior at the rate with its lowest mean validation loss."


def looks_of(reading: Reading) -> Looks:
    """The look of every prior of a study by its name there, the same in all figures of the study.

    All planned priors count, also those whose trials have failed or not ended yet, so that a study that is
    running has the looks that it will have at its end, and figures of single trials the same ones.
    """
    ended = (record.spec.prior for record in reading.records.values())
    planned = (entry for results in reading.results for entry in planned_priors(results.study))
    known = entry_looks(entry for entry in (*planned, *ended) if entry is not None)
    return {
        run.axes["prior"]: known[run.record.spec.prior.canonical()]
        for run in reading.study.runs
        if run.record.spec.prior is not None
    }


def looks_for(priors: Iterable[str], looks: Looks | None) -> Looks:
    """The looks of what a figure shows: those of its study, or by name where none are given."""
    names = list(dict.fromkeys(priors))
    known = prior_looks(names) if looks is None else looks
    return {name: known[name] for name in names}


def short_rate(rate: str) -> str:
    """A rate in words, as it fits beside others."""
    return rate.replace(" relative", " rel")


def no_prompt(shown: bool, far: Sequence[float]) -> str:
    """What a caption says of the loss without a prompt.

    Args:
        shown: whether some panel has a dotted line at it.
        far: the losses of panels whose points it would squeeze.
    """
    losses = ", ".join(f"{loss:.3g}" for loss in far)
    if shown and far:
        return f" Dotted: no prompt; off the axis where there is no line ({losses})."
    if shown:
        return " Dotted: no prompt."
    return f" Without a prompt the loss is {losses}, off the axis." if far else ""


def no_intervals(reasons: Iterable[str], numbers: str) -> str:
    """What a caption says of intervals that are not drawn.

    Args:
        reasons: of each number with two seeds at least, see `Interval.missing`.
        numbers: that each seed has, such as `losses`.
    """
    missing, text = set(filter(None, reasons)), ""
    if TWO_SEEDS in missing:
        text += " Two seeds have no interval."
    if missing - {TWO_SEEDS}:
        text += f" Seeds with equal {numbers} have no interval."
    return text


def prior_keys(looks: Looks, line: bool = False) -> list[Line2D]:
    """A key of priors."""
    return [key(name, look, line) for name, look in looks.items()]


def band_text(groups: Sequence[Sequence[int]]) -> str:
    """What a line and its band are, over the seeds of all groups."""
    seeds = seeds_text(groups)
    if max((len(set(group)) for group in groups), default=0) < 2:
        return f"{seeds}, so no band"
    return f"mean over {seeds}, bands from the lowest to the highest seed"


def seeds_text(groups: Iterable[Sequence[int]]) -> str:
    """The number of seeds of all groups in words: `5 seeds (0 to 4)`, or `3 to 5 seeds`."""
    known = [sorted(set(group)) for group in groups]
    if not known:
        return "no seeds"
    sizes = sorted({len(group) for group in known})
    if len(sizes) > 1:
        return f"{sizes[0]} to {counted(sizes[-1], 'seed')}"
    if all(group == known[0] for group in known):
        first, last = known[0][0], known[0][-1]
        if sizes[0] == 1:
            return f"1 seed ({first})"
        whole = last - first + 1 == sizes[0]
        listed = f"{first} to {last}" if whole else ", ".join(map(str, known[0]))
        return f"{sizes[0]} seeds ({listed})"
    return counted(sizes[0], "seed")
