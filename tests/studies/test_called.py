"""Labels in study files: what people see, and nothing that a trial is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from softprior.errors import UserError
from softprior.inputs.entries import Entry
from softprior.inputs.labels import axes, labels
from softprior.inputs.specs import StudySpec, TrialSpec
from softprior.inputs.study_files import load_grid
from softprior.inputs.validation import validate
from softprior.priors import PRIORS
from softprior.studies.plan import Plan, plan_study
from softprior.tasks import TASKS
from softprior.training.recognised import own_label, recognised
from tests.builders import SUMS, study_file, trial

SHELL = {"exclusion": {"quantile": 0.95}}
TERMS = ["none", "spread", ["spread", "norm_ball"]]


def plan(folder: Path, **changes: Any) -> Plan:
    return plan_study(load_grid(study_file(folder / "small.yaml", **changes)))


def test_labels_are_shown_on_every_axis_and_change_no_trial(tmp_path: Path) -> None:
    before = plan(tmp_path, priors=[SHELL, "exclusion"], regularisers=TERMS)
    named = plan(
        tmp_path,
        priors=[{**SHELL, "label": "shell"}, {"exclusion": None, "label": "around"}],
        methods=[{"soft": {"tokens": 4}, "label": "front"}],
        tasks=[{"arithmetic": SUMS, "label": "sums"}],
        regularisers=["none", {"spread": {}, "label": "wide"}, TERMS[2]],
    )
    assert [t.id for t in named.trials] == [t.id for t in before.trials]
    assert [t.model_dump_json() for t in named.trials] == [t.model_dump_json() for t in before.trials]
    assert list(labels(named.trials).values())[:4] == [
        "sums · none",
        "sums · front · shell · 0.05 · seed 0",
        "sums · front · shell · wide · 0.05 · seed 0",
        "sums · front · shell · norm_ball · wide · 0.05 · seed 0",
    ]
    assert {own.prior for own in axes(before.trials).values()} == {
        None,
        "exclusion(quantile=0.95)",
        "exclusion",
    }


def test_a_study_keeps_its_labels_and_a_trial_has_none(tmp_path: Path) -> None:
    named = plan(tmp_path, priors=[{**SHELL, "label": "shell"}, "fitted"])
    again = validate(StudySpec, named.spec, "study.json")
    assert [entry.label for entry in again.priors] == ["shell", None]
    assert "label" not in named.spec["tasks"][0]
    read = TrialSpec.model_validate_json(named.trials[1].model_dump_json())
    assert read == named.trials[1]
    assert read.prior.shown.name == "exclusion"
    assert named.trials[1].prior.shown == ("shell", {"quantile": 0.95})


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"priors": [{**SHELL, "label": "a"}, {"fitted": {}, "label": "a"}]},
            "priors[1].label = 'a' is also the label of priors[0]; give each entry a label of its own",
        ),
        (
            {"priors": [{"fitted": {}, "label": "a"}, {"fitted": {"jitter": 0}, "label": "b"}]},
            "priors[1].label = 'b' is a second label of the entry 'a', which is the same; remove one of them",
        ),
        (
            {"priors": [{"fitted": {}, "label": "vae"}]},
            "priors[0].label = 'vae' is the name of one of the priors; choose another label",
        ),
        (
            {"regularisers": [{"spread": {}, "label": "none"}]},
            "regularisers[0].label = 'none' is the name of one of the regularisers",
        ),
        ({"priors": [{"fitted": {}, "label": "a b"}]}, "priors[0].label = 'a b': must be 1 to 20 letters"),
        (
            {"priors": [{"fitted": {}, "label": "x" * 21}]},
            "must be 1 to 20 letters, digits, '_', '-', '.' or",
        ),
        ({"priors": [{"fitted": {}, "label": 1}]}, "priors[0].label = 1: must be a text; put it in quotes"),
        (
            {"priors": [{"mixture": {"priors": [{"fitted": {}, "label": "a"}]}}]},
            "cannot have a label, unlike the entries of an axis; remove the label",
        ),
    ],
)
def test_labels_that_cannot_be_told_apart_or_shown_are_refused(
    tmp_path: Path, changes: dict[str, Any], said: str
) -> None:
    with pytest.raises(UserError) as error:
        plan(tmp_path, **changes)
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_an_entry_once_with_and_once_without_its_label_counts_once(tmp_path: Path) -> None:
    found = plan(tmp_path, priors=["fitted", {"fitted": {"jitter": 0}, "label": "near"}])
    assert len(found.trials) == 2
    assert "priors[1] is the same as priors[0] and counts once; remove it" in found.notes
    assert labels(found.trials)[found.trials[1].id].endswith("near · 0.05 · seed 0")


def test_a_component_with_a_parameter_called_label_keeps_it() -> None:
    entry = validate(Entry, {"theirs": {"label": "x"}}, "study")
    assert entry.params == {"label": "x"}


def test_a_kind_that_trials_write_in_another_way_is_shown_under_its_own_name() -> None:
    cloze, running = trial(task=TASKS["cloze"]()), trial(task=TASKS["language"](length=64))
    shown = [own.task for own in axes([cloze, running]).values()]
    assert shown == ["cloze", "language"], "and without language's tokens for answers, which it has none of"
    read = TrialSpec.model_validate_json(cloze.model_dump_json())
    assert read.task.name == "language"
    assert own_label(read).startswith("cloze · soft")
    assert labels([recognised(read)]) == labels([cloze])


def test_defaults_are_not_shown_and_null_is_where_it_is_none() -> None:
    entries = [PRIORS.entry(PRIORS["isotropic"](scale=scale)) for scale in (0.02, 0.1, 0.5)]
    found = [own.prior for own in axes([trial(prior=PRIORS.component(e)) for e in entries]).values()]
    assert found == ["isotropic", "isotropic(scale=0.1)", "isotropic(scale=0.5)"]
    unknown = Entry(name="theirs", params={"x": 1})
    assert PRIORS.recognised(unknown) is unknown
