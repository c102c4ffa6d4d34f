"""The clock on the wall jumps by days under a running trial: no number, duration or order comes from it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from softprior import liveness
from softprior.results.leftovers import remove_leftovers
from softprior.results.records import load_records
from softprior.studies.table import write_table
from tests.builders import Finished, run


@pytest.mark.usefixtures("jumping_clock")
def test_a_trial_is_the_same_and_its_durations_are_of_seconds(
    finished_study: Finished, tmp_path: Path
) -> None:
    spec = next(trial for trial in finished_study.plan.trials if trial.prior)
    said: list[float] = []
    found = run(spec, tmp_path, lambda _: said.append(liveness.silence()))
    expected = finished_study.records[spec.id]
    assert found.cost is not None
    measured = {"cost": expected.cost, "environment": expected.environment}
    assert found.model_copy(update=measured) == expected
    taken = [found.environment["seconds"], *found.cost.seconds.values(), *said]
    assert all(0 <= seconds < 600 for seconds in taken)


def test_records_are_in_the_order_of_the_plan_whenever_they_were_written(
    finished_study: Finished, tmp_path: Path
) -> None:
    """Each is a day older than the one before, and what is being written is of next week."""
    folder = finished_study.copy(tmp_path)
    table = folder.table.read_bytes()
    for age, trial in enumerate(finished_study.plan.trials):
        os.utime(folder.record(trial.id), (1e9 - 86_400 * age,) * 2)
    half = folder.records / f".{'0' * 32}.json.{'0' * 32}.part"
    half.touch()
    os.utime(folder.table, (1e9, 1e9))
    records = load_records(folder.records)
    write_table(folder, finished_study.plan.trials, finished_study.plan.components, records)
    assert folder.table.read_bytes() == table
    os.utime(folder.table, (1e9, 1e9))
    remove_leftovers(folder, records)
    assert half.exists(), "somebody writes it"
