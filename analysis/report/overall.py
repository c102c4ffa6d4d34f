"""Priors over all tasks, methods and regularisers of a study at once."""

from __future__ import annotations

from analysis.findings.reading import Reading
from analysis.inference.intervals import FEWEST
from analysis.overall import Overall, overall
from analysis.report.intervals import ends
from analysis.report.values import Cell, Section, compact, missing, number
from softprior.inputs.labels import counted

KEY, TITLE = "overall", "Priors over all tasks"

COLUMNS = ("prior", "score", "over all rates", "better than the first", "seeds", "tuned over")


def section(reading: Reading) -> Section:
    """A row per prior, as `jobs.compare RESULTS prior` prints it."""
    priors = overall(reading.study)
    if not priors:
        why = "Scores need two priors and two seeds, and a prompt that is better than none."
        return missing(KEY, TITLE, why)
    first = priors[0]
    cells = counted(first.cells, "combination")
    intervals = (
        "In brackets 95% intervals over seeds" if first.seeds >= FEWEST else "Two seeds have no interval"
    )
    averaged = " and averaged over rates" if any(own.averaged is not None for own in priors) else ""
    caption = (
        f"Over {cells} of task, method and regularisers, {counted(first.seeds, 'seed')} each. Score: "
        "interquartile mean of test losses between no prompt (0) and the best prior (1), at the rate chosen "
        f"on validation{averaged}. Better: the share of seeds in which its loss is lower than "
        f"that of {first.prior} with the same seed, ties counting half. {intervals}. From test_loss in "
        "trials.parquet."
    )
    return Section(
        key=KEY,
        title=TITLE,
        blocks=(compact(caption, COLUMNS, [_row(o, first) for o in priors], COLUMNS[1:]),),
    )


def _row(own: Overall, first: Overall) -> tuple[Cell, ...]:
    better = Cell("")
    if own.better is not None:
        both = (*own.trials, *first.trials)
        behind = "" if own.better_interval is None else ends(own.better_interval)
        better = Cell(f"{number(own.better)}{behind}", own.better, both)
    return (
        Cell(own.prior),
        Cell(f"{number(own.score)}{ends(own.interval)}", own.score, own.trials),
        Cell(number(own.averaged), own.averaged, own.averaged_trials),
        better,
        Cell(str(own.seeds), float(own.seeds), own.trials),
        Cell(str(own.budget), float(own.budget), own.averaged_trials or own.trials),
    )
