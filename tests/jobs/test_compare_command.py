"""The command that compares, on a real study and on what is no study."""

from __future__ import annotations

import io
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from analysis.comparison_table import comparison_table
from analysis.comparisons import Row, caption, compare, differing
from analysis.findings.simulated import Truth, simulated
from analysis.findings.study import Study, runs_of
from analysis.inference import power
from analysis.inference.values import Interval
from jobs import compare as command
from jobs import report
from jobs.support.outcomes import print_comparisons
from softprior.inputs.entries import Entry, Shown
from softprior.results.digested import read_header
from softprior.results.records import load_record
from softprior.studies.table import write_table
from tests.builders import Finished, with_seeds


def test_a_study_of_nine_seeds_is_compared_within_the_window(
    finished_study: Finished,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """COLUMNS says how wide it is; a file or a pipe has lines as long as they need to be."""
    folder = with_seeds(finished_study, tmp_path, 9)
    monkeypatch.delenv("COLUMNS", raising=False)
    assert command.main([str(folder.root), "prior"]) == 0
    whole = capsys.readouterr().out
    monkeypatch.setenv("COLUMNS", "80")
    assert command.main([str(folder.root), "prior"]) == 0
    text = capsys.readouterr().out
    assert max(map(len, text.splitlines())) <= 80 < max(map(len, whole.splitlines()))
    assert text.split() == whole.split()
    (line,) = [line for line in text.splitlines() if line.startswith("fitted")]
    found = [load_record(path) for path in folder.records.glob("*.json")]
    by_prior = {
        name: {
            r.spec.seed: r.test.loss for r in found if r.test and r.spec.prior and r.spec.prior.name == name
        }
        for name in ("isotropic", "fitted")
    }
    own = np.array([by_prior["fitted"][seed] - by_prior["isotropic"][seed] for seed in range(9)])
    assert f"{own.mean():+.3f}" in line
    assert "sign flips of paired differences" in text
    told = " ".join(text.split())
    assert "; 9 seeds" in told
    seen = power.detectable(own.std(ddof=1), 9)
    assert f"smallest detectable difference: fitted {seen:.3f}" in told
    assert "interquartile mean of scores" in told


def test_a_study_prints_its_comparisons_with_its_own_labels_when_it_ends(
    finished_study: Finished, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = with_seeds(finished_study, tmp_path, 3)
    records = [load_record(path) for path in sorted(folder.records.glob("*.json"))]
    labelled = []
    for record in records:
        prior = record.spec.prior
        if prior is not None and prior.name == "fitted":
            shown = prior.shown_as(Shown("like the vocabulary", {}))
            record = record.model_copy(update={"spec": record.spec.model_copy(update={"prior": shown})})
        labelled.append(record)
    print_comparisons(Console(width=80, markup=False), labelled, folder.root)
    text = capsys.readouterr().out
    assert "prior against" in text
    assert "like the vocabulary" in " ".join(text.split())
    assert "interquartile mean of scores" in " ".join(text.split())
    alone = "this table alone (findings are corrected over all tests of a study and may need more)"
    best = (
        f"3 seeds give p = 0.25 at best, 0.25 after Holm over {alone}: at least 6 seeds are needed for 0.05"
    )
    assert best in " ".join(text.split())
    two = [record for record in labelled if record.spec.seed != 2]
    print_comparisons(Console(width=80, markup=False), two, Path("my results"))
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("two seeds have no intervals, so nothing is compared along prior; add seeds")
    assert "(python -m jobs.compare 'my results' prior prints" in line
    print_comparisons(Console(width=80, markup=False), finished_study.records.values(), folder.root)
    assert capsys.readouterr().out == "", "one seed has nothing to compare"


def test_a_table_without_intervals_promises_none(capsys: pytest.CaptureFixture[str]) -> None:
    for seeds, promised in ((2, False), (3, True)):
        rows = compare(simulated(Truth(rates=(0.01,), seeds=seeds)), "prior")
        Console(width=80, markup=False).print(comparison_table(rows, "prior", 80))
        text = " ".join(capsys.readouterr().out.split())
        assert ("95%" in text) is promised
        assert ("two seeds have no interval; add seeds" in text) is not promised


@pytest.mark.parametrize("width", [60, 80, 200])
def test_no_name_and_no_number_of_a_comparison_is_cut(width: int) -> None:
    names = ("fitted(statistics=own-store, task=squad)", "relative(rate=0.1, kept)")
    rows = [
        Row(
            where="sums",
            value=name,
            reference="isotropic",
            rates=("0.1 relative", "0.03 relative"),
            budgets=(2, 2),
            seeds=4 + at,
            difference=-10.125,
            interval=Interval(low=-11.125, high=-9.125),
            averaged=-10.5,
            p=0.000123,
            adjusted=0.000246,
            noise=0.00012 + at,
            detectable=0.5,
        )
        for at, name in enumerate(names)
    ]
    console = Console(width=width, file=io.StringIO())
    console.print(comparison_table(rows, "prior", width))
    text = console.file.getvalue()
    assert max(map(len, text.splitlines())) <= width
    assert "…" not in text
    for part in ("statistics=", "own-store,", "task=squad)", "rate=0.1,", "kept)"):
        assert text.count(part) >= 1
    for number in ("-10.125", "-11.125 to -9.125", "-10.500", "0.000123", "0.000246", ">1000"):
        assert text.count(number) == 2


def test_tasks_are_not_compared_at_the_end_of_a_study(capsys: pytest.CaptureFixture[str]) -> None:
    """They are different problems; `jobs.compare RESULTS task` still compares them."""
    study = simulated(Truth(rates=(0.01,), seeds=3))
    other = Entry(name="arithmetic", params={"modules": ["mul"]})
    records = [run.record for run in study.runs]
    records += [
        record.model_copy(update={"spec": spec, "id": spec.id})
        for record in records
        for spec in [record.spec.model_copy(update={"task": other})]
    ]
    print_comparisons(Console(width=80, markup=False), records, Path("results"))
    text = capsys.readouterr().out
    assert "prior against" in text
    assert "task against" not in text
    assert "task" in differing(Study(*runs_of(records)))


def test_a_lost_file_is_a_note_and_the_rest_is_compared(
    finished_study: Finished, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = finished_study.copy(tmp_path)
    lost = next(i for i, record in finished_study.records.items() if record.spec.seed is not None)
    folder.posterior(lost).write_bytes(b"half")
    (sample,) = (folder.root / "vocabulary").iterdir()
    sample.write_bytes(b"half")
    folder.table.write_bytes(b"PAR1")
    assert command.main([str(folder.root), "prior", "--findings"]) == 0
    text = capsys.readouterr().out
    assert f"note: {sample} is damaged" in text
    assert f"{folder.posterior(lost)} is damaged" in text
    assert "Quality is equal whatever the prior" in text


def test_one_seed_has_differences_but_no_tests(
    finished_study: Finished, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command.main([str(finished_study.copy(tmp_path).root), "prior", "--findings"]) == 0
    text = capsys.readouterr().out
    assert "one seed has no interval and no test; add seeds" in text
    said, _, rest = text.partition("Not judged in this study: claims 1, 2, 3,")
    assert "  3. Quality is equal whatever the prior: " in rest, "in the words of the report"
    assert "undecided" not in said + rest
    assert "nan" not in text


def test_a_damaged_record_is_named_and_the_rest_is_compared(
    finished_study: Finished, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = with_seeds(finished_study, tmp_path, 3)
    trained = [trial for trial, record in finished_study.records.items() if record.spec.seed is not None]
    path = folder.record(trained[0])
    path.write_text(path.read_text(encoding="utf-8")[:100], encoding="utf-8")
    folder.record(trained[1]).unlink()
    assert command.main([str(folder.root), "prior"]) == 0
    text = capsys.readouterr().out
    assert f"note: {path} is not a record" in text
    assert "of 7 trials of small have ended; run the study to its end for the rest" in text
    assert "fitted" in text


def test_what_cannot_be_compared_is_refused_in_one_sentence(
    finished_study: Finished, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = finished_study.copy(tmp_path / "one")
    other = finished_study.copy(tmp_path / "two")
    header = read_header(other.study)
    header["model_fingerprint"] = "another"
    other.study.write_text(json.dumps(header), encoding="utf-8")
    bare = finished_study.copy(tmp_path / "three")
    for record in bare.records.glob("*.json"):
        if json.loads(record.read_text(encoding="utf-8"))["spec"]["prior"] is not None:
            record.unlink()
    for arguments, sentence in (
        ([str(tmp_path), "prior"], "has no study.json"),
        ([str(folder.root), "piror"], "there is no axis 'piror' to compare; did you mean 'prior'?"),
        (
            [str(folder.root), "method"],
            "where all else is equal, the finished trials have only one method (soft)",
        ),
        ([str(folder.root), str(other.root), "prior"], "the studies are of different models"),
        ([str(bare.root), "prior"], "no trial with a trained prompt has finished in"),
    ):
        assert command.main(arguments) == 2
        error = capsys.readouterr().err
        assert error.startswith("error: ")
        assert sentence in error
        assert len(error.strip().splitlines()) == 1


def test_holm_takes_rows_with_unlike_numbers_of_seeds_together() -> None:
    """By hand: `fitted` lies above in 9 seeds, p = 2 / 2^9, times 2; `zeros` in 5, p = 2 / 2^5, the last.

    With 6 seeds in place of 5, p would be 2 / 2^6 = 0.031, as nothing multiplies the last one.
    """
    study = simulated(Truth(rates=(0.01,), seeds=9, gap=0.5, spread=0.01))
    third = [
        replace(run, axes={**run.axes, "prior": "zeros"})
        for run in study.runs
        if run.axes["prior"] == "fitted" and run.seed < 5
    ]
    rows = compare(Study([*study.runs, *third], study.baselines), "prior")
    assert [(row.value, row.seeds, row.p) for row in rows] == [
        ("fitted", 9, 2 / 2**9),
        ("zeros", 5, 2 / 2**5),
    ]
    assert [row.adjusted for row in rows] == [2 * 2 / 2**9, 2 / 2**5]
    (line,) = [line for line in caption(rows) if "at best" in line]
    assert line == (
        "5 seeds give p = 0.062 at best, 0.062 after Holm over this table alone (findings are corrected "
        "over all tests of a study and may need more): "
        "at least 6 seeds are needed for 0.05"
    )


def test_seeds_that_are_not_enough_for_very_many_rows() -> None:
    row = Row(where="", value="b", reference="a", rates=None, budgets=(1, 1), seeds=5, least_p=2 / 2**5)
    (line,) = [line for line in caption([row] * 600) if "at best" in line]
    assert line.endswith(": more than 63 seeds are needed for 0.05")


def test_a_study_that_was_stopped_before_any_trial_ended_is_said_to_be_that(
    finished_study: Finished, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = finished_study.copy(tmp_path)
    for record in folder.records.glob("*.json"):
        record.unlink()
    write_table(folder, finished_study.plan.trials, finished_study.plan.components, {})
    for run, given in ((command.main, [str(folder.root), "prior"]), (report.main, [str(folder.root)])):
        assert run(given) == 2
        said = capsys.readouterr().err
        assert said.endswith("has ended yet; run the study again to continue it\n"), said


def test_a_study_of_which_only_the_table_is_left_is_said_to_be_that(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    published = Path(__file__).parents[2] / "docs" / "studies" / "tiny-priors"
    folder = Path(shutil.copytree(published, tmp_path / "tiny-priors"))
    before = (folder / "verdicts.md").read_text(encoding="utf-8")
    for run, given in ((command.main, [str(folder), "prior"]), (report.main, [str(folder)])):
        assert run(given) == 2
        said = capsys.readouterr().err
        assert "has a table of trials but no records, from which all else is computed" in said
        assert said.count("\n") == 1
    assert (folder / "verdicts.md").read_text(encoding="utf-8") == before
    assert not (folder / "report.html").exists()
