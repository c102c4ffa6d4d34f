"""Writes down what a study will judge, on which seeds and priors, before any trial has finished."""

from __future__ import annotations

from analysis.findings.claims import CLAIMS as JUDGED
from analysis.findings.design import design_of
from softprior.results.digested import read_header, write_digested
from softprior.results.folder import StudyFolder
from softprior.results.records import load_record
from softprior.results.storage import listed
from softprior.studies.observers import Work
from softprior.studies.table import CLAIMS, DESIGN


def plan_claims(folder: StudyFolder, work: Work) -> None:
    """Adds claims with their rules, and the design, to study.json, unless some trial has finished already.

    Whoever has seen results can no longer plan: what such a study shows beyond its plan stays exploratory. A
    search has no design, as it proposes its trials on the way.
    """
    if work.superseded or seen(folder):
        return
    plan: dict[str, object] = {CLAIMS: {claim.name: claim.rule for claim in JUDGED}}
    if work.designed:
        plan[DESIGN] = design_of(work.trials).model_dump(mode="json")
    header = {key: value for key, value in read_header(folder.study).items() if key != DESIGN}
    write_digested(folder.study, header | plan)


def seen(folder: StudyFolder) -> bool:
    """Whether a trial has left results, of this plan or of an earlier one; failed ones have none."""
    paths = [*listed(folder.records, "*.json"), *listed(folder.earlier.records, "*.json")]
    return any(load_record(path).status != "failed" for path in paths)
