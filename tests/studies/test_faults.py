"""Faults of single trials and of the tracking server, done to real studies.

After each: no finished trial is lost, none runs twice to its end, each has one MLflow run with the right
status, posteriors equal those of undisturbed trials bit for bit, and the output says what happened.
"""

from __future__ import annotations

import os
import re
import signal

import psutil
import pytest

from softprior.results.folder import StudyFolder
from softprior.results.records import load_record, load_records
from softprior.studies.watchdog import stalls
from softprior.training.checkpoint import load_checkpoint
from tests.builders import study_file
from tests.studies.runs import (
    assert_as_undisturbed,
    assert_tracked,
    ends,
    finish,
    nothing_is_left_running,
    planned,
    start,
    tracked,
    undisturbed,
    wait_for,
    wait_for_checkpoint,
    workers_of,
    written,
)
from tests.tracking_server import Server, server

__all__ = ["nothing_is_left_running", "server", "undisturbed"]  # fixtures

pytestmark = [pytest.mark.ray, pytest.mark.faults, pytest.mark.timeout(600)]

PATIENCE = 0.2
"""Minutes, of trials whose longest silence is a second on an idle machine."""

LIMITS = """
import resource, sys
if any(argument.endswith("default_worker.py") for argument in sys.orig_argv):
    for kind, size in ((resource.RLIMIT_FSIZE, {file}), (resource.RLIMIT_DATA, {data})):
        resource.setrlimit(kind, (size, resource.getrlimit(kind)[1]))
"""
"""Run by Python as it starts, in Ray's workers alone."""


def test_a_trial_that_is_killed_and_then_hangs_goes_on_from_its_checkpoint(tmp_path, undisturbed) -> None:
    """Its process is killed; the next one finds a pipe for a checkpoint, and waits for ever."""
    training = {"steps": 150, "batch": 8, "checkpoint": 1}
    resources = {"cpus": 1, "patience": PATIENCE}
    study = study_file(tmp_path / "small.yaml", training=training, resources=resources)
    trial = planned(study)["soft isotropic"]
    folder = StudyFolder(tmp_path / "results" / "small")
    checkpoint, stacks = folder.checkpoint(trial.id), folder.stalls(trial.id)
    process = start(study, tmp_path / "results")
    wait_for(checkpoint.exists, process)
    (worker,) = wait_for(lambda: workers_of(process.pid, stacks), process)
    worker.kill()
    wait_for(lambda: not worker.is_running() or worker.status() == psutil.STATUS_ZOMBIE, process)
    kept = tmp_path / "kept"
    checkpoint.rename(kept)
    os.mkfifo(checkpoint)
    found = load_checkpoint(kept, trial.id)
    assert found is not None
    assert 0 < found[0].step < 150
    wait_for(lambda: stalls(stacks), process)
    kept.replace(checkpoint)

    code, output = finish(process)
    assert code == 0, output
    assert re.search(r"its process died \(step [^)]*\); started again .* \(attempt 2 of 3\)", output)
    hung = rf"no sign of life for {PATIENCE} minutes \(step 0, fitting isotropic\); started again .* 3 of 3\)"
    assert re.search(hung, output)
    assert "Traceback" not in output
    assert "load_checkpoint" in stacks.read_text()
    records = load_records(folder.records)
    assert len(records) == len(ends(output)) == len(set(ends(output))) == 3
    assert_as_undisturbed(folder, records, undisturbed)
    assert_tracked(tmp_path / "results", records)


def test_a_process_that_is_lost_between_two_trials_costs_neither(tmp_path, undisturbed) -> None:
    """The driver holds still while a trial's process ends the trial and is killed before it gets another."""
    study, results = study_file(tmp_path / "small.yaml"), tmp_path / "results"
    folder = StudyFolder(results / "small")
    process = start(study, results, "resources.concurrent=1")
    wait_for(lambda: load_records(folder.records), process)
    process.send_signal(signal.SIGSTOP)
    children = psutil.Process(process.pid).children(recursive=True)
    (worker,) = (child for child in children if child.name().startswith("ray::ImplicitFunc"))
    wait_for(lambda: worker.cpu_percent(0.5) == 0, process)
    worker.kill()
    process.send_signal(signal.SIGCONT)

    code, output = finish(process)
    assert code == 0, output
    assert len(re.findall(r"its process died \(.*\); started again .* \(attempt 2 of 3\)", output)) == 1
    records = load_records(folder.records)
    assert len(records) == len(ends(output)) == len(set(ends(output))) == 3
    assert_as_undisturbed(folder, records, undisturbed)
    assert_tracked(results, records)


def test_trials_that_hang_or_lack_memory_or_disk_fail_alone_and_the_next_command_completes_them(
    tmp_path, undisturbed
) -> None:
    large = {"deep": {"tokens": 200}}  # 0.4 MB in each part of its checkpoint, which has ever more of them
    huge = {"vae": {"latent": 65536, "width": 65536}}  # 34 GB in a layer
    study = study_file(
        tmp_path / "small.yaml",
        priors=["isotropic", "fitted", huge],
        methods=[{"soft": {"tokens": 4}}, large],
        training={"steps": 12, "batch": 8, "checkpoint": 1},
        resources={"cpus": 1, "patience": PATIENCE},
    )
    trials, results = planned(study), tmp_path / "results"
    folder = StudyFolder(results / "small")
    pipe = folder.checkpoint(trials["soft isotropic"].id)
    pipe.parent.mkdir(parents=True)
    os.mkfifo(pipe)
    (tmp_path / "sitecustomize.py").write_text(LIMITS.format(file=2_250_000, data=16 * 2**30))

    code, output = finish(start(study, results, PYTHONPATH=str(tmp_path)))
    assert code == 1, output
    assert "Traceback" not in output
    records = load_records(folder.records)
    assert len(records) == 7
    said = {name: records[spec.id].error for name, spec in trials.items()}
    assert said["none"] is said["soft fitted"] is None
    assert re.match(
        rf"no sign of life for {PATIENCE} minutes.*, 3 times; see .*-stalls\.txt$", said["soft isotropic"]
    )
    for name in ("soft vae", "deep vae"):
        assert re.match(r"step 0, fitting vae.*: there was not enough memory \(.*\); lower .*", said[name])
    for name in ("deep isotropic", "deep fitted"):
        assert said[name].startswith("step 3: a file cannot be written (File too large); free some space")
        found = load_checkpoint(folder.checkpoint(trials[name].id), trials[name].id)
        assert found is not None
        assert found[0].step == 2, "the last whole checkpoint stays"
    assert not list(pipe.parent.glob(".*"))
    assert_tracked(results, records)

    pipe.unlink()
    (tmp_path / "sitecustomize.py").unlink()
    before = {i: at for i, at in written(folder).items() if records[i].status == "finished"}
    code, output = finish(start(study, results, "priors=[isotropic,fitted]"))
    assert code == 0, output
    assert {i: written(folder)[i] for i in before} == before
    assert len(ends(output)) == 3
    mended = {i: load_record(folder.record(i)) for i in (s.id for n, s in trials.items() if "vae" not in n)}
    assert_as_undisturbed(folder, mended, undisturbed)
    assert_tracked(results, records | mended)


def test_records_that_nobody_can_write_are_one_sentence_and_the_next_command_completes(
    tmp_path, undisturbed
) -> None:
    study = study_file(tmp_path / "small.yaml", training={"steps": 60, "batch": 8, "checkpoint": 1})
    results = tmp_path / "results"
    folder = StudyFolder(results / "small")
    process = start(study, results)
    wait_for_checkpoint(process, folder)
    kept = tmp_path / "kept"
    if folder.records.exists():
        folder.records.rename(kept)
    folder.records.write_text("")  # in the way of the folder, as a full disk would be
    code, output = finish(process)
    assert code == 2, output
    assert "Traceback" not in output
    assert output.count(f"error: {folder.records} cannot be written (") == 1
    assert "free some space and run the command again" in output
    assert "its record cannot be written" in output
    assert "KILLED" in {run.info.status for run in tracked(results)[1].values()}

    folder.records.unlink()
    if kept.exists():
        kept.rename(folder.records)
    code, output = finish(start(study, results))
    assert code == 0, output
    records = load_records(folder.records)
    assert len(records) == 3
    assert_as_undisturbed(folder, records, undisturbed)
    assert_tracked(results, records)


def test_a_tracking_server_that_is_down_for_the_middle_third_misses_nothing(
    tmp_path, undisturbed, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    server.wait()
    training = {"steps": 60, "batch": 8, "checkpoint": 10}
    study = study_file(
        tmp_path / "small.yaml",
        seeds=[0, 1, 2, 3],
        training=training,
        resources={"cpus": 1, "concurrent": 1},
        tracking={"uri": server.uri},
    )
    results = tmp_path / "results"
    folder = StudyFolder(results / "small")

    def ended() -> int:
        return len(list(folder.records.glob("*.json")))

    process = start(study, results)
    wait_for(lambda: ended() >= 3, process)
    server.kill()
    wait_for(lambda: ended() >= 6, process)
    server.start()
    code, output = finish(process)
    assert code == 0, output
    assert "Traceback" not in output
    if "could not be written" in output:  # the study was faster than the server
        assert "run the same command again to send it" in output
        server.wait()
        code, again = finish(start(study, results))
        assert code == 0, again
        assert "9 of 9 trials are finished already" in again
        assert not ends(again)
        assert "could not be written" not in again
    records = load_records(folder.records)
    assert len(records) == len(ends(output)) == 9
    assert_as_undisturbed(folder, records, undisturbed)
    assert_tracked(results, records, server.uri)
    assert tracked(results, server.uri)[0].info.status == "FINISHED"
