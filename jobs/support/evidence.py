"""What a study can show with its seeds, said before its trials run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from analysis.findings.claims import JUDGED
from analysis.findings.common import ALSO, Judged
from analysis.findings.judging import case
from analysis.findings.planning import seen
from analysis.findings.rules import Tested
from analysis.findings.study import Study
from analysis.inference.multiple import holm
from analysis.inference.permutation import EXACT, least_p
from analysis.inference.values import LEVEL
from analysis.report.verdicts import places
from jobs.support.expected import expected
from softprior.inputs.labels import by_number, counted
from softprior.inputs.specs import TrialSpec
from softprior.prompt import Shape
from softprior.results.folder import StudyFolder
from softprior.results.records import read_study
from softprior.studies.components import Components
from softprior.studies.table import CLAIMS

ONE_SEED = "1 seed: nothing is tested, and there are no intervals over seeds; add seeds"

ADD_SEEDS = "; add seeds"

SEEDS_LACK = f"the study has fewer than two seeds{ADD_SEEDS}"

LISTED = "docs/findings.md lists the claims"

NONE = f"this study judges no claim; jobs/studies/tiny_priors.yaml judges most of them ({LISTED})"


class ClaimTest(NamedTuple):
    """A test that a study's findings will make.

    Attributes:
        claim: its name.
        where: the cell.
    """

    claim: str
    where: str
    test: Tested


def claim_tests(study: Study, claims: Sequence[Judged] = JUDGED) -> list[ClaimTest]:
    """The tests of claims once all trials of a plan have finished, with p-values that mean nothing.

    The claims themselves look at invented results of these trials, so that these are their tests, whatever
    their rules. Where the number depends on results, a prompt is taken to be better than none, and priors to
    differ in their radii.

    Args:
        study: see `expected`.
    """
    cases = [case(judged, evidence) for judged in claims for evidence in judged.evidence(study)]
    return [ClaimTest(one.judged.claim.name, one.evidence.where, test) for one in cases for test in one.tests]


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
    all_of_it: bool,
) -> list[str]:
    """Lines about what the whole study can show.

    Args:
        trials: all of the study.
        shape: of the model; None while its sizes are not known here.
        all_of_it: also the claims that it cannot judge.
    """
    if all(trial.seed is None for trial in trials):
        return []
    study, claims = expected(trials, components, shape), planned_claims(folder)
    lines = evidence(study, claims)
    if all_of_it:
        return [*lines, *unjudged(study, claims)]
    if judges_none(study, claims):
        lines.append(f"{NONE}; --dry-run says what each of them lacks")
    return lines


def evidence(study: Study, claims: Sequence[Judged]) -> list[str]:
    """What the tests of the whole study can give with its seeds, in one line; none where nothing is tested.

    Args:
        study: see `expected`.
    """
    seeds = len({run.seed for run in study.runs})
    if seeds == 1:
        return [ONE_SEED]
    tests = claim_tests(study, claims)
    flips = [one for one in tests if one.test.least > 0]
    if not flips:
        return []
    several = counted(len({one.claim for one in flips}), "claim")
    line = f"{counted(seeds, 'seed')}: {counted(len(flips), 'sign-flip test')} of {several} can give"
    line += f" p = {min(one.test.least for one in flips):.2g} at best"
    least = np.array([one.test.least for one in tests])
    corrected = holm(least)[least > 0].min()
    if len(flips) > 1:
        line += f", {corrected:.2g} after Holm's correction"
    if corrected > LEVEL:
        line += f" ({_fewest(len(flips))})"
    others = len(tests) - len(flips)
    if others:
        line += f"; {counted(others, 'test')} of equality can give any p"
    return [line]


def unjudged(study: Study, claims: Sequence[Judged]) -> list[str]:
    """Lines about the claims that the whole study cannot judge: why, what would change that, and where.

    Args:
        study: see `expected`.
    """
    reasons: dict[str, list[str]] = {}
    single = len({run.seed for run in study.runs}) == 1
    for judged in claims:
        found, lacking = judged.evidence(study), dict[str, list[str]]()
        for known in found:
            for reason in known.missing.split(ALSO) if known.missing else ():
                # Of one seed, all that is said of pairs and of priors is the same.
                same = SEEDS_LACK if single and reason.endswith(ADD_SEEDS) else reason
                lacking.setdefault(same, []).append(known.where)
        for reason, where in lacking.items():
            in_places = f" ({places(where)})" if len(where) < len(found) else ""
            reasons.setdefault(reason, []).append(f"{judged.claim.number}{in_places}")
    if not reasons:
        return []
    lines = [
        f"{by_number(len(numbers), 'claim', 'claims')} {', '.join(numbers)}: {reason}"
        for reason, numbers in reasons.items()
    ]
    heading = f"not judged by this study ({LISTED}):"
    if judges_none(study, claims):
        heading = f"{NONE}; what each of them lacks:"
    return [heading, *(f"  {line}" for line in lines)]


def judges_none(study: Study, claims: Sequence[Judged]) -> bool:
    """Whether the whole study judges no claim."""
    return all(known.missing for judged in claims for known in judged.evidence(study))


def _fewest(flips: int) -> str:
    """The seeds with which as many sign flips can be below 0.05 after Holm's correction.

    Tests of equality have no smallest p and may come before them.
    """
    enough = (n for n in range(1, EXACT + 2) if flips * least_p(n) <= LEVEL)
    found = next(enough, None)
    if found is None:
        return "no number of seeds is enough for 0.05"
    return f"at least {found} seeds are needed for 0.05"
