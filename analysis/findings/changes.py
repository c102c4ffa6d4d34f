"""What was lost or added since a study was planned."""

from __future__ import annotations

from collections.abc import Iterable

from analysis.findings.design import Design, Expected, expected, key_of
from analysis.findings.study import Cell, Run
from softprior.inputs.labels import by_number


def lost(cell: Cell, priors: Expected) -> list[str]:
    """The priors that were planned in a cell and have no finished trial there."""
    here = {key_of(run.record.spec).prior for run in _runs(cell)}
    return [name for one in _cells(cell) for key, name in priors.get(one, {}).items() if key not in here]


def lost_reference(cell: Cell, priors: Expected) -> list[str]:
    """The first of a cell's planned priors, which others are compared with, if none of it has finished."""
    gone = lost(cell, priors)
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
    key = key_of(run.record.spec)
    return run.seed in design.seeds and key.prior in priors.get(key.cell, {})


def added(runs: Iterable[Run], design: Design) -> tuple[list[Run], str]:
    """The runs that were planned, and in words what was added to them."""
    priors = expected([design], [])
    kept: list[Run] = []
    others: list[Run] = []
    for run in runs:
        (kept if is_planned(run, design, priors) else others).append(run)
    seeds = sorted({run.seed for run in others} - set(design.seeds))
    known = {key for own in priors.values() for key in own}
    new = dict.fromkeys(run.axes["prior"] for run in others if key_of(run.record.spec).prior not in known)
    parts = [f"{by_number(len(seeds), 'seed', 'seeds')} {', '.join(map(str, seeds))}"] if seeds else []
    parts += [f"{by_number(len(new), 'prior', 'priors')} {', '.join(new)}"] if new else []
    return kept, " and ".join(parts) or ("other trials" if others else "")


def _cells(cell: Cell) -> set[str]:
    return {key_of(run.record.spec).cell for run in _runs(cell)}


def _runs(cell: Cell) -> list[Run]:
    return [run for side in cell.sides.values() for runs in side.rates.values() for run in runs.values()]
