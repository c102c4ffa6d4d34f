"""A study as a batch job of a real Slurm, whose two nodes are this machine."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from softprior.results.folder import StudyFolder
from softprior.results.records import load_records
from tests.builders import study_file
from tests.slurm import MISSING, Slurm
from tests.studies.runs import Undisturbed, assert_as_undisturbed, checkpoints, undisturbed

__all__ = ["undisturbed"]  # a fixture

pytestmark = [pytest.mark.faults, pytest.mark.ray, pytest.mark.timeout(900)]

BATCH = "jobs/slurm/study.sbatch"


@pytest.fixture(scope="module")
def real() -> Iterator[Slurm]:
    if MISSING:
        pytest.skip(f"no {', '.join(MISSING)}: apt-get install slurmctld slurmd slurm-client munge")
    with Slurm() as found:
        yield found


def test_studies_share_a_node_are_requeued_and_end_as_if_nothing_had_been(
    real: Slurm, tmp_path: Path, undisturbed: Undisturbed
) -> None:
    """Two nodes of a real Slurm: one job has both, another, with a trial that fails, a part of the first."""
    options = ("--cpus-per-task=1", "--gpus-per-node=0", "--mem=2G")
    good = study_file(tmp_path / "small.yaml", training={"steps": 150, "batch": 8, "checkpoint": 1})
    bad = study_file(tmp_path / "bad.yaml", name="bad", priors=[{"isotropic": {"scale": 1e39}}])
    both, one = tmp_path / "both.log", tmp_path / "one.log"
    quiet = "tracking.enabled=false"
    results = str(tmp_path / "results")

    def submit(nodes: str, log: Path, study: Path) -> str:
        arguments = (BATCH, str(study), quiet, "--results", results)
        return real.submit(nodes, *options, f"--output={log}", *arguments)

    first = submit("--nodes=2", both, good)
    second = submit("--nodelist=one", one, bad)
    folder = StudyFolder(tmp_path / "results" / "small")
    while not checkpoints(folder):
        assert real.state(first)[0] in ("PENDING", "RUNNING"), both.read_text()
        time.sleep(0.1)
    real.ask("scancel", "--batch", "--signal=USR1", first)  # as before the time limit
    while (state := real.state(first)[0]) != "PENDING":
        assert state in ("RUNNING", "COMPLETING"), both.read_text()
        time.sleep(0.2)
    assert "back in the queue" in both.read_text()
    assert checkpoints(folder)
    before = load_records(folder.records)
    while (state := real.state(first))[0] in ("PENDING", "RUNNING", "COMPLETING"):
        time.sleep(0.5)  # Slurm lets a requeued job wait two minutes for its nodes to be clean
    assert state == ("COMPLETED", "0:0"), both.read_text() + real.said()
    records = load_records(folder.records)
    assert len(records) == 3
    assert all(records[i] == record for i, record in before.items()), "a trial ran again"
    assert_as_undisturbed(folder, records, undisturbed)

    while (state := real.state(second))[0] in ("PENDING", "RUNNING", "COMPLETING"):
        time.sleep(0.5)
    assert state == ("FAILED", "1:0"), one.read_text() + real.said()
    assert "1 of 2 trials failed" in one.read_text()
    bases = {Path("/tmp"), Path(os.environ.get("TMPDIR") or "/tmp")}
    assert not [left for base in bases for job in (first, second) for left in base.glob(f"sp-{job}-*")]


def test_slurm_has_the_status_of_a_job_without_a_study_file(real: Slurm, tmp_path: Path) -> None:
    log = tmp_path / "job.log"
    options = ("--gpus-per-node=0", "--cpus-per-task=1", "--mem=1G", f"--output={log}")
    job = real.submit(*options, BATCH, "no.yaml")
    while (state := real.state(job))[0] in ("PENDING", "RUNNING", "COMPLETING"):
        time.sleep(0.2)
    assert state == ("FAILED", "2:0")
    assert "there is no study file no.yaml" in log.read_text()
