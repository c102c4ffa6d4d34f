"""What was lost or added since a study was planned."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from analysis.findings.design import Design, Expected, expected, planned_steps
from analysis.findings.study import Cell, Run
from softprior.inputs.labels import by_number


def lost(cell: Cell, priors: Expected) -> list[str]:
    """The priors that were planned in a cell and have no finished trial there."""
    if not priors:
        return []
    here = {run.key.prior for run in _runs(cell)}
    return [name for one in _cells(cell) for key, name in priors.get(one, {}).items() if key not in here]


def lost_reference(cell: Cell, priors: Expected) -> list[str]:
    """The first of a cell's planned priors, which others are compared with, if none of it has finished."""
    gone = lost(cell, priors)
    if not gone:
        return []
    firsts = [next(iter(own.values())) for own in (priors.get(key, {}) for key in _cells(cell)) if own]
    return [name for name in firsts if name in gone]


def why_lost(priors: list[str]) -> str:
    """Why a claim about all priors is undecided without some of them, and what helps."""
    what, has = by_number(len(priors), "prior", "priors"), by_number(len(priors), "has", "have")
    return (
        f"the planned {what} {', '.join(priors)} {has} no usable trial here; see what is wrong with these "
        "trials and run them again"
    )


def is_planned(run: Run, design: Design, priors: Expected) -> bool:
    """Whether a trial's seed and prior were in the design.

    Args:
        priors: of this design alone.
    """
    return run.seed in design.seeds and run.key.prior in priors.get(run.key.cell, {})


class Addition(NamedTuple):
    """Trials that were added to a design for one reason.

    Attributes:
        words: what was added.
        trials: their ids.
    """

    words: str
    trials: frozenset[str]


def added(runs: Iterable[Run], design: Design | None) -> tuple[list[Run], list[Addition]]:
    """The runs that were planned, and what was added to them: seeds, each prior, and steps.

    A run of an added prior with an added seed belongs to both. Steps were changed for a run that went on from
    an earlier, shorter one, and for one that has other steps than its cell was planned with.

    Args:
        design: None if the study has none; then only runs that went on are known to have other steps.
    """
    every = list(runs)
    steps = _steps(every, {} if design is None else planned_steps(design))
    changed = frozenset[str]().union(*(one.trials for one in steps))
    if design is None:
        return [run for run in every if run.id not in changed], steps
    priors = expected([design], [])
    kept: list[Run] = []
    others: list[Run] = []
    for run in every:
        planned = run.id not in changed and is_planned(run, design, priors)
        (kept if planned else others).append(run)
    seeds = sorted({run.seed for run in others} - set(design.seeds))
    known = {key for own in priors.values() for key in own}
    new: dict[str, set[str]] = {}
    for run in others:
        if run.key.prior not in known:
            new.setdefault(run.axes["prior"], set()).add(run.id)
    found = [Addition(f"prior {name}", frozenset(trials)) for name, trials in new.items()]
    if seeds:
        words = f"{by_number(len(seeds), 'seed', 'seeds')} {', '.join(map(str, seeds))}"
        trials = frozenset(run.id for run in others if run.seed in seeds)
        found.insert(0, Addition(words, trials))
    found += steps
    rest = frozenset(run.id for run in others).difference(*(one.trials for one in found))
    return kept, [*found, *([Addition("other trials", rest)] if rest else [])]


def _steps(runs: Iterable[Run], planned: Mapping[str, int]) -> list[Addition]:
    """The runs whose steps are others than before, in words that name the earlier steps.

    Args:
        planned: steps by `Key.cell`.
    """
    words: dict[str, dict[str, int]] = {"beyond": {}, "below": {}}
    for run in runs:
        spec = run.record.spec
        own = 0 if spec.training is None else spec.training.steps
        before = planned.get(run.key.cell, own)
        if run.record.continued is not None:
            words["beyond"][run.id] = run.record.continued.step
        elif own != before:
            words["beyond" if own > before else "below"][run.id] = before
    found = {
        word: ", ".join(f"{step:,}" for step in sorted(set(own.values()))) for word, own in words.items()
    }
    return [Addition(f"steps {word} {found[word]}", frozenset(own)) for word, own in words.items() if own]


def _cells(cell: Cell) -> set[str]:
    return {run.key.cell for run in _runs(cell)}


def _runs(cell: Cell) -> list[Run]:
    return [run for side in cell.sides.values() for runs in side.rates.values() for run in runs.values()]
