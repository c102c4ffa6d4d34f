"""Writes down which claims a study will judge, before any of its trials has ended."""

from __future__ import annotations

from analysis.findings.claims import CLAIMS as JUDGED
from softprior.results.files import write_json
from softprior.results.folder import StudyFolder
from softprior.results.records import read_header
from softprior.studies.observers import Work
from softprior.studies.table import CLAIMS


def plan_claims(folder: StudyFolder, work: Work) -> None:
    """Adds the claims and their rules to study.json, unless they are there or trials have ended already.

    Whoever has seen results can no longer plan: what such a study shows stays exploratory.
    """
    header = read_header(folder.study)
    if CLAIMS not in header and not work.kept and not work.superseded:
        write_json(folder.study, header | {CLAIMS: {claim.name: claim.rule for claim in JUDGED}})
