"""The study's way through the library is short and goes down; the measure finds steps back up."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from benchmarks.call_path import Call, followed, reached
from jobs.study import main
from softprior.inputs.specs import StudySpec
from softprior.library.studies import load_study, plan, run
from softprior.studies.observers import Work
from softprior.studies.plan import Plan
from softprior.training.events import Observer
from tests.builders import Finished

CARRIERS = (StudySpec, Plan)


def test_a_study_that_has_ended_passes_few_places(finished_study: Finished, tmp_path: Path) -> None:
    """Nothing runs, so that neither Ray nor an observer has a part in it; `jobs` adds its own places."""
    finished_study.copy(tmp_path)

    def whole() -> None:
        study = load_study(finished_study.file, "tracking.enabled=false")
        run(plan(study, "small.yaml"), tmp_path / "results")

    calls = followed(whole, CARRIERS)
    places = [call.target for call in calls]
    assert "softprior.studies.grid:Grid.run" in places
    assert len(set(places)) <= 9
    # Observers are made by whoever runs a study, once the folder is locked.
    made = Call("softprior.studies.observers:listening", "softprior.library.studies:run.<locals>.everyone")
    assert [call for call in calls if call.up] == [made]


@pytest.mark.faults  # for its time, the calls of a whole command
def test_the_command_adds_few_places_to_it(
    finished_study: Finished, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    finished_study.copy(tmp_path)
    command = [str(finished_study.file), "tracking.enabled=false", "--results", str(tmp_path / "results")]
    calls = followed(lambda: main(command), CARRIERS)
    assert "study small: 3 of 3 trials are finished already" in capsys.readouterr().out
    assert "jobs.study:_run" in {call.target for call in calls}
    assert len({call.target for call in calls}) <= 15
    assert sum(call.up for call in calls) <= 2


def test_what_a_first_run_says_passes_few_places(finished_study: Finished) -> None:
    """Described, in words, the memory of it and what that needs; the rest of a first run adds two places."""
    planned = plan(finished_study.plan.study)
    work = Work(planned.trials, {}, (), len(planned.trials))
    calls = followed(lambda: planned.described(work), CARRIERS)
    assert "softprior.studies.memory:memory_lines" in {call.target for call in calls}
    assert len({call.target for call in calls}) <= 4


def test_no_pass_is_handed_to_threads_that_are_not_followed() -> None:
    threads, seen = torch.get_num_threads(), list[int]()
    try:
        torch.set_num_threads(2)
        followed(lambda: seen.append(torch.get_num_threads()), CARRIERS)
        assert [*seen, torch.get_num_threads()] == [1, 2]
    finally:
        torch.set_num_threads(threads)


def test_functions_around_a_study_count_and_others_do_not(finished_study: Finished) -> None:
    study = finished_study.plan.study

    def listen(work: Work) -> Sequence[Observer]:  # a place, but of no module that is followed
        return [Observer()] if study.name == work.trials[0].id else []

    calls = followed(lambda: listen(Work(finished_study.plan.trials, {}, (), 3)), CARRIERS)
    assert calls == []
    assert {call.source for call in followed(lambda: plan(study), CARRIERS)} >= {
        "",
        "softprior.studies.plan:plan_study",
    }


def test_a_module_reaches_what_it_imports_and_what_that_imports() -> None:
    found = reached("jobs.study")
    assert {"softprior.library.studies", "softprior.studies.grid", "jobs.support.exits"} <= found
    assert "jobs.study" not in reached("softprior.library.studies")
    assert Call("jobs.support.exits:status_of", "jobs.study:main").up
    assert not Call("jobs.study:main", "jobs.support.exits:status_of").up
