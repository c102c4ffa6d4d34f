"""A study's finished trials, arranged for comparisons: what is compared, at which rate, over which seeds."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from analysis.findings.design import Design, Key, key_of
from analysis.inference.values import PerExample
from softprior.inputs.entries import Entry
from softprior.inputs.entry_texts import names
from softprior.inputs.specs import Repeat
from softprior.results.records import Record

if TYPE_CHECKING:
    from softprior.results.posteriors import Posterior

AXES = ("task", "method", "prior", "regularisers", "rate")
"""What trials differ in, beside the seed."""

NONE = "none"
"""Stands for no regulariser."""

BASELINE = "none"
"""The method without any prompt."""

Number = Callable[["Run"], "float | None"]
"""One number of a trial; None where the trial has none."""


@dataclass(frozen=True)
class Run:
    """A finished trial with a trained prompt.

    Attributes:
        record: what it left.
        axes: by name of `AXES`, in words that tell the study's trials apart.
        seed: of its draws and its data order.
    """

    record: Record
    axes: Mapping[str, str]
    seed: int

    @property
    def id(self) -> str:
        return self.record.id

    @cached_property
    def key(self) -> Key:
        """What identifies it in a design."""
        return key_of(self.record.spec)

    @property
    def loss(self) -> float | None:
        """On the test split, in nats per label token."""
        return None if self.record.test is None else self.record.test.loss


@dataclass(frozen=True)
class Side:
    """One value of the axis that is compared, in one cell.

    Attributes:
        name: the value, such as `fitted`.
        rates: its trials by rate and seed, rates in the study's order.
    """

    name: str
    rates: Mapping[str, Mapping[int, Run]]

    @cached_property
    def chosen(self) -> str:
        """The rate that validation chooses: with the lowest last loss, averaged over seeds.

        Of the rates at which most seeds have finished alone, as a mean over the seeds that survived would
        flatter a rate at which others failed. The smaller rate where two tie.
        """
        most = max(map(len, self.rates.values()))
        whole = [rate for rate, runs in self.rates.items() if len(runs) == most]
        return min(whole, key=lambda rate: _validation(self.rates[rate].values()))

    @property
    def runs(self) -> Mapping[int, Run]:
        """Its trials at the chosen rate, by seed."""
        return self.rates[self.chosen]

    def values(self, number: Number, averaged: bool = False) -> dict[int, float]:
        """A number of each seed, at the chosen rate or averaged over all rates.

        Seeds without the number are left out; in averages, those that lack it at any rate.
        """
        if not averaged:
            return {s: value for s, run in self.runs.items() if (value := number(run)) is not None}
        tables = [{s: number(run) for s, run in runs.items()} for runs in self.rates.values()]
        found = {}
        for seed in tables[0]:
            values = [table.get(seed) for table in tables]
            known = [value for value in values if value is not None]
            if len(known) == len(tables):
                found[seed] = float(np.mean(known))
        return found

    def trials(self, seeds: Collection[int], averaged: bool = False) -> tuple[str, ...]:
        """Ids of the trials of some seeds, at the chosen rate or at all."""
        tables = self.rates.values() if averaged else [self.runs]
        return tuple(runs[seed].id for runs in tables for seed in sorted(seeds) if seed in runs)


@dataclass(frozen=True)
class Cell:
    """Trials that differ in one axis, the rate and the seed alone.

    Attributes:
        where: the values on the other axes, in words.
        sides: by value of the axis, in the study's order.
        baseline: of the same task without a prompt, if it has finished.
    """

    where: str
    sides: Mapping[str, Side]
    baseline: Record | None = None

    @property
    def runs(self) -> list[Run]:
        """The trials of all sides, each at its chosen rate."""
        return [run for side in self.sides.values() for run in side.runs.values()]

    @property
    def rates(self) -> dict[str, str]:
        """The rate chosen for each side."""
        return {name: side.chosen for name, side in self.sides.items()}

    @property
    def budget(self) -> dict[str, int]:
        """Number of rates that each side was tuned over."""
        return {name: len(side.rates) for name, side in self.sides.items()}

    def differences(self, a: str, b: str, number: Number, averaged: bool = False) -> Float[np.ndarray, "S"]:
        """a less b of each seed that both have, each at its own chosen rate."""
        first, second = (self.sides[name].values(number, averaged) for name in (a, b))
        return np.array([first[seed] - second[seed] for seed in sorted(first.keys() & second.keys())])

    def trials(self, a: str, b: str, number: Number, averaged: bool = False) -> tuple[str, ...]:
        """Ids of the trials that `differences` come from."""
        first, second = (self.sides[name] for name in (a, b))
        seeds = first.values(number, averaged).keys() & second.values(number, averaged).keys()
        return tuple(i for side in (first, second) for i in side.trials(seeds, averaged))

    def by_example(self, a: str, b: str, table: Mapping[str, PerExample]) -> PerExample | None:
        """a less b of each example and seed, each at its own chosen rate.

        None unless every seed that both have was measured on the same examples.
        """
        first, second = (self.sides[name].runs for name in (a, b))
        seeds = tuple(sorted(first.keys() & second.keys()))
        both = [[table.get(runs[seed].id) for runs in (first, second)] for seed in seeds]
        known = [one for pair in both for one in pair if one is not None]
        if not known or len(known) < 2 * len(seeds) or len({one.examples for one in known}) > 1:
            return None
        values = np.concatenate([known[2 * i].values - known[2 * i + 1].values for i in range(len(seeds))])
        return PerExample(values, known[0].weights, known[0].groups, seeds, known[0].examples)


def mean_loss(side: Side) -> float:
    """Mean test loss over the seeds at the chosen rate; nan where no seed has one."""
    values = list(side.values(lambda run: run.loss).values())
    return float(np.mean(values)) if values else float("nan")


@dataclass(frozen=True)
class Study:
    """All that claims may look at.

    Attributes:
        runs: finished trials with a trained prompt, in the study's order.
        baselines: the no-prompt trial of each task, by the task's name in `Run.axes`.
        posteriors: where vectors started and ended, by trial id.
        vocabulary: a sample of what the embedding layer returns for tokens; None if the study kept none.
        numbers: numbers that trials leave beside their records, by name and trial id: `forgetting` (loss on
            running text with the prompt minus without), `projection` (Jensen-Shannon divergence of outputs
            under the prompt and under its nearest tokens), `without_near`, `without_far` and `without_random`
            (test loss after removing the vectors nearest to the vocabulary, farthest from it, and random
            ones).
        examples: losses of each example of the trial's own test split by trial id, one row each.
        texts: the same of running text that the trial's final prompt was measured on.
        twins: the same training from a start moved by rounding's size, by the id of the run that it repeats.
            Never a seed of its own.
        reordered: the same start trained with another order of the data, by the id of the run that it
            repeats. Never a seed either.
        planned: rule of each claim that was in the study's list when it started, by the claim's name.
        design: seeds and priors that were planned when it started; None where that is not known.
        expected: what the planned priors are called, see `design.expected`.
    """

    runs: Sequence[Run]
    baselines: Mapping[str, Record] = field(default_factory=dict)
    posteriors: Mapping[str, Posterior] = field(default_factory=dict)
    vocabulary: Float[np.ndarray, "N H"] | None = None
    numbers: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    examples: Mapping[str, PerExample] = field(default_factory=dict)
    texts: Mapping[str, PerExample] = field(default_factory=dict)
    twins: Mapping[str, Run] = field(default_factory=dict)
    reordered: Mapping[str, Run] = field(default_factory=dict)
    planned: Mapping[str, str] = field(default_factory=dict)
    design: Design | None = None
    expected: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    def cells(self, axis: str = "prior", least: int = 1) -> list[Cell]:
        """Every set of trials that differ in one axis, the rate and the seed alone.

        Args:
            axis: what is compared; with `rate` each rate is a side of its own.
            least: fewest sides.
        """
        others = [name for name in AXES if name not in (axis, "rate")]
        groups: dict[tuple[str, ...], dict[str, dict[str, dict[int, Run]]]] = {}
        for run in self.runs:
            sides = groups.setdefault(tuple(run.axes[name] for name in others), {})
            sides.setdefault(run.axes[axis], {}).setdefault(run.axes["rate"], {})[run.seed] = run
        cells = []
        for key, sides in groups.items():
            if len(sides) >= least:
                task = dict(zip(others, key, strict=True)).get("task", "")
                made = {name: Side(name, rates) for name, rates in sides.items()}
                cells.append(Cell(_where(others, key), made, self.baselines.get(task)))
        return cells

    def pairs(self, runs: Iterable[Run], repeats: Mapping[str, Run]) -> list[tuple[Run, Run]]:
        """Those of the runs that have a repetition among `twins` or `reordered`, each with it."""
        return [(run, repeats[run.id]) for run in runs if run.id in repeats]


def weight_of(term: Entry) -> float:
    """The weight of a regulariser; 1 if it was not given."""
    weight = term.params.get("weight", 1.0)
    assert isinstance(weight, int | float)
    return float(weight)


def is_faulty(record: Record) -> bool:
    """Whether the trial's own checks say that its numbers are wrong."""
    return any(check.verdict == "fault" for check in record.sanity)


def runs_of(records: Iterable[Record]) -> tuple[list[Run], dict[str, Record]]:
    """Finished trials without a fault as runs, and the no-prompt baselines by the task's name.

    Repeated trials are left out, see `repeats_of`. Names tell apart what differs among these records, as
    `labels` does.
    """
    finished = [record for record in records if record.spec.repeat is None and _counts(record)]
    tasks = names(record.spec.task for record in finished)
    trained = [r for r in finished if r.spec.prior is not None and r.spec.rate is not None]
    methods = names(record.spec.method for record in trained)
    priors = names(r.spec.prior for r in trained if r.spec.prior is not None)
    terms = names(term for record in trained for term in record.spec.regularisers)
    runs = []
    for record in trained:
        spec = record.spec
        assert spec.prior is not None
        assert spec.rate is not None
        assert spec.seed is not None
        axes = {
            "task": tasks[spec.task.canonical()],
            "method": methods[spec.method.canonical()],
            "prior": priors[spec.prior.canonical()],
            "regularisers": " + ".join(terms[term.canonical()] for term in spec.regularisers) or NONE,
            "rate": spec.rate.label,
        }
        runs.append(Run(record, axes, spec.seed))
    baselines = {
        tasks[record.spec.task.canonical()]: record
        for record in finished
        if record.spec.method.name == BASELINE
    }
    return runs, baselines


def repeats_of(records: Iterable[Record], runs: Iterable[Run], kind: Repeat) -> dict[str, Run]:
    """Finished repetitions without a fault, by the id of the run that each repeats, whose axes they have."""
    known = {run.id: run for run in runs}
    found = {record.spec.original: record for record in records if record.spec.repeat == kind}
    return {i: replace(known[i], record=one) for i, one in found.items() if i in known and _counts(one)}


def _counts(record: Record) -> bool:
    return record.status == "finished" and record.test is not None and not is_faulty(record)


def _validation(runs: Iterable[Run]) -> tuple[float, float]:
    """Mean last validation loss of one rate, infinite where no trial has one, and the rate."""
    known = list(runs)
    losses = [run.record.validation[-1].loss for run in known if run.record.validation]
    rate = known[0].record.spec.rate
    return float(np.mean(losses)) if losses else float("inf"), 0.0 if rate is None else rate.value


def _where(axes: Sequence[str], key: Sequence[str]) -> str:
    """The values of a cell in words; no regulariser needs none."""
    return " · ".join(
        value for axis, value in zip(axes, key, strict=True) if (axis, value) != ("regularisers", NONE)
    )
