"""Results of other code: said where they are reused, and kept until the new ones are whole."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from jobs import study as command
from softprior.results.folder import StudyFolder
from softprior.results.provenance import SOURCES
from softprior.results.records import Record, load_records, save_record
from softprior.studies import grid
from softprior.studies.again import of_other_code, reused_note, set_aside, settle
from softprior.studies.cluster import Cluster
from softprior.studies.failures import failed
from softprior.studies.grid import Grid
from softprior.studies.runner import InterruptedStudyError
from tests.builders import Finished

OTHER = {"commit": "f" * 40, "sources": "0" * 16}


@pytest.fixture
def folder(finished_study: Finished, tmp_path: Path) -> StudyFolder:
    """The finished study, two of its three trials made by other code."""
    folder = finished_study.copy(tmp_path)
    for trial in others(finished_study):
        record = finished_study.records[trial]
        made = record.model_copy(update={"environment": record.environment | OTHER})
        save_record(folder.record(trial), made)
    return folder


def others(study: Finished) -> list[str]:
    return [trial.id for trial in study.plan.trials if trial.prior]


def contents(folder: StudyFolder) -> dict[str, bytes]:
    """Every file that trials have, by its path in the folder."""
    root = Path(folder.root)
    kinds = ("records", "posteriors", "figures")
    return {str(p.relative_to(root)): p.read_bytes() for kind in kinds for p in (root / kind).glob("*")}


def test_the_line_counts_them_and_names_the_option(finished_study: Finished, folder: StudyFolder) -> None:
    records = load_records(folder.records)
    note = reused_note(records.values())
    assert note is not None
    assert note.startswith(
        "note: 2 of 3 reused trials were made by other code (commit fffffff (sources 00000000)"
    )
    assert f"(sources {SOURCES[:8]})); --again runs them again" in note
    assert {record.id for record in of_other_code(records.values())} == set(others(finished_study))
    assert reused_note(finished_study.records.values()) is None
    one = reused_note([records[others(finished_study)[0]]])
    assert one is not None
    assert one.startswith("note: 1 of 1 reused trial was made by other code (")
    assert one.endswith("; --again runs it again")


def test_what_a_trial_had_is_put_back_until_its_new_record_is_whole(
    finished_study: Finished, folder: StudyFolder
) -> None:
    before = contents(folder)
    kept, lost = others(finished_study)
    set_aside(folder, [kept, lost])
    assert len(load_records(folder.records)) == 1
    save_record(folder.record(lost), failed(finished_study.records[lost].spec, "no", OTHER))
    folder.posterior(kept).write_bytes(b"of a run that was stopped before its record")
    settle(folder)
    assert {name: before[name] for name in before if lost not in name} == {
        name: content for name, content in contents(folder).items() if lost not in name
    }
    assert load_records(folder.records)[lost].status == "failed"
    assert contents(folder.earlier) == {name: before[name] for name in before if lost in name}
    save_record(folder.record(lost), finished_study.records[lost])
    settle(folder)
    assert contents(folder.earlier) == {}


def test_only_trials_of_other_code_run_again(
    finished_study: Finished, folder: StudyFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = contents(folder)
    ran: list[str] = []

    def run_trials(study: Any, trials: list[Any], to: StudyFolder, *_: Any, **__: Any) -> None:
        """The first trial runs, in place of Tune; then Ctrl-C."""
        first = trials[0].id
        assert all(not to.record(trial.id).exists() for trial in trials)
        save_record(to.record(first), finished_study.records[first])
        ran.append(first)
        if len(trials) > 1:
            raise KeyboardInterrupt

    monkeypatch.setattr(grid, "run_trials", run_trials)
    plan = finished_study.plan
    with pytest.raises(InterruptedStudyError):
        Grid(*plan).run(folder, again=True)
    untouched = next(trial for trial in others(finished_study) if trial != ran[0])
    after = contents(folder)
    assert {n: c for n, c in after.items() if ran[0] not in n} == {
        n: c for n, c in before.items() if ran[0] not in n
    }
    Grid(*plan).run(folder)
    assert len(ran) == 1, "without the option nothing runs"
    records = Grid(*plan).run(folder, again=True)
    assert ran == [ran[0], untouched]
    assert of_other_code(records.values()) == []
    assert contents(folder.earlier) == {}


def test_the_command_says_so_and_hides_passwords(
    finished_study: Finished, folder: StudyFolder, capsys: pytest.CaptureFixture[str], monkeypatch
) -> None:
    """A study that is whole already, so that nothing starts Ray, and a tracking server that is away."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setattr(Cluster, "start", lambda _: pytest.fail("nothing is to be run"))
    uri = "tracking.uri=http://user:geheim@127.0.0.1:9"
    results = str(folder.root.parent)
    assert command.main([str(finished_study.file), uri, "--results", results]) == 0
    captured = capsys.readouterr()
    assert captured.out.count("2 of 3 reused trials were made by other code") == 1
    assert "note: could not write to MLflow at http://user:***@127.0.0.1:9" in captured.out
    assert "geheim" not in captured.out + captured.err
    for path in Path(results).rglob("*"):
        assert path.is_dir() or b"geheim" not in path.read_bytes(), path
    assert b"user:***@127" in Path(folder.study).read_bytes()


def test_trials_that_are_only_measured_further_are_reused_too(
    finished_study: Finished, folder: StudyFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    also = "evaluation.also=[{arithmetic: {modules: [mul]}}]"
    words = [str(finished_study.file), also, "--results", str(folder.root.parent), "--dry-run"]
    assert command.main(words) == 0
    said = capsys.readouterr().out
    assert "3 finished trials measured on arithmetic too" in said
    assert "2 of 3 reused trials were made by other code" in said


def test_a_record_says_which_code_made_it(finished_study: Finished) -> None:
    for record in finished_study.records.values():
        assert isinstance(record, Record)
        assert record.environment["sources"] == SOURCES
