"""Studies over three nodes of this machine, each with a raylet of its own; a node or the driver is killed."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import psutil
import pytest

from softprior.inputs.specs import TrialSpec
from softprior.inputs.study_files import load_grid
from softprior.results.folder import StudyFolder
from softprior.results.records import load_records
from softprior.studies.plan import plan_study
from tests.builders import study_file
from tests.ray_nodes import Nodes
from tests.studies.runs import (
    Undisturbed,
    assert_as_undisturbed,
    assert_tracked,
    checkpoints,
    ends,
    tracked,
    undisturbed,
    wait_for,
    workers_of,
    written,
)

__all__ = ["undisturbed"]  # a fixture

pytestmark = [pytest.mark.ray, pytest.mark.faults, pytest.mark.timeout(600)]


class Running:
    """A study whose baseline has finished and of which each worker node trains a trial.

    Attributes:
        first: the driver.
        workers: the process of each trial that runs, by id.
        before: when records were written by then.
    """

    def __init__(self, nodes: Nodes, folder: Path) -> None:
        self._nodes = nodes
        self.results = folder / "results"
        self.folder = StudyFolder(self.results / "small")
        file = study_file(
            folder / "small.yaml",
            seeds=[0, 1],
            training={"steps": 300, "batch": 8, "checkpoint": 1},
            resources={"cpus": 1, "patience": 20},  # so that a trial has a file open that names it
        )
        self._file = str(file)
        self._trials = plan_study(load_grid(file)).trials
        self.first = self.run()
        wait_for(lambda: written(self.folder) and len(checkpoints(self.folder)) == 2, self.first)
        running = {path.stem for path in checkpoints(self.folder)}
        self.workers = {spec.id: self.workers_of(spec)[0] for spec in self._trials if spec.id in running}
        assert len({worker.ppid() for worker in self.workers.values()}) == 2, "each on a node of its own"
        self.before = written(self.folder)

    def run(self) -> subprocess.Popen[str]:
        return self._nodes.run("jobs.study", self._file, "--results", str(self.results))

    def workers_of(self, spec: TrialSpec) -> list[psutil.Process]:
        return workers_of(self._nodes.process.pid, Path(self.folder.stalls(spec.id)))

    def now(self) -> list[psutil.Process]:
        """The processes of trials."""
        return [worker for spec in self._trials for worker in self.workers_of(spec)]

    def assert_whole(self, undisturbed: Undisturbed, output: str) -> None:
        """That the last driver ran exactly what had not finished, and all is as undisturbed."""
        records = load_records(self.folder.records)
        assert len(records) == 5
        assert {i: written(self.folder)[i] for i in self.before} == self.before, "a finished trial ran again"
        assert_as_undisturbed(self.folder, records, undisturbed)
        assert_tracked(self.results, records)
        assert tracked(self.results)[0].info.status == "FINISHED"
        assert len(ends(output)) == len(set(ends(output)))
        assert "Traceback" not in output


def test_a_study_outlives_one_of_its_nodes(tmp_path: Path, undisturbed: Undisturbed) -> None:
    with Nodes() as nodes:
        study = Running(nodes, tmp_path)
        assert nodes.kill_one() == 2, "both workers have a trial"
        output, _ = study.first.communicate(timeout=400)
        assert study.first.returncode == 0, output
    study.assert_whole(undisturbed, output)
    assert len(ends(output)) == 5
    lost = re.findall(r"^ +([0-9a-f]+)  .*  (.*); started again (.*)$", output, re.MULTILINE)
    assert len(lost) == 1, output
    ((trial, why, again),) = lost
    assert any(running.startswith(trial) for running in study.workers)
    assert re.fullmatch(r"its process died \(step [^)]*\)", why)
    assert again == "from its last checkpoint (attempt 2 of 3)"


def test_a_killed_driver_takes_its_trials_on_other_nodes_along_and_the_next_one_goes_on(
    tmp_path: Path, undisturbed: Undisturbed
) -> None:
    with Nodes() as nodes:
        study = Running(nodes, tmp_path)
        orphans = set(study.workers.values())
        study.first.kill()
        study.first.communicate()
        second = study.run()
        resumed = wait_for(lambda: set(study.now()) - orphans, second)
        assert resumed
        assert orphans.isdisjoint(study.now()), "a trial of the first driver still runs"
        output, _ = second.communicate(timeout=400)
        assert second.returncode == 0, output
        assert not study.now()
    study.assert_whole(undisturbed, output)
    assert re.search(rf"\b{len(study.before)} of 5 trials (is|are) finished already", output)
    assert len(ends(output)) == 5 - len(study.before)
    assert "its process died" not in output
