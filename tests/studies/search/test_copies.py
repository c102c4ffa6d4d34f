"""The SQLite copy of a search: what Optuna's dashboard in the browser opens."""

from __future__ import annotations

from pathlib import Path

import pytest
from optuna import load_study
from optuna.trial import TrialState

from softprior.errors import UserError
from softprior.results.folder import StudyFolder
from softprior.studies.search.copies import save_copy
from softprior.studies.search.storage import REASON, open_search
from tests.studies.search.test_proposals import planned


def test_the_copy_has_every_proposal_as_the_journal_has_it(tmp_path: Path) -> None:
    folder = StudyFolder(tmp_path / "of 100% #1")  # a name that an address would read otherwise
    study = open_search(planned(tmp_path), folder)
    study.ask()
    for value in (2.0, 1.0):
        trial = study.ask()
        trial.suggest_float("priors.isotropic.scale", 1e-4, 1e-1, log=True)
        trial.report(value + 1, 3)
        study.tell(trial, value)
    lost = study.ask()
    lost.set_user_attr(REASON, "its loss is not finite")
    study.tell(lost, state=TrialState.FAIL)
    save_copy(study, folder)
    before = folder.dashboard.read_bytes()
    assert before.startswith(b"SQLite format 3")
    assert [path.name for path in folder.search.iterdir()] == ["optuna.db"]
    copied = load_study(study_name=study.study_name, storage=f"sqlite:///{folder.dashboard}")
    assert copied.user_attrs == study.user_attrs
    assert copied.metric_names == study.metric_names
    assert copied.directions == study.directions
    for ours, theirs in zip(study.get_trials(), copied.get_trials(), strict=True):
        for field in ("number", "state", "values", "params", "distributions", "intermediate_values"):
            assert getattr(ours, field) == getattr(theirs, field)
        assert ours.user_attrs == theirs.user_attrs
    assert {t.state for t in copied.get_trials()} == {
        TrialState.RUNNING,
        TrialState.COMPLETE,
        TrialState.FAIL,
    }
    save_copy(study, folder)  # anew, in place of the last
    assert len(load_study(study_name=study.study_name, storage=f"sqlite:///{folder.dashboard}").trials) == 4


def test_a_copy_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    folder = StudyFolder(tmp_path / "small")
    study = open_search(planned(tmp_path), folder)
    folder.search.mkdir()
    folder.dashboard.mkdir()
    with pytest.raises(UserError, match=r"optuna\.db cannot be written \("):
        save_copy(study, folder)
