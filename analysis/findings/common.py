"""What several claims share: margins, comparisons with a reference, and whether training has ended."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import combinations
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from analysis.findings.evidence import Evidence, Noise
from analysis.findings.rules import Rule
from analysis.findings.study import Cell, Number, Run, Side, Study, mean_loss
from analysis.findings.values import Claim
from analysis.inference.values import PerExample
from softprior.inputs.specs import Probe
from softprior.prompt import Place
from softprior.training.probes import probes_of, why_skipped

MARGIN = 0.05
"""Margin of equality, as a share of what the best prompt gains over no prompt."""

SEEDS = 2
"""Fewest seeds of a claim's numbers."""

FALLING = 0.1
"""Share of the fall of the training loss that its last quarter may have at most, once training has ended."""

ALSO = "; also, "
"""Between two reasons why a claim has no numbers."""

ONE_SEED = "has fewer than two seeds; add seeds"
ONE_SHARED = "has fewer than two seeds with both sides; add seeds"
ONE_PRIOR = "the study has one prior here; add another prior"
NO_GAIN = "no prompt is better than none"
NO_POSTERIORS = (
    "posteriors of its trials are not in the folder; copy them there, or run the study again into another "
    "folder (--results)"
)


class Judged(NamedTuple):
    """A claim with what decides it.

    Attributes:
        claim: its words.
        rule: how numbers become a verdict.
        evidence: takes the numbers from a study; empty only if the study has no trained trial at all.
    """

    claim: Claim
    rule: Rule
    evidence: Callable[[Study], list[Evidence]]


def together(*reasons: str) -> str:
    """All that a claim lacks as one text, each reason with what helps; empty where nothing is lacking."""
    return ALSO.join(dict.fromkeys(filter(None, reasons)))


def few_seeds(cell: Cell) -> str:
    """That a cell has too few seeds for any claim, if so."""
    return "" if len({run.seed for run in cell.runs}) >= SEEDS else f"this cell {ONE_SEED}"


def loss(run: Run) -> float | None:
    """Test loss."""
    return run.loss


def moved(run: Run) -> float | None:
    """Distance from the start, the mean over places."""
    places = run.record.geometry.values()
    return float(np.mean([place.moved for place in places])) if places else None


def pair(a: str, b: str) -> str:
    """The name of a difference."""
    return f"{a} - {b}"


def margin(cell: Cell) -> float | None:
    """The margin of equality in nats; None without a baseline or if no prompt gains anything."""
    if cell.baseline is None or cell.baseline.test is None:
        return None
    best = min(map(mean_loss, cell.sides.values()))
    width = MARGIN * (cell.baseline.test.loss - best)
    return width if width > 0 else None


def margin_trials(cell: Cell) -> tuple[str, ...]:
    """Ids of the trials that `margin` comes from."""
    assert cell.baseline is not None
    best = min(cell.sides.values(), key=mean_loss)
    return (cell.baseline.id, *best.trials(best.values(loss)))


def missing_margin(cell: Cell) -> str:
    """Why there is no margin."""
    if cell.baseline is None or cell.baseline.test is None:
        return "the no-prompt baseline has not finished, so there is no margin; run the study to its end"
    return f"{NO_GAIN}, so there is no margin; train longer or at other rates"


def places_of(run: Run) -> list[Place]:
    """Where a run's vectors are."""
    return [Place.parse(name) for name in run.record.geometry]


def is_encoder(runs: Iterable[Run]) -> bool:
    """Whether an encoder reads the input, in which soft prompts alone are possible."""
    return any(place.stack == "encoder" for run in runs for place in places_of(run))


def why_unprobed(runs: Iterable[Run], probe: Probe, what: str) -> str:
    """Why no result of a probe is known of runs of one method, and what gives one to their method.

    Args:
        what: was not measured, in a sentence.
    """
    run = next(iter(runs))
    count = run.record.spec.method.params.get("tokens")
    skipped = why_skipped(probe, places_of(run), count if isinstance(count, int) else 2)
    asked, add = probe in probes_of(run.record.spec), f"add {probe} to evaluation.probes"
    if skipped is not None:
        return skipped if asked else f"{skipped}, and {add}"
    if asked:
        return f"{what}, which evaluation.probes asks for; run the study again"
    return f"{what}; {add}"


def equal(study: Study, cell: Cell, names: Iterable[str]) -> Evidence:
    """Evidence that the losses of some sides are equal, each at its own chosen rate.

    Args:
        names: of the sides; the first is the reference.
    """
    names = list(names)
    known = replace(about(cell), noise=noise(study, cell.sides.values(), loss))
    width = margin(cell)
    numbers = {pair(b, a): cell.differences(b, a, loss) for a, b in combinations(names, 2)}
    few = any(len(own) < SEEDS for own in numbers.values())
    if width is None or few:
        gain = missing_margin(cell) if width is None else ""
        return replace(known, missing=together(gain, f"some pair {ONE_SHARED}" if few else ""))
    primary = tuple(pair(b, names[0]) for b in names[1:])
    examples = by_example(cell, combinations(names, 2), study.examples)
    return replace(
        known,
        numbers=numbers,
        trials={pair(b, a): cell.trials(b, a, loss) for a, b in combinations(names, 2)},
        margin=width,
        margin_trials=margin_trials(cell),
        primary=primary,
        examples=examples,
    )


def about(cell: Cell, name: str | None = None) -> Evidence:
    """Evidence without numbers yet: where, chosen rates and budgets of a cell, or of one of its sides."""
    if name is None:
        return Evidence(where=cell.where, rates=cell.rates, budget=cell.budget)
    side = cell.sides[name]
    return Evidence(where=f"{cell.where} · {name}", rates={name: side.chosen}, budget={name: len(side.rates)})


def by_example(
    cell: Cell, pairs: Iterable[tuple[str, str]], table: Mapping[str, PerExample]
) -> dict[str, PerExample]:
    """Differences by example of pairs of sides (b less a of each), where they are known."""
    found = {pair(b, a): cell.by_example(b, a, table) for a, b in pairs}
    return {what: values for what, values in found.items() if values is not None}


def by_seed(values: Mapping[int, float]) -> Float[np.ndarray, "S"]:
    """Numbers in the order of their seeds."""
    return np.array([values[seed] for seed in sorted(values)])


def slope(at: Sequence[float], values: Sequence[float]) -> float:
    """Slope of the line of least squares; exactly zero where all values are equal."""
    # Without the first value taken off, rounding leaves 1e-17, and each seed would be above zero.
    return float(np.polyfit(at, np.array(values) - values[0], 1)[0])


def noise(study: Study, sides: Iterable[Side], number: Number) -> Noise | None:
    """What rounding alone does to a number of one trial: see `rms`, over sides at their chosen rates."""
    runs = (run for side in sides for run in side.runs.values())
    found = {}
    for run, twin in study.pairs(runs, study.twins):
        a, b = number(run), number(twin)
        if a is not None and b is not None:
            found[twin.id] = a - b
    return of_twins(found.values(), found)


def twin_ids(study: Study, trials: Iterable[str]) -> list[str]:
    """Ids of the twins that `twinned` takes numbers of these trials from."""
    return [study.twins[trial].id for trial in trials]


def twinned(study: Study, number: Number) -> Number:
    """The same number of a trial's twin; None for trials without."""

    def of_twin(run: Run) -> float | None:
        twin = study.twins.get(run.id)
        return None if twin is None else number(twin)

    return of_twin


def with_twin(study: Study, number: Number) -> Number:
    """A number of the trials whose twins have it too: what stands beside `twinned`."""
    of_twin = twinned(study, number)
    return lambda run: None if of_twin(run) is None else number(run)


def apart(values: Mapping[int, float], twins: Mapping[int, float]) -> list[float]:
    """Differences between numbers by seed and the same numbers with twins in place of trials."""
    return [values[seed] - twins[seed] for seed in values.keys() & twins.keys()]


class BySeed(NamedTuple):
    """A number of each seed that several of its trials give together.

    Attributes:
        values: by seed.
        trials: ids of the trials that they come from.
    """

    values: Mapping[int, float]
    trials: tuple[str, ...]


NOTHING = BySeed({}, ())


def of_twins(differences: Iterable[float], twins: Iterable[str]) -> Noise | None:
    """The differences between trials and these twins as noise; None without any."""
    value = rms(differences)
    return None if value is None else Noise(value, tuple(twins))


def rms(differences: Iterable[float]) -> float | None:
    """Root mean square of the differences between trials and their twins; None without any.

    Two trials of which each has a rounding error differ by as much as a trial and its twin, so this is what
    one seed's difference of two trials is measured against. A mean over seeds has less of it.
    """
    found = list(differences)
    return float(np.sqrt(np.mean(np.square(found)))) if found else None


def still_falls(sides: Iterable[Side]) -> bool:
    """Whether the training loss has fallen in its last quarter by over a tenth of all that it fell.

    Means of quarters, over label tokens and all trials at the chosen rates.
    """
    firsts, thirds, lasts = [], [], []
    for run in (run for side in sides for run in side.runs.values()):
        steps = run.record.steps
        if len(steps) < 4:
            return True  # too few steps to see an end
        losses = np.array([step.loss for step in steps])
        weights = np.array([step.labels or 1 for step in steps])
        quarters = np.array_split(np.arange(len(steps)), 4)
        means = [float(np.average(losses[own], weights=weights[own])) for own in quarters]
        firsts.append(means[0])
        thirds.append(means[2])
        lasts.append(means[3])
    fall = np.mean(firsts) - np.mean(lasts)
    return bool(np.mean(thirds) - np.mean(lasts) > FALLING * fall) if fall > 0 else False
