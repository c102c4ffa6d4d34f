"""What a search found: the best points, what mattered, and how it went, as plain data."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import optuna
from optuna import Study
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial, TrialState

from softprior.errors import UserError
from softprior.results.digested import read_header, write_digested
from softprior.results.folder import StudyFolder
from softprior.studies.search.storage import REASON, TRIALS

FEWEST = 4
"""Fewest finished points from which importances are meaningful."""

ENOUGH = 10
"""Finished proposals per parameter below which importances are mostly chance."""

BEST = 10
"""Number of points that are listed."""


class Point(NamedTuple):
    """One proposal.

    Attributes:
        number: Optuna's.
        state: `complete`, `pruned` (stopped early), `fail`, or `running`.
        values: of the objectives; for a stopped proposal its last validation loss; empty if there is none.
        params: by parameter; those whose condition is not met are left out.
        trials: ids.
        reason: why it failed.
    """

    number: int
    state: str
    values: tuple[float, ...]
    params: dict[str, object]
    trials: tuple[str, ...]
    reason: str | None


class Summary(NamedTuple):
    """A search in numbers.

    Attributes:
        objectives: what they are called.
        points: all proposals in order.
        best: finished ones, the lowest value first; with several objectives those that no other beats in all.
        importances: for every objective by parameter: PED-ANOVA's share of what tells good points from
            the others; empty with too few points.
        logs: parameters whose logarithm is searched.
    """

    objectives: tuple[str, ...]
    points: tuple[Point, ...]
    best: tuple[Point, ...]
    importances: tuple[dict[str, float], ...]
    logs: frozenset[str]

    @property
    def finished(self) -> list[Point]:
        """The proposals that were measured to their end."""
        return [point for point in self.points if point.state == "complete"]

    @property
    def chancy(self) -> bool:
        """Whether importances are mostly chance, as too few proposals have finished."""
        return len(self.finished) < ENOUGH * max(map(len, self.importances), default=0)


def lowest(summary: Summary) -> dict[str, float]:
    """The lowest value of every objective among a search's best points."""
    if not summary.best:
        return {}
    values = zip(*(point.values for point in summary.best), strict=True)
    named = zip(summary.objectives, values, strict=True)
    return {f"lowest_{name.replace(' ', '_')}": min(own) for name, own in named}


def save_summary(folder: StudyFolder, summary: Summary) -> None:
    """Writes `search/summary.json`, the best points by their numbers."""
    value = {
        "objectives": summary.objectives,
        "best": [point.number for point in summary.best],
        "importances": dict(zip(summary.objectives, summary.importances, strict=True)),
        "points": [point._asdict() for point in summary.points],
        "logs": sorted(summary.logs),
    }
    write_digested(folder.summary, value)


def load_summary(folder: StudyFolder) -> Summary:
    """Reads it back.

    Raises:
        FileNotFoundError: there is none, in the folder of a grid or of a search that has not ended.
        UserError: it is damaged.
    """
    value = read_header(folder.summary, _REWRITTEN)
    try:
        points = {point["number"]: _read(point) for point in value["points"]}
        return Summary(
            tuple(value["objectives"]),
            tuple(points.values()),
            tuple(points[number] for number in value["best"]),
            tuple(value["importances"][objective] for objective in value["objectives"]),
            frozenset(value.get("logs", ())),
        )
    except (KeyError, TypeError) as error:
        raise UserError(f"{folder.summary} is damaged ({error}); {_REWRITTEN}") from None


_REWRITTEN = "run the same search again to rewrite it"


def _read(point: dict[str, Any]) -> Point:
    tuples = {name: tuple(point[name]) for name in ("values", "trials")}
    return Point(**{**point, **tuples})


Show = Callable[[str, object], tuple[str, object]]
"""A parameter's name and value as people see them, from those in Optuna: `Space.shown`."""


def summarise(study: Study, show: Show = lambda name, value: (name, value)) -> Summary:
    """Summarises a search from its Optuna study."""
    trials = [t for t in study.get_trials(deepcopy=False) if t.state != TrialState.WAITING]
    complete = [t for t in trials if t.state == TrialState.COMPLETE]
    objectives = tuple(study.metric_names or ())
    if len(objectives) > 1:
        best = sorted(study.best_trials, key=lambda t: tuple(t.values))
    else:
        best = sorted(complete, key=lambda t: (t.values[0], t.number))[:BEST]
    logs = frozenset(
        show(name, None)[0]
        for trial in trials
        for name, found in trial.distributions.items()
        if isinstance(found, FloatDistribution | IntDistribution) and found.log
    )
    importances = tuple(
        {show(name, None)[0]: share for name, share in _importances(study, complete, i).items()}
        for i in range(len(objectives))
    )
    points, first = (tuple(_point(trial, show) for trial in several) for several in (trials, best))
    return Summary(objectives, points, first, importances, logs)


def _importances(study: Study, complete: list[FrozenTrial], objective: int) -> dict[str, float]:
    if len(complete) < FEWEST or len({t.values[objective] for t in complete}) == 1:
        return {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the evaluator is new in Optuna 5 and says so
        found = optuna.importance.get_param_importances(study, target=lambda t: t.values[objective])
    return {name: float(value) for name, value in found.items()}


def _point(trial: FrozenTrial, show: Show) -> Point:
    values = tuple(trial.values or ())
    return Point(
        trial.number,
        trial.state.name.lower(),
        values,
        dict(show(name, _value(trial, name)) for name in trial.params),
        tuple(trial.user_attrs.get(TRIALS, ())),
        trial.user_attrs.get(REASON),
    )


def _value(trial: FrozenTrial, name: str) -> object:
    found = trial.params[name]
    return found if isinstance(trial.distributions[name], CategoricalDistribution) else float(f"{found:.6g}")
