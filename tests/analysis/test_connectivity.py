"""Losses along the lines between posteriors, against prompts mixed by hand."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from mlflow import MlflowClient

from analysis.connecting import OTHERS, measure, pairs_of, require_sizes
from analysis.connectivity import Connectivity, load_connectivity, save_connectivity
from analysis.figures.connectivity import connected_of, draw_connected
from analysis.figures.settings import looks_of
from analysis.figures.single import of_each
from analysis.findings.reading import Reading, read
from analysis.findings.simulated import Truth, simulated
from analysis.findings.study import Cell, Run, Study
from jobs import connectivity
from softprior.errors import LeftOutWarning, UserError
from softprior.inputs.entries import Entry
from softprior.prompt import Place, collate
from softprior.results.digested import read_header, write_digested
from softprior.results.posteriors import Posterior, load_posterior
from softprior.tasks import TASKS
from softprior.tasks.prepare import prepare
from softprior.tracking.studies import add_numbers
from tests.analysis.figures.saved import caption_of
from tests.builders import SUMS, Finished, run, tiny
from tests.databases import empty_database

AT = Place(0)

FEW = 3
"""Test examples of the second task."""


@pytest.fixture(scope="module")
def reading(finished_study: Finished, tmp_path_factory: pytest.TempPathFactory) -> Reading:
    """The study with a second seed of its first prior, and both seeds on a second task."""
    folder = finished_study.copy(tmp_path_factory.mktemp("lines"))
    trained = (trial for trial in finished_study.plan.trials if trial.prior is not None)
    first = next(trial for trial in trained if trial.prior and trial.prior.name == "isotropic")
    task = TASKS["arithmetic"].model_validate(SUMS | {"test_examples": FEW})
    other = first.model_copy(update={"task": TASKS.entry(task), "data_fingerprint": task.fingerprint()})
    more = [first.model_copy(update={"seed": 1}), other, other.model_copy(update={"seed": 1})]
    header = read_header(folder.study)
    header["trials"] += [run(spec, folder.root).id for spec in more]
    folder.study.write_text(json.dumps(header), encoding="utf-8")
    return read(folder.root)


@pytest.fixture(scope="module")
def found(reading: Reading) -> Connectivity:
    return measure(reading, tiny(), lambda _: None, seeds=1, points=3)


def cells(reading: Reading) -> tuple[Cell, Cell]:
    one, other = reading.study.cells("prior")
    return one, other


def with_posterior(reading: Reading, trial: str, posterior: Posterior | None) -> Reading:
    """The same study with another posterior of a trial, or without."""
    known = {i: reading.study.posteriors[i] for i in reading.study.posteriors if i != trial}
    known |= {} if posterior is None else {trial: posterior}
    return replace(reading, study=replace(reading.study, posteriors=known))


def test_a_line_has_the_losses_of_mixed_prompts(reading: Reading, found: Connectivity) -> None:
    """Its ends are the trials' own test losses, as these examples are all of the test examples."""
    line, *_ = found.lines
    assert (line.name, line.seeds, line.at) == ("isotropic to fitted", ((0, 0),), (0.0, 0.5, 1.0))
    ((a, b),) = line.trials
    first, second = (reading.records[trial] for trial in (a, b))
    assert first.test is not None
    assert second.test is not None
    assert line.examples == first.test.examples == 10
    assert (line.losses[0][0], line.losses[0][2]) == pytest.approx(
        (first.test.loss, second.test.loss), rel=1e-5
    )
    cell, _ = cells(reading)
    assert cell.baseline is not None
    assert cell.baseline.test is not None
    assert line.nothing == pytest.approx(cell.baseline.test.loss, rel=1e-5)
    ends = [load_posterior(reading.folder.posterior(trial)).final[AT] for trial in (a, b)]
    loaded = tiny()
    test = prepare(TASKS.component(first.spec.task), loaded.tokenizer, loaded.fingerprint).test
    batch = collate([test.row(i) for i in range(10)])
    by_hand = loaded.host.loss({AT: (ends[0] + ends[1]) / 2}, batch)
    assert line.losses[0][1] == pytest.approx(float(by_hand.nll.sum() / by_hand.tokens.sum()), rel=1e-5)


def test_two_seeds_of_a_prior_and_every_task_have_lines_of_their_own(
    reading: Reading, found: Connectivity
) -> None:
    """Each has the examples of its own task, also in its figure."""
    _, alone, other = found.lines
    assert (alone.name, alone.seeds, alone.examples) == ("isotropic to another seed", ((0, 1),), 10)
    assert (other.name, other.seeds, other.examples) == ("isotropic to another seed", ((0, 1),), FEW)
    for line in (alone, other):
        tests = [reading.records[trial].test for trial in line.trials[0]]
        ends = [test.loss for test in tests if test is not None]
        assert (line.losses[0][0], line.losses[0][2]) == pytest.approx(ends, rel=1e-5)
    captions = []
    for cell in cells(reading):
        connected = connected_of(found, reading.study, cell)
        assert connected is not None
        captions.append(caption_of(draw_connected(connected)))
    for caption, count in zip(captions, (10, FEW), strict=True):
        assert f"The first {count} test examples; exploratory." in caption
        assert "one pair of posteriors, so no band" in caption
        assert "without a line" not in caption


def test_the_lines_of_a_study_are_kept(reading: Reading, found: Connectivity, tmp_path: Path) -> None:
    folder = replace(reading.folder, root=tmp_path)
    assert load_connectivity(folder) is None
    save_connectivity(folder, found)
    assert load_connectivity(folder) == found
    connected = connected_of(found, reading.study, cells(reading)[0])
    assert connected is not None
    path, _ = connected.paths
    assert path.prior == "fitted"
    assert path.losses.tolist() == [list(found.lines[0].losses[0])]
    folder.connectivity.write_text("{")
    with pytest.raises(UserError, match=r"of another version; run python -m jobs\.connectivity again"):
        load_connectivity(folder)


def test_lines_of_another_study_are_refused(reading: Reading, found: Connectivity, tmp_path: Path) -> None:
    folder = replace(reading.folder, root=tmp_path)
    save_connectivity(folder, found)
    header = read_header(reading.folder.study)
    write_digested(folder.study, header)
    assert load_connectivity(folder) == found
    write_digested(folder.study, header | {"trials": ["0" * 16]})
    with pytest.raises(UserError, match=r"has no line between trials of this study; run"):
        load_connectivity(folder)


def test_lines_between_other_posteriors_are_not_drawn(reading: Reading, found: Connectivity) -> None:
    """A trial that was trained again has its id still, so the vectors themselves are compared."""
    ((_, fitted),) = found.lines[0].trials
    old = reading.study.posteriors[fitted]
    again = replace(old, final={place: vectors + 1e-3 for place, vectors in old.final.items()})
    cell, other = cells(reading)
    for posterior in (again, None):
        study = with_posterior(reading, fitted, posterior).study
        connected = connected_of(found, study, cell)
        assert connected is not None
        assert ([path.name for path in connected.paths], connected.stale, connected.alone) == (
            ["isotropic to another seed"],
            1,
            1,
        )
        caption = caption_of(draw_connected(connected))
        assert caption.endswith("1 prior without a line. 1 outdated line not shown.")
    ((first, _),) = found.lines[2].trials
    with pytest.raises(
        UserError, match=r"posteriors are not those .* run python -m jobs\.connectivity again"
    ):
        connected_of(found, with_posterior(reading, first, None).study, other)
    elsewhere = found.model_copy(update={"lines": found.lines[:2]})
    assert connected_of(elsewhere, reading.study, other) is None


def test_the_report_says_which_lines_are_left_out(
    reading: Reading, found: Connectivity, monkeypatch: pytest.MonkeyPatch
) -> None:
    ((_, fitted),) = found.lines[0].trials
    some = found.model_copy(update={"left_out": ("of a cell, the reason",)})
    monkeypatch.setattr("analysis.figures.single.load_connectivity", lambda _: some)
    lost = with_posterior(reading, fitted, None)
    figures = of_each(lost, lost.study.cells("prior"), looks_of(lost))
    with pytest.warns(LeftOutWarning) as told:
        assert all(figures[f"connectivity-{i}"]() for i in (1, 2))
    first_said, then_said = (str(one.message) for one in told)
    assert first_said == "connectivity: of a cell, the reason"
    assert then_said.startswith("connectivity of arithmetic")
    assert " shows 1 line; other" in then_said


def test_what_cannot_be_measured_is_left_out_and_the_rest_is_measured(
    reading: Reading, found: Connectivity
) -> None:
    line, alone, other = found.lines
    ((first, fitted),) = line.trials
    measured = measure(with_posterior(reading, fitted, None), tiny(), lambda _: None, seeds=1, points=3)
    assert measured.lines == (alone, other)
    (reason,) = measured.left_out
    assert reason.endswith(
        f"isotropic to fitted: seed 0 is left out: the study has no posterior of trial {fitted}"
    )
    old = reading.study.posteriors[fitted]
    wild = replace(old, final={place: torch.full_like(v, float("nan")) for place, v in old.final.items()})
    measured = measure(with_posterior(reading, fitted, wild), tiny(), lambda _: None, seeds=1, points=3)
    assert measured.lines == (alone, other)
    assert measured.left_out[0].endswith(
        f"no line is measured: the loss between the posteriors of trials {first} and {fitted} is not finite"
    )


def test_losses_on_other_data_are_not_measured(reading: Reading, found: Connectivity) -> None:
    """The first task's data have changed since; the second task's lines are measured."""

    def changed(old: Run, **new: object) -> Run:
        return replace(
            old, record=old.record.model_copy(update={"spec": old.record.spec.model_copy(update=new)})
        )

    one, _ = cells(reading)
    ids = {trial.id for side in one.sides.values() for trial in side.runs.values()}
    for new, reason in (
        ({"data_fingerprint": "0" * 64}, "the task's data changed after the study was planned"),
        ({"code": ("theirs 1.0",)}, "the trial was planned with theirs 1.0"),
    ):
        runs = [changed(trial, **new) if trial.id in ids else trial for trial in reading.study.runs]
        known = {
            trial.id: reading.study.posteriors[old.id]
            for trial, old in zip(runs, reading.study.runs, strict=True)
        }
        study = replace(reading.study, runs=runs, posteriors=known)
        measured = measure(replace(reading, study=study), tiny(), lambda _: None, seeds=1, points=3)
        assert measured.lines == found.lines[2:]
        assert reason in measured.left_out[0]


def test_the_first_prior_is_connected_with_the_others_and_with_itself() -> None:
    (cell,) = simulated(Truth(rates=(0.01,), seeds=4)).cells()
    other, alone = pairs_of(cell, seeds=2)
    assert (other.name, [(a.seed, b.seed) for a, b in other.runs]) == (
        "isotropic to fitted",
        [(0, 0), (1, 1)],
    )
    assert [(a.axes["prior"], b.axes["prior"]) for a, b in other.runs] == [("isotropic", "fitted")] * 2
    assert (alone.name, [(a.seed, b.seed) for a, b in alone.runs]) == (
        "isotropic to another seed",
        [(0, 1), (1, 2)],
    )


def test_priors_without_a_line_are_said(reading: Reading) -> None:
    """Of more than five others the first five are connected."""
    priors = [Entry(name="isotropic", params={"scale": 0.01 * i}) for i in range(1, OTHERS + 4)]
    study: Study = simulated(Truth(rates=(0.01,), seeds=1, priors=priors))
    said: list[str] = []
    with pytest.raises(UserError, match="no line could be measured"):
        measure(replace(reading, study=study), tiny(), said.append)
    assert said[0].endswith(f": the first {OTHERS} of {OTHERS + 2} other priors have lines")


def test_the_command_says_what_it_cannot_do(
    reading: Reading, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """And it sends barriers to the study's run in MLflow."""
    with pytest.raises(UserError, match="would differ; run this where the study ran"):
        measure(reading, tiny()._replace(fingerprint="0"), lambda _: None)
    with pytest.raises(UserError, match="--points 2: a line needs both ends and a point between"):
        require_sizes(1, 2)
    assert connectivity.main([str(tmp_path)]) == 2
    assert capsys.readouterr().err.startswith("error: ")
    results = reading.folder.root.parent
    none = f"sqlite:///{results / 'none.db'}"
    assert f"there is no database {results / 'none.db'}" in str(add_numbers(none, "small", {}))
    assert not (results / "none.db").exists(), "MLflow would make one"
    client = MlflowClient(empty_database(results))
    experiment = client.create_experiment("softprior/small")
    own = client.create_run(experiment, tags={"softprior.study": "small"}).info.run_id
    assert connectivity.main([str(reading.folder.root), "--seeds", "1", "--points", "3"]) == 0
    said = capsys.readouterr().out
    assert "line 1 of 3: arithmetic" in said
    assert "note:" not in said
    assert reading.folder.connectivity.exists()
    sent = client.get_run(own).data.metrics
    assert sent.keys() == {
        "barrier/arithmetic_test_examples_20_/soft/isotropic to fitted",
        "barrier/arithmetic_test_examples_20_/soft/isotropic to another seed",
        f"barrier/arithmetic_test_examples_{FEW}_/soft/isotropic to another seed",
    }
    told = sorted(float(part.split()[0]) for part in said.split("barrier ")[1:])
    assert sorted(sent.values()) == pytest.approx(told, abs=5e-4)
