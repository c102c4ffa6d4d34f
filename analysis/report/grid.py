"""Test loss by prior and rate, with intervals over seeds."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from analysis.comparisons import TEST, Row, compare, differing
from analysis.figures.transfer import changes_of
from analysis.findings.reading import Reading
from analysis.findings.study import Cell as Setting
from analysis.findings.study import Run, Side
from analysis.inference.intervals import over_seeds
from analysis.inference.values import LOSS, POWER, Interval
from analysis.report.intervals import ends, explained
from analysis.report.values import Cell, Section, Table, compact, missing, number
from softprior.errors import UserError
from softprior.inputs.entry_texts import names
from softprior.inputs.labels import counted

KEY, TITLE = "grid", "Test losses and their differences"


@dataclass(frozen=True, kw_only=True)
class Mean:
    """A mean over seeds.

    Attributes:
        interval: 95%, over seeds; which has none of one seed or of equal ones.
        trials: whose mean it is.
    """

    value: float
    interval: Interval
    trials: tuple[str, ...]

    @property
    def text(self) -> str:
        """The number with its interval, or with why there is no interval; see `ends`."""
        return f"{number(self.value)}{ends(self.interval)}"


def mean(runs: list[Run]) -> Mean | None:
    """Mean test loss of the seeds of one setting; None if no trial has one."""
    values = {run.id: run.loss for run in runs if run.loss is not None}
    if not values:
        return None
    losses = np.array(list(values.values()))
    return Mean(value=float(losses.mean()), interval=over_seeds(losses, possible=LOSS), trials=tuple(values))


def section(reading: Reading) -> Section:
    """A table per task, method and regulariser."""
    cells = reading.study.cells("prior")
    if not cells:
        return missing(
            KEY, TITLE, "No trial with a trained prompt has finished, so there is no table of priors."
        )
    tables = (*(_table(cell) for cell in cells), *_differences(reading), *_other_tasks(reading))
    return Section(key=KEY, title=TITLE, blocks=tables)


def _other_tasks(reading: Reading) -> list[Table]:
    """What prompts do to the losses of tasks that they were not trained for, at the chosen rates."""
    runs = reading.study.runs
    called = names(
        entry for run in runs for entry in (run.record.spec.task, *(other.task for other in run.record.also))
    )
    rows, intervals = [], []
    for cell in reading.study.cells("prior"):
        for side in cell.sides.values():
            found: dict[str, dict[str, float]] = {}
            for run in side.runs.values():
                own = run.record.spec.task.canonical()
                for task, change in changes_of(run, cell.baseline).items():
                    if task != own:
                        found.setdefault(task, {})[run.id] = change
            for task, changes in found.items():
                values = np.array(list(changes.values()))
                told = Mean(value=float(values.mean()), interval=over_seeds(values), trials=tuple(changes))
                intervals.append(told.interval)
                seeds = Cell(str(len(values)), float(len(values)), told.trials)
                difference = Cell(told.text, told.value, told.trials)
                rows.append((Cell(side.name), Cell(cell.where), Cell(called[task]), difference, seeds))
    if not rows:
        return []
    caption = (
        "On other tasks (evaluation.also): loss with the final prompt minus loss without any, in nats per "
        f"label token, each prior at the rate chosen on validation.{explained(intervals)} "
        "Above 0 the prompt makes the model worse there: on running text it forgets. From also/TASK/loss and "
        "also/TASK/baseline_loss in trials.parquet."
    )
    columns = ("prior", "trained for", "measured on", "change of the loss", "seeds")
    return [Table(caption=caption, columns=columns, rows=tuple(rows), numbers=frozenset({3, 4}))]


DIFFERENCES = (
    "where",
    "difference",
    "over all rates",
    "detectable",
    "p (Holm)",
    "smallest p",
    "seeds",
    "tuned over",
)


def _differences(reading: Reading) -> list[Table]:
    """Every value of an axis against the study's first, seed by seed: of priors, and of what else varies.

    But for the task, whose losses do not compare.
    """
    others = [axis for axis in differing(reading.study) if axis not in ("task", "prior")]
    return [table for axis in ("prior", *others) for table in _along(reading, axis)]


def _along(reading: Reading, axis: str) -> list[Table]:
    try:
        rows = [row for row in compare(reading.study, axis) if row.difference is not None]
    except UserError:  # one value
        return []
    if not rows:
        return []
    tests = sum(row.seeds > 1 for row in rows)
    intervals = [row.interval for row in rows if row.interval is not None]
    own = "" if axis == "rate" else ", each side at its own chosen rate"
    caption = (
        f"Differences of test loss along the axis {axis}, from the first value in nats (negative is better), "
        f"seed by seed{own}.{explained(intervals)}"
    )
    if any(row.averaged is not None for row in rows):
        caption += " Over all rates: the same averaged over rates."
    if any(row.detectable is not None for row in rows):
        caption += (
            " Detectable: the smallest true difference that these seeds would have shown with "
            f"{POWER:.0%} power at the level of Holm's first test."
        )
    if tests:
        caption += (
            f" p: {TEST}, raw, then Holm over {counted(tests, 'comparison')}; with so few seeds it cannot "
            "be below the smallest p."
        )
    if axis != "rate":
        caption += " Tuned over: the number of rates of both sides."
    caption += " The command python -m jobs.compare prints the same along any axis."
    return [compact(caption, (axis, *DIFFERENCES), [_difference(row) for row in rows], DIFFERENCES[1:])]


def _difference(row: Row) -> tuple[Cell, ...]:
    assert row.difference is not None
    assert row.interval is not None
    tested = row.seeds > 1
    return (
        Cell(f"{row.value} \N{MINUS SIGN} {row.reference}"),
        Cell(row.where),
        Cell(f"{number(row.difference)}{ends(row.interval)}", row.difference, row.trials),
        Cell(number(row.averaged), row.averaged, row.averaged_trials),
        Cell(number(row.detectable), row.detectable, row.trials),
        Cell(f"{row.p:.3g} ({row.adjusted:.3g})" if tested else "", row.adjusted, row.trials),
        Cell(f"{row.least_p:.2g}" if tested else "", row.least_p, row.trials),
        Cell(str(row.seeds), float(row.seeds), row.trials),
        Cell(
            " and ".join(map(str, row.budgets)) if row.rates is not None else "",
            trials=row.averaged_trials or row.trials,
        ),
    )


def _table(cell: Setting) -> Table:
    rates = list(dict.fromkeys(rate for side in cell.sides.values() for rate in side.rates))
    means = [
        [mean(list(side.rates.get(rate, {}).values())) for rate in rates] for side in cell.sides.values()
    ]
    intervals = [own.interval for found in means for own in found if own is not None]
    rows = [_row(side, rates, found) for side, found in zip(cell.sides.values(), means, strict=True)]
    if cell.baseline is not None and cell.baseline.test is not None:
        loss = cell.baseline.test.loss
        nothing = Cell(number(loss), loss, (cell.baseline.id,))
        rows.append((Cell("no prompt"), nothing, *(Cell("") for _ in rates[1:])))
    seeds = {len(runs) for side in cell.sides.values() for runs in side.rates.values()}
    several = f"{min(seeds)} to {max(seeds)} seeds" if len(seeds) > 1 else counted(max(seeds), "seed")
    return Table(
        caption=f"{cell.where}: mean test loss in nats per label token over {several}."
        f"{explained(intervals)} Set off: the rate chosen for the prior on validation loss. From test_loss "
        "and validation_loss in trials.parquet.",
        columns=("prior", *(f"rate {rate}" for rate in rates)),
        rows=tuple(rows),
        numbers=frozenset(range(1, len(rates) + 1)),
    )


def _row(side: Side, rates: list[str], means: list[Mean | None]) -> tuple[Cell, ...]:
    cells = [Cell(side.name)]
    for rate, found in zip(rates, means, strict=True):
        if found is None:
            cells.append(Cell(""))
        else:
            cells.append(Cell(found.text, found.value, found.trials, strong=rate == side.chosen))
    return tuple(cells)
