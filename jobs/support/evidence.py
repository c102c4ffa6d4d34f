"""What a study can show with its seeds, said before its trials run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from analysis.findings.claims import JUDGED
from analysis.findings.common import ALSO, Judged
from analysis.findings.design import expected as designed
from analysis.findings.design import key_of, planned_steps, read_design
from analysis.findings.evidence import Evidence
from analysis.findings.judging import Case, case
from analysis.findings.planning import seen
from analysis.findings.rules import Tested
from analysis.findings.study import Study
from analysis.inference import power
from analysis.inference.values import LEVEL
from analysis.report.verdicts import places
from jobs.support.expected import expected
from jobs.support.stopping import how_to_begin_anew
from softprior.inputs.entry_texts import names
from softprior.inputs.labels import by_number, counted
from softprior.inputs.specs import TrialSpec
from softprior.prompt import Shape
from softprior.results.folder import StudyFolder
from softprior.results.records import read_study
from softprior.studies.components import Components
from softprior.studies.table import CLAIMS, DESIGN

ONE_SEED = "1 seed: nothing is tested, and there are no intervals over seeds; add seeds"

ADD_SEEDS = "; add seeds"

LISTED = "docs/findings.md lists the claims"

NONE = (
    "this study judges no claim; jobs/studies/tiny_priors.yaml judges most of them (run tuned.yaml first), "
    f"and tiny_methods.yaml the others ({LISTED})"
)


class Prospect(NamedTuple):
    """What claims will look at once all trials of a plan have finished.

    Attributes:
        seeds: number of seeds.
        cases: of each claim, one for each of its cells.
    """

    seeds: int
    cases: Sequence[tuple[Judged, Sequence[Case]]]


class ClaimTest(NamedTuple):
    """A test that a study's findings will make.

    Attributes:
        claim: its name.
        where: the cell.
    """

    claim: str
    where: str
    test: Tested


def prospect(study: Study, claims: Sequence[Judged] = JUDGED) -> Prospect:
    """What claims will look at, with numbers and p-values that mean nothing.

    The claims themselves look at invented results of these trials, so that these are their tests, whatever
    their rules. Where the number depends on results, a prompt is taken to be better than none, and priors to
    differ in their radii.

    Args:
        study: see `expected`.
    """
    cases = [(judged, [case(judged, evidence) for evidence in judged.evidence(study)]) for judged in claims]
    return Prospect(len({run.seed for run in study.runs}), cases)


def claim_tests(known: Prospect) -> list[ClaimTest]:
    """The tests of all claims."""
    return [
        ClaimTest(judged.claim.name, one.evidence.where, test)
        for judged, cases in known.cases
        for one in cases
        for test in one.tests
    ]


def planned_claims(folder: StudyFolder) -> tuple[Judged, ...]:
    """Those that a study has written down; while none of its trials has finished, those that it will."""
    header = read_study(folder.study) if folder.study.exists() and seen(folder) else {}
    rules: Mapping[str, str] = header.get(CLAIMS, {judged.claim.name: judged.claim.rule for judged in JUDGED})
    return tuple(judged for judged in JUDGED if judged.claim.decides_as(rules.get(judged.claim.name)))


def forecast(
    trials: Sequence[TrialSpec],
    components: Components,
    shape: Shape | None,
    folder: StudyFolder,
    dry: bool = False,
    whole: bool = False,
) -> list[str]:
    """Lines about what the whole study can show.

    Args:
        trials: all of the study.
        shape: of the model; None while its sizes are not known here.
        dry: also which claims it judges, and what the others lack.
        whole: of these, every reason with its places.
    """
    if all(trial.seed is None for trial in trials):
        return []
    known = prospect(expected(trials, components, shape), planned_claims(folder))
    lines = [*additions(trials, folder), *evidence(known)]
    if dry:
        return [*lines, *judged_or_not(known, whole)]
    if judges_none(known):
        lines.append(f"{NONE}; --dry-run says what each of them lacks")
    return lines


def additions(trials: Sequence[TrialSpec], folder: StudyFolder) -> list[str]:
    """A line about what a design lacks of which results have been seen, and one with what plans all of it."""
    if not (folder.study.exists() and seen(folder)):
        return []
    design = read_design(read_study(folder.study).get(DESIGN), folder.study)
    if design is None:
        return []
    has, rests, planned = [], [], planned_steps(design)
    new = {trial.seed for trial in trials if trial.seed is not None}.difference(design.seeds)
    if new:
        has.append(_seeds(design.seeds))
        rests.append(_seeds(new))
    trained = [(trial, key_of(trial), trial.training.steps) for trial in trials if trial.training is not None]
    known = {key for own in designed([design], []).values() for key in own}
    called = names(trial.prior for trial, _, _ in trained if trial.prior is not None)
    others = [trial.prior for trial, key, _ in trained if trial.prior is not None and key.prior not in known]
    if others:
        priors = dict.fromkeys(called[prior.canonical()] for prior in others)
        has.append("other priors")
        rests.append(f"the {by_number(len(priors), 'prior', 'priors')} {', '.join(priors)}")
    if any(planned.get(key.cell, steps) != steps for _, key, steps in trained):
        has.append("other training.steps")
        rests.append("the new steps")
    if not has:
        return []
    advice, *command = how_to_begin_anew(folder.root)
    return [
        f"the design in {folder.root} has {' and '.join(has)}, and results of it have been seen; findings "
        f"that rest on {' or '.join(rests)} are exploratory; {advice}",
        *(f"  {line}" for line in command),
    ]


def _seeds(seeds: Iterable[int]) -> str:
    """`seed 3`, `seeds 0 to 2`, `seeds 0, 4`."""
    known = sorted(seeds)
    if len(known) > 2 and known == list(range(known[0], known[-1] + 1)):
        return f"seeds {known[0]} to {known[-1]}"
    return f"{by_number(len(known), 'seed', 'seeds')} {', '.join(map(str, known))}"


def evidence(known: Prospect) -> list[str]:
    """What the tests of the whole study can give with its seeds, in one line; none if nothing is tested."""
    seeds = known.seeds
    if seeds == 1:
        return [ONE_SEED]
    tests = claim_tests(known)
    flips = [one for one in tests if one.test.least > 0]
    if not flips:
        return []
    several = counted(len({one.claim for one in flips}), "claim")
    line = f"{counted(seeds, 'seed')}: {counted(len(flips), 'sign-flip test')} of {several} can give"
    line += f" p = {min(one.test.least for one in flips):.2g} at best"
    others = len(tests) - len(flips)
    if len(tests) > 1:
        corrected = min(1.0, len(tests) * min(one.test.least for one in flips))
        line += f", {corrected:.2g} after Holm's correction as the first of {counted(len(tests), 'test')}"
    fewest = power.fewest_seeds(len(tests))
    if fewest is None:
        line += f" (no number of seeds is enough for {LEVEL})"
    elif fewest > seeds:
        line += f" (at least {fewest} seeds are needed for {LEVEL})"
    if others:
        line += f"; {counted(others, 'test')} of equality can give any p"
    return [line]


def judged_or_not(known: Prospect, whole: bool = False) -> list[str]:
    """The claims that the whole study judges, and a line for each that lacks something.

    One seed, which every claim lacks, has a line of its own (`ONE_SEED`).

    Args:
        whole: a line for each reason, with its places, in place of what would change it.
    """
    single = known.seeds == 1
    named, lines = [], []
    for judged, cases in known.cases:
        found = [one.evidence for one in cases]
        has_number = any(not own.missing for own in found)
        lacking = {
            reason: where
            for reason, where in _lacking(found).items()
            if not (single and reason.endswith(ADD_SEEDS))
        }
        every = dict.fromkeys(reason.partition("; ")[2] or reason for reason in lacking)
        advice = [one for one in every if not any(one in other for other in every if other != one)]
        if has_number:
            named.append(name(judged))
        if whole:
            lines += [f"  {name(judged)}{where}: {reason}" for reason, where in lacking.items()]
        elif advice:
            lines.append(f"  {name(judged)}{', in places' if has_number else ''}: {'; '.join(advice)}")
    still = "" if single else still_undecided(known)
    heading = f"judged by this study: {', '.join(named)} ({LISTED}){still}" if named else NONE
    if not lines:
        return [heading]
    more, details = "add seeds and " if single else "", "" if whole else " (--all says why)"
    return [heading, f"not judged, unless you {more}do as follows{details}:", *lines]


def still_undecided(known: Prospect) -> str:
    """The claims that so few seeds leave undecided whatever the numbers, as the end of a line.

    They have sign-flip tests alone. Tests of equality may come first in Holm's correction, which is then over
    the sign-flip tests.
    """
    tests = claim_tests(known)
    flips = [one.claim for one in tests if one.test.least > 0]
    others = {one.claim for one in tests if one.test.least == 0}
    few = [name(judged) for judged, _ in known.cases if judged.claim.name in {*flips} - others]
    fewest = power.fewest_seeds(len(flips)) if flips else 0
    if not few or (fewest is not None and fewest <= known.seeds):
        return ""
    until = "with any number of seeds" if fewest is None else f"below {fewest} seeds"
    return f"; undecided {until}, whatever the numbers: {', '.join(few)}"


def name(judged: Judged) -> str:
    """A claim by the number and the name that docs/findings.md and the report have."""
    return f"{judged.claim.number} {judged.claim.name}"


def _lacking(found: Sequence[Evidence]) -> dict[str, str]:
    """Why a claim is not judged, each with its places in parentheses where these are not all."""
    where: dict[str, list[str]] = {}
    for known in found:
        for reason in known.missing.split(ALSO) if known.missing else ():
            where.setdefault(reason, []).append(known.where)
    return {reason: f" ({places(own)})" if len(own) < len(found) else "" for reason, own in where.items()}


def judges_none(known: Prospect) -> bool:
    """Whether the whole study judges no claim."""
    return all(one.evidence.missing for _, cases in known.cases for one in cases)
