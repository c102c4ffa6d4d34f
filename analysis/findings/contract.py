"""The contract of claims: `check_claim(JUDGED)` raises an AssertionError that names the broken rule."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

from analysis.findings.common import Judged
from analysis.findings.judging import judge
from analysis.findings.simulated import CUT, KEEP, PREFIX, SOFT, Truth, simulated
from analysis.findings.study import Run, Study
from analysis.findings.values import Finding
from analysis.inference.values import LEVEL
from softprior.inputs.entries import Entry

VERDICTS = ("supported", "contradicted", "undecided", "depends on the metric")


def check_claim(judged: Judged) -> None:
    """Judges studies of many shapes, whole and lacking, and checks what comes out."""
    _check_words(judged)
    for name, study in studies():
        found = judge(study, (judged,))
        assert found, f"{judged.claim.name} says nothing about {name}, not even why"
        for one in found:
            _check_finding(one, name)
            _check_trials(one, name, study)
        assert found == judge(study, (judged,)), f"{judged.claim.name} differs when {name} is judged again"
        turned = judge(replace(study, runs=_turned(study)), (judged,))
        assert [_numbers(one) for one in turned] == [_numbers(one) for one in found], (
            f"{judged.claim.name} depends on the order in which the seeds of {name} are read"
        )


@cache
def studies() -> tuple[tuple[str, Study], ...]:
    """Names and studies: what some claim needs, and ones without it."""
    fitted = [Entry(name="fitted", params={"part": part}) for part in ([0.0, 0.5], [0.5, 1.0])]
    ends = {"first": {"part": [0.0, 0.5]}, "second": {"part": [0.5, 1.0]}}
    between = Entry(name="interpolation", params=ends)
    rates = (0.01, 0.02)
    bare = simulated(Truth(rates=rates, seeds=2))
    return (
        ("a study of all methods", simulated(Truth(methods=(SOFT, PREFIX, CUT, KEEP), rates=rates, seeds=3))),
        ("a study of two clusters", simulated(Truth(priors=(*fitted, between), rates=rates, seeds=3))),
        ("a study of regularisers", simulated(Truth(weights=(0.0, 1.0, 2.0), rates=rates, seeds=3))),
        ("a study of one prior", simulated(Truth(priors=fitted[:1], rates=rates, seeds=2))),
        ("a study of one seed", simulated(Truth(rates=rates, seeds=1))),
        ("a study of one rate", simulated(Truth(rates=rates[:1], seeds=2))),
        ("a study without anything beside records", Study(bare.runs)),
        ("a study without spread", simulated(Truth(rates=rates, seeds=2, spread=0.0, noise=0.0))),
    )


def _check_words(judged: Judged) -> None:
    claim = judged.claim
    for name in ("name", "words", "primary", "unit", "rule", "margin"):
        assert getattr(claim, name), f"{claim.name} has no {name}"
    assert claim.rule.endswith("."), f"the rule of {claim.name} is not a sentence"
    assert str(LEVEL) in claim.rule or "t-tests" in claim.rule, (
        f"{claim.name} does not say when p is small enough"
    )


def _check_finding(found: Finding, name: str) -> None:
    where = f"{found.claim.name} ({name}, {found.where})"
    assert found.verdict in VERDICTS, f"{where} has the verdict {found.verdict}"
    assert found.sentence.startswith(found.claim.words), f"{where}: the sentence begins with other words"
    assert "nan" not in found.sentence, f"{where}: the sentence has a number that is none: {found.sentence}"
    decided = found.verdict != "undecided"
    assert found.primary is not None or (found.reason and not decided), f"{where} is decided by nothing"
    assert decided or found.settle, f"{where} does not say what would settle it: {found.sentence}"
    for own in found.comparisons:
        assert own.adjusted >= own.p - 1e-12 or found.margin is not None, f"{where}: Holm lowered p"
        assert own.p >= own.least_p - 1e-12, f"{where}: p is below the least there is"
        assert own.interval.missing or own.interval.low <= own.value <= own.interval.high, (
            f"{where}: the number is outside its interval"
        )


def _check_trials(found: Finding, name: str, study: Study) -> None:
    """Every number says which trials of the study it comes from."""
    runs = {run.id for run in study.runs}
    known = runs | {record.id for record in study.baselines.values()}
    where = f"{found.claim.name} ({name}, {found.where})"
    for own in found.comparisons:
        assert own.trials, f"{where}: {own.what} comes from no trial"
        assert set(own.trials) <= runs, f"{where}: {own.what} comes from trials that are not in the study"
        assert len(own.trials) == len(set(own.trials)), f"{where}: {own.what} names a trial twice"
    if found.margin is not None:
        assert found.margin_trials, f"{where}: the margin comes from no trial"
        assert set(found.margin_trials) <= known, f"{where}: the margin comes from other trials"


def _turned(study: Study) -> list[Run]:
    return sorted(study.runs, key=lambda run: -run.seed)


def _numbers(found: Finding) -> tuple[object, ...]:
    values = [(own.what, round(own.value, 9), round(own.p, 9)) for own in found.comparisons]
    return (found.where, found.verdict, values)
