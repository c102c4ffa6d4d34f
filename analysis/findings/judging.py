"""From a study to findings: numbers, tests, correction over all of them, verdicts and sentences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from analysis.findings.changes import Addition, added
from analysis.findings.claims import JUDGED
from analysis.findings.common import Judged
from analysis.findings.evidence import Evidence
from analysis.findings.rules import EQUAL, Direction, Equal, Rule, Tested, excludes, of_equality
from analysis.findings.sentences import sentence, settled_by
from analysis.findings.study import Study
from analysis.findings.values import Claim, Comparison, Finding
from analysis.inference import power
from analysis.inference.intervals import over_seeds, over_seeds_and_groups
from analysis.inference.intervals import spread as spread_of
from analysis.inference.multiple import holm
from analysis.inference.values import EQUIVALENCE, LEVEL, Interval, PerExample
from softprior.inputs.labels import counted


class Case(NamedTuple):
    """One claim in one cell, with its tests."""

    judged: Judged
    evidence: Evidence
    tests: tuple[Tested, ...]
    exploratory: bool
    added: str = ""


def judge(study: Study, claims: Sequence[Judged] = JUDGED) -> tuple[Finding, ...]:
    """What a study says about each claim, in each of its cells.

    p-values are corrected by Holm over all tests of the planned claims, and over all exploratory ones.
    A claim whose study lacks what it needs is undecided, with the reason. Tests that are missing with a
    study's posteriors or its sample of the vocabulary count in the correction with a p of 1. What changes
    when seeds, priors and steps are left out that were added after the first results is exploratory. The
    tests that were planned in its place still count in the correction of the planned ones, which would
    otherwise become easier by additions.
    """
    runs, additions = added(study.runs, study.design)
    cases: list[Case] = []
    replaced: list[Case] = []
    for judged in claims:
        as_planned = _by_place(judged, replace(study, runs=runs)) if additions else {}
        now = judged.evidence(study)
        changed = [one.where for one in now if additions and not alike(one, as_planned.get(one.where))]
        words = _rests(judged, study, additions, {one.where: one for one in now if one.where in changed})
        for evidence in now:
            rests = words.get(evidence.where, "")
            exploratory = bool(rests) or not planned(study, judged.claim)
            cases.append(case(judged, evidence, exploratory)._replace(added=rests))
            if rests and evidence.where in as_planned and planned(study, judged.claim):
                replaced.append(case(judged, as_planned[evidence.where]))
    found = []
    for exploratory in (False, True):
        own = [one for one in cases if one.exploratory == exploratory]
        family = own if exploratory else [*own, *replaced]
        raw = [test.p for one in family for test in one.tests]
        # Files that are gone must not make the other claims' correction easier. Without them, nobody
        # knows what rested on additions, so that their tests then count in both families.
        raw += [1.0] * sum(one.evidence.lost for one in (cases if additions else family))
        corrected = iter(holm(np.array(raw)).tolist())
        found += [finding(one, [next(corrected) for _ in one.tests], len(raw)) for one in own]
    order = {judged.claim.name: i for i, judged in enumerate(claims)}
    return tuple(sorted(found, key=lambda one: order[one.claim.name]))


def _by_place(judged: Judged, study: Study) -> dict[str, Evidence]:
    return {one.where: one for one in judged.evidence(study)}


def _rests(
    judged: Judged, study: Study, additions: Sequence[Addition], changed: Mapping[str, Evidence]
) -> dict[str, str]:
    """What each piece of evidence that changed rests on: the additions that alone change it, or all of them.

    Args:
        changed: the evidence with all trials, where it is another one without the additions.
    """
    if len(additions) < 2 or not changed:
        return dict.fromkeys(changed, " and ".join(one.words for one in additions))
    without = [
        _by_place(judged, replace(study, runs=[run for run in study.runs if run.id not in one.trials]))
        for one in additions
    ]
    found = {}
    for where, evidence in changed.items():
        own = [
            addition.words
            for addition, others in zip(additions, without, strict=True)
            if not alike(evidence, others.get(where))
        ]
        found[where] = " and ".join(own or [one.words for one in additions])
    return found


def planned(study: Study, claim: Claim) -> bool:
    """Whether the study's list had the claim, with the rule it has now, when it started."""
    return claim.decides_as(study.planned.get(claim.name))


def alike(one: Evidence, other: Evidence | None) -> bool:
    """Whether two pieces of evidence decide in the same way."""
    if other is None:
        return False
    fixed = (one.missing, one.guard, one.margin) == (other.missing, other.guard, other.margin)
    tables = ((one.numbers, other.numbers), (one.tested, other.tested))
    return fixed and all(
        a.keys() == b.keys() and all(np.array_equal(a[what], b[what]) for what in a) for a, b in tables
    )


def case(judged: Judged, evidence: Evidence, exploratory: bool = False) -> Case:
    """A claim in one cell with its raw p-values."""
    tests = [] if evidence.missing else judged.rule.tests(evidence)
    return Case(judged, evidence, tuple(tests), exploratory)


def finding(one: Case, corrected: Sequence[float], number: int) -> Finding:
    """The finding of one claim in one cell.

    Args:
        corrected: p-values of its tests, in their order.
        number: of all tests that they were corrected with.
    """
    claim, evidence = one.judged.claim, one.evidence
    reason, _, remedy = (evidence.missing or evidence.guard).partition("; ")
    found = Finding(
        claim=claim,
        where=evidence.where,
        verdict="undecided",
        margin=evidence.margin,
        margin_trials=evidence.margin_trials,
        rates=evidence.rates,
        budget=evidence.budget,
        noise=None if evidence.noise is None else evidence.noise.value,
        twins=() if evidence.noise is None else evidence.noise.twins,
        limit=_limit(one.judged.rule),
        claimed=one.judged.rule.claimed(evidence.margin),
        reason=reason,
        settle=remedy,
        exploratory=one.exploratory,
        added=one.added,
    )
    if not one.tests:
        return _worded(found)
    adjusted = {test.what: p for test, p in zip(one.tests, corrected, strict=True)}
    decision = one.judged.rule.decide(evidence, adjusted)
    level = LEVEL / max(1, number)
    comparisons = tuple(_comparisons(one, adjusted, level))
    primary = next(own for own in comparisons if own.what == decision.what)
    verdict = found.verdict if reason else decision.verdict
    # Metrics of one thing have to agree; of pairs and of differences the row shows the one that decides.
    beside = isinstance(one.judged.rule, Direction)
    others = tuple(own for own in comparisons if beside and own is not primary)
    found = replace(found, verdict=verdict, comparisons=comparisons, primary=primary, others=others)
    return _worded(found, number)


def _comparisons(one: Case, adjusted: Mapping[str, float], level: float) -> list[Comparison]:
    """All numbers of a case, each with the test that says most about it."""
    tests = {test.what: test for test in one.tests}
    evidence, rule = one.evidence, one.judged.rule
    found = []
    for what, numbers in evidence.numbers.items():
        spread, centre, seeds = spread_of(numbers), float(numbers.mean()), len(numbers)
        # Neither of numbers whose test is of others, nor of pairs that only the test of equality covers.
        untested = what in evidence.tested or what not in tests
        seen = None if untested else power.detectable(spread, seeds, level)
        equal = isinstance(rule, Equal) and not (what in tests and adjusted[what] <= LEVEL)
        test = of_equality(numbers, evidence.margin or 0.0) if equal else tests[what]
        corrected = adjusted[EQUAL if equal else what]
        interval, limit = over_seeds(numbers, possible=one.judged.claim.possible), _limit(rule)
        # Where all signs agree, one far seed may leave the limit in Student's interval: not decided either.
        clear = isinstance(rule, Equal) or what in evidence.tested
        clear = clear or excludes(numbers, limit)
        if corrected <= LEVEL and clear:
            more: int | None = 0
        elif isinstance(rule, Equal) and abs(centre) > (evidence.margin or 0.0):
            # Only differences from the reference can be shown to lie beyond the margin.
            beyond = abs(centre) - (evidence.margin or 0.0)
            more = power.more_seeds(beyond, spread, seeds, level) if what in tests else None
        elif equal:
            more = power.more_seeds_for_equality(centre, spread, seeds, evidence.margin or 0.0, level)
        else:
            more = power.more_seeds(centre - limit, spread, seeds, level)
        found.append(
            Comparison(
                what=what,
                value=centre,
                interval=interval,
                equivalence=over_seeds(numbers, EQUIVALENCE) if isinstance(rule, Equal) else None,
                wider=_wider(evidence.examples.get(what)),
                seeds=seeds,
                trials=evidence.trials.get(what, ()),
                test=test.name,
                p=test.p,
                adjusted=corrected,
                least_p=test.least,
                # A difference contradicts equality only beyond the margin.
                detectable=None if seen is None else seen + (evidence.margin or 0.0),
                referenced=not evidence.primary or what in evidence.primary,
                more_seeds=more,
            )
        )
    return found


def _limit(rule: Rule) -> float:
    """What a rule compares numbers with."""
    return rule.limit if isinstance(rule, Direction) else 0.0


def _wider(values: PerExample | None) -> Interval | None:
    """None too where there is one group."""
    found = None if values is None else over_seeds_and_groups(values)
    return None if found is None or np.isnan(found.low) else found


def _worded(found: Finding, number: int = 0) -> Finding:
    """The finding with what would settle it and its sentence.

    Args:
        number: of all tests that its own were corrected with.
    """
    few = found.primary is not None and found.primary.least_p > LEVEL / number
    fewest = power.fewest_seeds(number) if few else None
    settle = found.settle or settled_by(found, fewest)
    if found.settle and fewest is not None:
        # What else there is to do changes its numbers, so that nothing but the fewest seeds is known.
        settle += f", and add {counted(fewest - found.seeds, 'seed')} or more: with {found.seeds} no p is "
        settle += "small enough"
    return replace(found, settle=settle, sentence=sentence(replace(found, settle=settle)))
