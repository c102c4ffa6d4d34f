"""Quality is equal whatever the prior."""

from __future__ import annotations

from dataclasses import replace

from analysis.findings.changes import lost, why_lost
from analysis.findings.common import ONE_PRIOR, Judged, equal, few_seeds, together
from analysis.findings.evidence import Evidence
from analysis.findings.rules import Equal
from analysis.findings.study import Study
from analysis.findings.values import Claim

CLAIM = Claim(
    name="quality",
    number=3,
    words="Quality is equal whatever the prior",
    primary="Difference of test losses of two priors, each at the rate chosen on validation.",
    rule="Supported if two one-sided t-tests show for every pair of priors that the difference lies inside "
    "the margin. Contradicted if the sign-flip test shows for some prior that its difference from the "
    "study's first prior lies outside the margin. Otherwise undecided.",
    margin="5% of (no prompt - best prior), in nats.",
    quantity="nats",
)


def evidence(study: Study) -> list[Evidence]:
    """A cell for each task, method and regulariser."""
    found = []
    for cell in study.cells("prior"):
        known = Evidence(where=cell.where, missing=together(ONE_PRIOR, few_seeds(cell)))
        if len(cell.sides) > 1:
            known = equal(study, cell, cell.sides)
        gone = lost(cell, study.expected)
        if gone:  # it might be the best, or the one that is worse than the others
            reason = why_lost(gone)
            known = replace(known, guard=reason, missing=reason if known.missing else "")
        found.append(known)
    return found


JUDGED = Judged(CLAIM, Equal(), evidence)
