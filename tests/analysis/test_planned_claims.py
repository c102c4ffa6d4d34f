"""The list of claims in study.json: written before any trial has ended, and never later."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from analysis.findings.claims import CLAIMS
from analysis.findings.judging import judge
from analysis.findings.planning import plan_claims
from analysis.findings.reading import read_studies
from softprior.results.folder import StudyFolder
from softprior.studies.observers import Work
from softprior.studies.table import write_study
from tests.builders import Finished

RULES = {claim.name: claim.rule for claim in CLAIMS}


def claims(folder: StudyFolder) -> Any:
    return json.loads(folder.study.read_text(encoding="utf-8")).get("claims")


def work(study: Finished, **found: Any) -> Work:
    trials = tuple(study.plan.trials)
    return Work(**{"trials": trials, "kept": {}, "superseded": (), "total": len(trials), **found})


def test_claims_are_written_when_a_study_starts_and_kept_when_it_goes_on(
    finished_study: Finished, tmp_path: Path
) -> None:
    folder = finished_study.copy(tmp_path)
    assert all(found.exploratory for found in judge(read_studies([str(folder.root)]).study))
    plan_claims(folder, work(finished_study))
    assert claims(folder) == RULES
    write_study(folder, finished_study.plan)
    assert claims(folder) == RULES, "the study went on"
    plan_claims(folder, work(finished_study, kept=finished_study.records))
    assert claims(folder) == RULES
    read = read_studies([str(folder.root)]).study
    assert not any(found.exploratory for found in judge(read))


@pytest.mark.parametrize("ended", ["kept", "superseded", "extended"])
def test_who_has_seen_results_plans_nothing(finished_study: Finished, tmp_path: Path, ended: str) -> None:
    folder = finished_study.copy(tmp_path)
    trial = next(iter(finished_study.records))
    seen: Mapping[str, Any] = {
        "kept": {trial: finished_study.records[trial]},
        "superseded": (trial,),
        "extended": {trial: finished_study.records[trial]},
    }
    plan_claims(folder, work(finished_study, **{ended: seen[ended]}))
    assert claims(folder) is None
