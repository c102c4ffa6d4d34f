"""What stands under a wrong name, or is something else: files of another trial, short ids, wrong types."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from jobs import exchange
from jobs import study as study_command
from softprior.errors import UserError
from softprior.library.results import Results
from softprior.library.studies import load_study, plan, run, use_code
from softprior.priors import PRIORS
from softprior.prompt import collate
from softprior.results.digested import read_header, write_digested
from softprior.results.folder import StudyFolder
from softprior.results.posteriors import load_posterior, save_posterior
from softprior.results.records import load_record
from softprior.results.tables import load_table, save_table
from tests.builders import Finished


@pytest.fixture
def folder(finished_study: Finished, tmp_path: Path) -> StudyFolder:
    return finished_study.copy(tmp_path)


def test_a_record_of_another_trial_is_refused(folder: StudyFolder, finished_study: Finished) -> None:
    one, other, *_ = finished_study.records
    shutil.copy(folder.record(other), folder.record(one))
    with pytest.raises(
        UserError, match=f"has the record of trial {other}, not of {one}; restore it, or delete it to run"
    ):
        load_record(folder.record(one))
    sound = Results(folder.root).sound
    assert one not in sound.records
    (said,) = sound.damaged
    assert f"has the record of trial {other}, not of {one}" in said


def test_a_posterior_of_another_trial_is_refused(
    folder: StudyFolder, finished_study: Finished, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trained = [i for i, record in finished_study.records.items() if record.spec.prior is not None]
    one, other = trained[:2] if len(trained) > 1 else (trained[0], "0" * 16)
    path = folder.posterior(one)
    name = folder.posterior(other)
    shutil.copy(path, name)
    with pytest.raises(UserError, match=f"has the vectors of trial {one}, not of {other}"):
        load_posterior(name)
    arguments = ["export", str(name), str(tmp_path / "adapter"), "--no-check"]
    assert exchange.main(arguments) == 2
    assert "has the vectors of trial" in capsys.readouterr().err
    assert not (tmp_path / "adapter").exists()
    renamed = shutil.copy(path, tmp_path / "mine.safetensors")
    assert load_posterior(renamed).header["trial"] == one, "outside a study a file may have any name"


def test_ids_cut_short_are_in_the_mapping_too(folder: StudyFolder, finished_study: Finished) -> None:
    records = Results(folder.root).records
    (first, *_) = records
    assert first[:6] in records
    assert records.get(first[:6]) is records[first]
    assert "nowhere" not in records
    assert records.get("nowhere") is None
    with pytest.raises(UserError, match="3 is not the id of a trial"):
        records[3]  # type: ignore[index]


def test_what_is_no_study_and_no_file_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="load_study takes a path, not an int; give that of a study file"):
        load_study(5)  # type: ignore[arg-type]
    with pytest.raises(UserError, match="plan takes a study, not a str; give what load_study returns"):
        plan("demo")  # type: ignore[arg-type]
    with pytest.raises(UserError, match="is a folder, not a posterior file; name a file in it"):
        load_posterior(tmp_path)


def test_a_table_or_study_json_of_another_study_is_refused(folder: StudyFolder, tmp_path: Path) -> None:
    header = read_header(folder.study)
    write_digested(folder.study, header | {"spec": header["spec"] | {"name": "another"}})
    for read in (
        lambda results: results.table,
        lambda results: results.trials,
        lambda results: results.study,
    ):
        with pytest.raises(
            UserError, match=r"is of the study 'small', but the study\.json .* is of 'another'"
        ):
            read(Results(folder.root))
    save_table(folder.table, load_table(folder.table)[0])  # as older versions wrote it
    assert len(Results(folder.root).table)


def test_what_is_given_in_place_of_something_else_is_one_sentence(tmp_path: Path) -> None:
    for wrong, said in (
        (lambda: run("demo"), "run takes a plan, not a str; give what plan returns"),  # type: ignore[arg-type]
        (lambda: load_study("demo", ["seeds=[0]"]), "is a text such as .*, not a list; give each by itself"),  # type: ignore[arg-type]
        (
            lambda: save_posterior("x.safetensors", None),
            "save_posterior takes a path and a posterior, not None",
        ),  # type: ignore[arg-type]
        (lambda: save_posterior(3, None), "save_posterior takes a path and a posterior, not an int"),  # type: ignore[arg-type]
        (lambda: Results.from_mlflow(tmp_path, "demo"), "is no address of MLflow"),  # type: ignore[arg-type]
        (lambda: use_code(3), "a path is a text, not an int"),  # type: ignore[arg-type]
    ):
        with pytest.raises(UserError, match=said):
            wrong()


def test_a_component_that_does_not_exist_is_one_sentence() -> None:
    said = "'isotropc' does not exist among the priors; did you mean 'isotropic'"
    for kind in (UserError, KeyError):
        with pytest.raises(kind) as refused:
            PRIORS["isotropc"]
        assert str(refused.value).startswith(said)
    assert PRIORS.get("isotropc") is None
    with pytest.raises(UserError, match="a batch needs at least one row"):
        collate([])


def test_a_list_of_all_trials_needs_a_dry_run(capsys: pytest.CaptureFixture[str]) -> None:
    assert study_command.main(["demo", "--all"]) == 2
    assert "--all lists the trials of a dry run; add --dry-run, or leave it out" in capsys.readouterr().err


def test_overrides_are_not_required(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        study_command.main([])
    assert "required: study\n" in capsys.readouterr().err
