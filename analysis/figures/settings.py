"""A study's trained trials as figures compare them: cells, and in each the priors at their chosen rates."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import pandas as pd
from matplotlib.lines import Line2D

from analysis.figures.palette import prior_looks
from analysis.figures.style import key
from softprior.inputs.entries import Entry
from softprior.inputs.labels import counted, names
from softprior.library.results import Results


@dataclass(frozen=True)
class Cell:
    """Finished trials that differ in prior, rate and seed alone.

    Attributes:
        name: task, method and regularisers; what all trials of the study share is left out.
        trials: rows of the study's table. Column `prior` has the prior's name within the study, `at` the rate
            in words.
    """

    name: str
    trials: pd.DataFrame


def cells(results: Results) -> list[Cell]:
    """The cells of a study, in the order of its table.

    Raises:
        UserError: the first run of the study has not ended.
    """
    trials = results.trials
    trained = trials[(trials.status == "finished") & trials.prior.notna()].copy()
    if trained.empty:
        return []
    tasks, methods, priors = (
        trained[f"{axis}_parameters"].map(_names(trained[f"{axis}_parameters"]))
        for axis in ("task", "method", "prior")
    )
    terms = _terms(trained.regularisers)
    trained["prior"] = priors
    trained["at"] = [
        f"{rate:g} rel" if relative else f"{rate:g}"
        for rate, relative in zip(trained.rate, trained.rate_relative, strict=True)
    ]
    parts = [column for column in (tasks, methods, terms) if column.nunique() > 1]
    where = pd.Series("", index=trained.index)
    for part in parts:
        where = where.str.cat(part, sep=" · ") if where.any() else part
    return [Cell(str(name), own) for name, own in trained.groupby(where, sort=False)]


def _names(texts: pd.Series) -> dict[str, str]:
    return names(Entry.model_validate_json(text) for text in texts.unique())


def _terms(texts: pd.Series) -> pd.Series:
    entries = {text: [Entry.model_validate(value) for value in json.loads(text)] for text in texts.unique()}
    known = names(entry for own in entries.values() for entry in own)
    words = {text: " + ".join(known[e.canonical()] for e in own) or "none" for text, own in entries.items()}
    return texts.map(words)


def chosen(cell: Cell) -> dict[str, pd.DataFrame]:
    """The trials of every prior at the rate that validation chooses.

    The lowest last validation loss, averaged over seeds; of rates with the most seeds alone, as a mean over
    the seeds that survived would flatter a rate at which others failed. The smaller rate where two tie.
    """
    found = {}
    for prior, own in cell.trials.groupby("prior", sort=False):
        rates = (
            own.groupby(["rate", "rate_relative", "at"]).validation_loss.agg(["size", "mean"]).reset_index()
        )
        rates = rates[rates["size"] == rates["size"].max()].sort_values(["mean", "rate"])
        best = rates.iloc[0]
        found[str(prior)] = own[(own.rate == best.rate) & (own.rate_relative == best.rate_relative)]
    return found


CHOSEN = "Each prior at the rate with its lowest mean validation loss."


def prior_keys(priors: Iterable[str], line: bool = False) -> list[Line2D]:
    """A key of priors."""
    return [key(name, look, line) for name, look in prior_looks(priors).items()]


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
