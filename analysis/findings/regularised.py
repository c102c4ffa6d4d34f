"""Regularisers move posteriors."""

from __future__ import annotations

from analysis.findings.common import (
    ONE_SEED,
    SEEDS,
    BySeed,
    Judged,
    apart,
    by_seed,
    few_seeds,
    moved,
    of_twins,
    slope,
    together,
    twin_ids,
    twinned,
)
from analysis.findings.evidence import Evidence
from analysis.findings.rules import Differ
from analysis.findings.study import Cell, Number, Side, Study, weight_of
from analysis.findings.values import Claim

CLAIM = Claim(
    name="regularisers",
    number=8,
    words="Regularisers move posteriors",
    primary="Slope of the distance moved on the weight of one regulariser (0 without it), least squares "
    "within each seed, averaged over rates.",
    rule="For each regulariser: supported if the slope differs from zero (corrected p of the sign-flip "
    "test at most 0.05 and a 95% interval without zero). Otherwise undecided: a test cannot show that"
    " nothing moves.",
    quantity="distance for each unit of weight",
    formerly=(
        "Of each regulariser: supported if the slope differs from zero (corrected p of the sign-flip test"
        " at most 0.05 and a 95% interval without zero). Otherwise undecided: a test cannot show that "
        "nothing moves.",
    ),
)


def evidence(study: Study) -> list[Evidence]:
    """A finding for each cell of regularisers and each of them."""
    found = []
    for cell in study.cells("regularisers"):
        kinds = _kinds(cell)
        if not kinds:
            reason = "no regulariser has two weights here; add a regulariser, and [] for trials without"
            found.append(Evidence(where=cell.where, missing=together(reason, few_seeds(cell))))
        for name, weights in kinds.items():
            where = f"{cell.where} · {name}"
            slopes = _slopes(weights, moved)
            others = _slopes(weights, twinned(study, moved))
            rounding = of_twins(apart(slopes.values, others.values), twin_ids(study, others.trials))
            if len(slopes.values) < SEEDS:
                found.append(Evidence(where=where, missing=f"the regulariser {ONE_SEED}"))
            else:
                numbers, trials = {"slope": by_seed(slopes.values)}, {"slope": slopes.trials}
                found.append(Evidence(where=where, numbers=numbers, trials=trials, noise=rounding))
    return found


def _kinds(cell: Cell) -> dict[str, dict[float, Side]]:
    """Sides by weight, for each regulariser that stands alone and has two weights at least."""
    without: dict[float, Side] = {}
    kinds: dict[str, dict[str, dict[float, Side]]] = {}
    for side in cell.sides.values():
        terms = next(iter(side.runs.values())).record.spec.regularisers
        if not terms:
            without = {0.0: side}
        elif len(terms) == 1:
            params = {key: value for key, value in terms[0].params.items() if key != "weight"}
            alike = kinds.setdefault(terms[0].name, {}).setdefault(str(sorted(params.items())), {})
            alike[weight_of(terms[0])] = side
    found = {}
    for name, variants in kinds.items():
        for i, weights in enumerate(variants.values(), start=1):
            if len(weights | without) > 1:
                found[name if len(variants) == 1 else f"{name}-{i}"] = weights | without
    return found


def _slopes(weights: dict[float, Side], number: Number) -> BySeed:
    """Slopes of a distance by seed."""
    tables = {weight: side.values(number, averaged=True) for weight, side in weights.items()}
    seeds = set.intersection(*(set(table) for table in tables.values()))
    values = {seed: slope(list(tables), [table[seed] for table in tables.values()]) for seed in sorted(seeds)}
    return BySeed(values, tuple(i for side in weights.values() for i in side.trials(seeds, averaged=True)))


JUDGED = Judged(CLAIM, Differ(), evidence)
